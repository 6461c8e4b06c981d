//! The names in `queues.yaml` that code refers to; a topology without them is refused.

use messages::{Platform, Priority};

/// Jobs are published here, mandatory, under `<platform>.<priority>`.
pub const JOBS: &str = "jobs";
/// Delay lanes send jobs back through here.
pub const JOBS_DUE: &str = "jobs.due";
/// Exchange and queue of what could not be done.
pub const DEAD_LETTERS: &str = "dead-letters";
/// Exchange and queue of what came back from a delay and found no lane.
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

/// Exchanges that must be declared.
pub const EXCHANGES: &[&str] =
    &[JOBS, JOBS_DUE, DEAD_LETTERS, UNROUTABLE, RESULTS, MEASUREMENTS, RELEASES, CONTROL, HEARTBEATS];
/// Queues that must be declared, beside the lanes.
pub const QUEUES: &[&str] = &[DEAD_LETTERS, UNROUTABLE, RESULTS, MEASUREMENTS, RELEASES, CONTROL, HEARTBEATS];

/// The routing key of a lane on [`JOBS`].
pub fn lane_routing_key(platform: Platform, priority: Priority) -> String {
    format!("{platform}.{priority}")
}

/// The queue of a lane.
pub fn lane(platform: Platform, priority: Priority) -> String {
    format!("jobs.{platform}.{priority}")
}
