//! What a machine was doing while it measured.

/// A machine at one moment; what it does not show is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MachineState {
    /// Clock of the fastest core, in MHz.
    pub clock_mhz: Option<f64>,
    /// The hottest sensor, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Processes that ran or wanted to, averaged over a minute by the kernel.
    pub load_average: Option<f64>,
}

/// What the machine was doing around and during the timed iterations; what it does not show is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conditions {
    /// After the untimed iterations, before the first timed one.
    pub before: MachineState,
    /// After the last timed one.
    pub after: MachineState,
    /// Logical processors that other processes, other machines of the same host included, kept busy meanwhile; a mean.
    pub busy_elsewhere_cpus: Option<f64>,
    /// Share of the time in which its threads could have run that they waited for a processor, in percent.
    pub waited_pct: Option<f64>,
    /// Share of the processors' busy time that the host gave to other machines, in percent.
    pub stolen_pct: Option<f64>,
    /// Arithmetic that as many threads as the benchmark has did in their processor time, before or after it, whichever is
    /// less, in percent of what they did when the device's peak was measured: less where others share the cores' units
    /// or the clock is lower.
    pub arithmetic_pct: Option<f64>,
    /// Time until the next of as many threads saw what one had written, before or after it, whichever is more, in ns: more
    /// where they share no cache.
    pub handoff_ns: Option<f64>,
    /// How often a core was slowed down because of heat meanwhile.
    pub throttle_events: Option<u64>,
    /// What makes the measurement unfit to learn from, if anything does.
    pub mark: Option<Mark>,
}

/// Why a measurement does not show what its device can do. Each holds the reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    /// The device slowed itself down.
    Throttled(String),
    /// Others used the device at the same time.
    Disturbed(String),
}

impl Mark {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Throttled(_) => "throttled",
            Self::Disturbed(_) => "disturbed",
        }
    }

    /// Why, for people.
    pub fn reason(&self) -> &str {
        match self {
            Self::Throttled(reason) | Self::Disturbed(reason) => reason,
        }
    }
}
