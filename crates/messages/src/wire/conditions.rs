//! What a machine was doing while it measured, on the wire.

use serde::{Deserialize, Serialize};

use super::{Invalid, measured_option};
use crate::{Conditions, MachineState, Mark};

#[derive(Serialize, Deserialize)]
pub(super) struct ConditionsV1 {
    before: MachineStateV1,
    after: MachineStateV1,
    busy_elsewhere_cpus: Option<f64>,
    waited_pct: Option<f64>,
    stolen_pct: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arithmetic_pct: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handoff_ns: Option<f64>,
    throttle_events: Option<u64>,
    mark: Option<MarkV1>,
}

#[derive(Serialize, Deserialize)]
struct MachineStateV1 {
    clock_mhz: Option<f64>,
    temperature_c: Option<f64>,
    load_average: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct MarkV1 {
    kind: String,
    reason: String,
}

impl From<&Conditions> for ConditionsV1 {
    fn from(conditions: &Conditions) -> Self {
        let mark = |mark: &Mark| MarkV1 { kind: mark.as_str().to_owned(), reason: mark.reason().to_owned() };
        Self {
            before: conditions.before.into(),
            after: conditions.after.into(),
            busy_elsewhere_cpus: conditions.busy_elsewhere_cpus,
            waited_pct: conditions.waited_pct,
            stolen_pct: conditions.stolen_pct,
            arithmetic_pct: conditions.arithmetic_pct,
            handoff_ns: conditions.handoff_ns,
            throttle_events: conditions.throttle_events,
            mark: conditions.mark.as_ref().map(mark),
        }
    }
}

impl From<MachineState> for MachineStateV1 {
    fn from(MachineState { clock_mhz, temperature_c, load_average }: MachineState) -> Self {
        Self { clock_mhz, temperature_c, load_average }
    }
}

impl TryFrom<ConditionsV1> for Conditions {
    type Error = Invalid;

    fn try_from(on_wire: ConditionsV1) -> Result<Self, Invalid> {
        Ok(Self {
            before: on_wire.before.try_into()?,
            after: on_wire.after.try_into()?,
            busy_elsewhere_cpus: measured_option("conditions.busy_elsewhere_cpus", on_wire.busy_elsewhere_cpus)?,
            waited_pct: measured_option("conditions.waited_pct", on_wire.waited_pct)?,
            stolen_pct: measured_option("conditions.stolen_pct", on_wire.stolen_pct)?,
            arithmetic_pct: measured_option("conditions.arithmetic_pct", on_wire.arithmetic_pct)?,
            handoff_ns: measured_option("conditions.handoff_ns", on_wire.handoff_ns)?,
            throttle_events: on_wire.throttle_events,
            mark: on_wire.mark.map(TryInto::try_into).transpose()?,
        })
    }
}

impl TryFrom<MachineStateV1> for MachineState {
    type Error = Invalid;

    fn try_from(on_wire: MachineStateV1) -> Result<Self, Invalid> {
        if let Some(temperature_c) = on_wire.temperature_c
            && !temperature_c.is_finite()
        {
            return Err(Invalid::new("conditions.temperature_c", format!("{temperature_c} is no measurement")));
        }
        Ok(Self {
            clock_mhz: measured_option("conditions.clock_mhz", on_wire.clock_mhz)?,
            // Below zero outdoors.
            temperature_c: on_wire.temperature_c,
            load_average: measured_option("conditions.load_average", on_wire.load_average)?,
        })
    }
}

impl TryFrom<MarkV1> for Mark {
    type Error = Invalid;

    fn try_from(MarkV1 { kind, reason }: MarkV1) -> Result<Self, Invalid> {
        match kind.as_str() {
            "throttled" => Ok(Self::Throttled(reason)),
            "disturbed" => Ok(Self::Disturbed(reason)),
            _ => Err(Invalid::new("conditions.mark", format!("`{kind}` is no mark"))),
        }
    }
}
