//! How long anything here may take, and how much it may hold. Reached only where something is wrong.

use std::time::Duration;

/// A daemon from its start to its `ready` line; a worker waits for a broker that is just being restarted.
pub(crate) const READY_MAX: Duration = Duration::from_secs(90);
/// A daemon from SIGTERM to its end: its grace period, and a broker that is slow.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(90);
/// A command of the program.
pub(crate) const COMMAND_MAX: Duration = Duration::from_secs(150);
/// A publisher from a message to its confirm, through every outage of a row.
pub(crate) const CONFIRM_MAX: Duration = Duration::from_mins(5);
/// Time without a single newly counted job after which a row gives up waiting for the rest.
pub(crate) const STALL_MAX: Duration = Duration::from_mins(2);
/// One question to the aggregator's HTTP API beyond the time for which it is asked to wait.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long the aggregator may hold a question back until there is news.
pub(crate) const LONG_POLL_MAX: Duration = Duration::from_secs(10);
/// Between two questions to an aggregator that is not there.
pub(crate) const ASK_AGAIN: Duration = Duration::from_millis(20);
/// A stream's return after its broker's.
pub(crate) const STREAM_UP_MAX: Duration = Duration::from_mins(1);
/// Silence of a queue or a stream, once it has delivered, after which it is at its end.
pub(crate) const SILENCE_MAX: Duration = Duration::from_millis(1_500);
/// The first delivery of a queue or a stream.
pub(crate) const FIRST_DELIVERY_MAX: Duration = Duration::from_secs(5);
/// How long an aggregator goes on counting what it had read before the broker or the network went.
pub(crate) const UNDER_WAY_MAX: Duration = Duration::from_millis(500);
/// Between two looks at something that does not announce itself.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Messages read ahead when evidence is gathered.
pub(crate) const EVIDENCE_PREFETCH: u16 = 4_000;
/// Jobs named in the report of one row and gate.
pub(crate) const NAMED_MAX: usize = 10;
