//! The steps that bring a server to a topology.

use std::{collections::BTreeMap, fmt};

use crate::{
    ArgumentProblem, Binding, Exchange, PlanError, Queue, ServerVersion, Topology,
    arguments::{self, QUEUE_TYPE},
};

/// What a server has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedState {
    /// Nothing.
    Absent,
    /// What the topology declares.
    Same,
    /// Something else.
    Differs {
        /// What the server says of the difference.
        detail: String,
    },
}

/// What was found on a server, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    exchanges: BTreeMap<String, ObservedState>,
    queues: BTreeMap<String, ObservedState>,
}

impl Observed {
    /// Nothing looked up yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A server that has none of the topology's objects, such as a new virtual host.
    pub fn absent(topology: &Topology) -> Self {
        let mut observed = Self::new();
        for exchange in &topology.exchanges {
            observed.set_exchange(&exchange.name, ObservedState::Absent);
        }
        for queue in &topology.queues {
            observed.set_queue(&queue.name, ObservedState::Absent);
        }
        observed
    }

    /// Notes what was found under an exchange's name.
    pub fn set_exchange(&mut self, name: &str, state: ObservedState) {
        self.exchanges.insert(name.to_owned(), state);
    }

    /// Notes what was found under a queue's name.
    pub fn set_queue(&mut self, name: &str, state: ObservedState) {
        self.queues.insert(name.to_owned(), state);
    }
}

/// What to do, in the order to do it: exchanges, queues, bindings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub steps: Vec<Step>,
}

/// One object and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// With what.
    pub object: StepObject,
}

/// What to do about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Declare it: it is not there.
    Create,
    /// Nothing: it is as declared.
    Keep,
    /// Nothing that could be done without losing messages: it is there and differs.
    Drift {
        /// The difference.
        detail: String,
    },
    /// Bind: AMQP cannot list bindings, and binding twice changes nothing.
    Ensure,
}

/// What a step is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepObject {
    /// An exchange.
    Exchange(Exchange),
    /// A queue.
    Queue(Queue),
    /// A binding.
    Binding(Binding),
}

/// Plans what to declare on a server of this version where `observed` was found.
///
/// # Errors
///
/// [`PlanError::TooOld`] for servers before 3.10, [`PlanError::Arguments`] with all arguments that this server would
/// ignore or reject, [`PlanError::NotObserved`] if an object is missing in `observed`.
pub fn plan(topology: &Topology, version: &ServerVersion, observed: &Observed) -> Result<Plan, PlanError> {
    if version < &ServerVersion::OLDEST {
        return Err(PlanError::TooOld { version: version.clone(), oldest: ServerVersion::OLDEST });
    }
    let problems = grouped(topology.queues.iter().flat_map(|queue| arguments::unknown_to(version, queue)));
    if !problems.is_empty() {
        return Err(PlanError::Arguments { version: version.clone(), problems });
    }
    let mut steps = Vec::new();
    for exchange in &topology.exchanges {
        let action = Action::after(&observed.exchanges, &exchange.name)?;
        steps.push(Step { action, object: StepObject::Exchange(exchange.clone()) });
    }
    for queue in &topology.queues {
        let action = Action::after(&observed.queues, &queue.name)?;
        steps.push(Step { action, object: StepObject::Queue(queue.clone()) });
    }
    let bindings = topology.bindings.iter().cloned();
    steps.extend(bindings.map(|binding| Step { action: Action::Ensure, object: StepObject::Binding(binding) }));
    Ok(Plan { steps })
}

/// One entry for all queues with the same problem.
fn grouped(problems: impl Iterator<Item = ArgumentProblem>) -> Vec<ArgumentProblem> {
    let mut groups: Vec<ArgumentProblem> = Vec::new();
    for problem in problems {
        let same = |group: &&mut ArgumentProblem| {
            (group.kind, &group.argument, &group.reason) == (problem.kind, &problem.argument, &problem.reason)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.more += 1,
            None => groups.push(problem),
        }
    }
    groups
}

impl Action {
    fn after(observed: &BTreeMap<String, ObservedState>, name: &str) -> Result<Self, PlanError> {
        match observed.get(name) {
            Some(ObservedState::Absent) => Ok(Self::Create),
            Some(ObservedState::Same) => Ok(Self::Keep),
            Some(ObservedState::Differs { detail }) => Ok(Self::Drift { detail: detail.clone() }),
            None => Err(PlanError::NotObserved { name: name.to_owned() }),
        }
    }

    /// `+`, `=`, `!` or `~`.
    pub const fn mark(&self) -> char {
        match self {
            Self::Create => '+',
            Self::Keep => '=',
            Self::Drift { .. } => '!',
            Self::Ensure => '~',
        }
    }
}

impl StepObject {
    /// `exchange`, `queue`, `stream` or `binding`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Exchange(_) => "exchange",
            Self::Queue(Queue { kind: crate::QueueKind::Stream, .. }) => "stream",
            Self::Queue(_) => "queue",
            Self::Binding(_) => "binding",
        }
    }

    /// Its name; a binding's is `exchange -> queue`.
    pub fn name(&self) -> String {
        match self {
            Self::Exchange(exchange) => exchange.name.clone(),
            Self::Queue(queue) => queue.name.clone(),
            Self::Binding(binding) => format!("{} -> {}", binding.exchange, binding.queue),
        }
    }

    fn properties(&self) -> String {
        match self {
            Self::Exchange(Exchange { kind, alternate_exchange: None, .. }) => kind.as_str().to_owned(),
            Self::Exchange(Exchange { kind, alternate_exchange: Some(alternate), .. }) => {
                format!("{}, alternate exchange {alternate}", kind.as_str())
            }
            Self::Queue(queue) => {
                let arguments = queue.arguments.iter().filter(|(name, _)| name.as_str() != QUEUE_TYPE);
                let arguments = arguments.map(|(name, value)| format!(", {}={value}", name.trim_start_matches("x-")));
                format!("{}{}", queue.kind.as_str(), arguments.collect::<String>())
            }
            Self::Binding(binding) if binding.routing_key.is_empty() => String::new(),
            Self::Binding(binding) => format!("by {}", binding.routing_key),
        }
    }
}

impl Plan {
    /// Whether the server has every exchange and queue as declared.
    pub fn is_clean(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.action, Action::Keep | Action::Ensure))
    }

    /// Whether something on the server differs from its declaration.
    pub fn has_drift(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Drift { .. }))
    }

    /// How many steps have this mark.
    pub fn count(&self, mark: char) -> usize {
        self.steps.iter().filter(|step| step.action.mark() == mark).count()
    }
}

impl fmt::Display for Plan {
    /// One line a step and a summary: `+` is created, `=` kept, `!` differs, `~` bound (again).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.steps.iter().map(|step| step.object.name().len()).max().unwrap_or(0);
        for step in &self.steps {
            let about = match &step.action {
                Action::Drift { detail } => detail.clone(),
                _ => step.object.properties(),
            };
            let line =
                format!("{} {:8}  {:width$}  {about}", step.action.mark(), step.object.kind(), step.object.name());
            writeln!(f, "{}", line.trim_end())?;
        }
        let [create, keep, drift, ensure] = ['+', '=', '!', '~'].map(|mark| self.count(mark));
        write!(f, "plan: {create} to create, {keep} as declared, {drift} different, {ensure} bindings to ensure")
    }
}
