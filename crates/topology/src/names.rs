//! The names in `queues.yaml` that code refers to; a topology without them is refused.

use messages::{Platform, Priority};

/// Jobs are published here, mandatory, under `<platform>.<priority>`.
pub const JOBS: &str = "jobs";
/// Delay lanes send jobs back through here, and workers those that they hand back.
pub const JOBS_DUE: &str = "jobs.due";
/// Exchange and queue of what could not be done.
pub const DEAD_LETTERS: &str = "dead-letters";
/// Queue, beside that of the dead letters, by which the aggregator hears of each.
pub const DEAD_LETTER_NEWS: &str = "dead-letters.news";
/// Exchange of what came back from a delay or a worker and found no lane; it feeds the queues of the dead letters.
pub const UNROUTABLE: &str = "unroutable";
/// Exchange and stream of results.
pub const RESULTS: &str = "results";
/// Exchange and stream of accepted measurements.
pub const MEASUREMENTS: &str = "measurements";
/// Exchange and stream of releases.
pub const RELEASES: &str = "releases";
/// Exchange and stream of cancel orders.
pub const CONTROL: &str = "control";
/// Exchange and queue of signs of life.
pub const HEARTBEATS: &str = "heartbeats";

/// The queue whose single active consumer is the active aggregator.
pub const AGGREGATOR_LEADER: &str = "aggregator.leader";
/// The queue whose single active consumer is the active updater.
pub const UPDATER_LEADER: &str = "updater.leader";

/// The ladder of delays, shortest first: the step's name, as [`retries`] takes it, and its time in milliseconds.
pub const DELAYS: &[(&str, u64)] =
    &[("1s", 1_000), ("5s", 5_000), ("30s", 30_000), ("2m", 2 * 60_000), ("10m", 10 * 60_000), ("1h", 60 * 60_000)];

/// Exchanges that must be declared.
pub const EXCHANGES: &[&str] =
    &[JOBS, JOBS_DUE, DEAD_LETTERS, UNROUTABLE, RESULTS, MEASUREMENTS, RELEASES, CONTROL, HEARTBEATS];
/// Queues that must be declared, beside the lanes, each with the exchanges that it must be bound to.
pub const QUEUES: &[(&str, &[&str])] = &[
    (DEAD_LETTERS, &[DEAD_LETTERS, UNROUTABLE]),
    (DEAD_LETTER_NEWS, &[DEAD_LETTERS, UNROUTABLE]),
    (RESULTS, &[RESULTS]),
    (MEASUREMENTS, &[MEASUREMENTS]),
    (RELEASES, &[RELEASES]),
    (CONTROL, &[CONTROL]),
    (HEARTBEATS, &[HEARTBEATS]),
];

/// Queues that must be declared, with a single active consumer and without a binding.
pub const LEADERS: &[&str] = &[AGGREGATOR_LEADER, UPDATER_LEADER];

/// Exchange and queue of one step of [`DELAYS`]; jobs go there under their lane's routing key.
pub fn retries(step: &str) -> String {
    format!("retries.{step}")
}

/// The routing key of a lane on [`JOBS`] and [`JOBS_DUE`].
pub fn lane_routing_key(platform: Platform, priority: Priority) -> String {
    format!("{platform}.{priority}")
}

/// The queue of a lane.
pub fn lane(platform: Platform, priority: Priority) -> String {
    format!("jobs.{platform}.{priority}")
}
