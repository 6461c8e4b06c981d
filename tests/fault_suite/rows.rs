//! The rows, in the order in which they run. The quick size is a hundredth, and never less than proves something.

mod ack_timeout;
pub(crate) mod alarms;
mod backlog;
mod brokers;
mod client_killed;
mod cluster;
mod database;
mod duplicates;
mod kill_aggregator;
mod poison;
mod proxy;
mod replay;
mod rolling;
mod unroutable;
mod workers;

use crate::row::{Amount, Node, Row};

const fn row(
    name: &'static str,
    fault: &'static str,
    full: Amount,
    quick: Amount,
    node: Node,
    run: fn(&crate::row::Trial) -> anyhow::Result<crate::row::Outcome>,
) -> Row {
    Row { name, fault, full, quick, node, run }
}

/// Closes every connection of a node from its side; one that goes by itself meanwhile is no error.
pub(crate) const CLOSE_ALL_CONNECTIONS: &str =
    "[catch rabbit_networking:close_connection(C, \"fault suite\") || C <- rabbit_networking:local_connections()], ok.";

/// All rows.
pub(crate) const ALL: &[Row] = &[
    row(
        "kill-worker",
        "`kill -9` a worker at random",
        Amount::new(100_000, 500),
        Amount::new(1_000, 5),
        Node::Shared,
        workers::killed_at_random,
    ),
    row(
        "kill-worker-between-confirm-and-ack",
        "a worker dies between result confirm and ack (fail point)",
        Amount::new(10_000, 1_000),
        Amount::new(100, 10),
        Node::Shared,
        workers::killed_between_confirm_and_ack,
    ),
    row(
        "kill-aggregator",
        "the aggregator dies at random, before a commit, and between commit and ack (fail points), the updater with it; four \
         jobs are real benchmarks, whose measurements must reach both",
        Amount::new(100_000, 200),
        Amount::new(1_000, 3),
        Node::Shared,
        kill_aggregator::run,
    ),
    row(
        "restart-broker",
        "the broker is stopped and started under load",
        Amount::new(100_000, 20),
        Amount::new(1_000, 1),
        Node::Own,
        brokers::restarted,
    ),
    row(
        "kill-broker",
        "`kill -9` the broker",
        Amount::new(50_000, 20),
        Amount::new(500, 1),
        Node::Own,
        brokers::killed,
    ),
    row(
        "tcp-faults",
        "a TCP proxy before the broker resets, falls silent or delays by 200 ms",
        Amount::new(50_000, 60),
        Amount::new(500, 3),
        Node::Own,
        proxy::run,
    ),
    row(
        "client-killed",
        "a client dies before its confirms and submits the same ids again",
        Amount::new(20_000, 500),
        Amount::new(200, 5),
        Node::Shared,
        client_killed::run,
    ),
    row(
        "alarms",
        "the broker raises a memory or disk alarm",
        Amount::new(20_000, 10),
        Amount::new(200, 2),
        Node::Own,
        alarms::run,
    ),
    row(
        "backlog",
        "all jobs are queued before the worker may run one (SIGSTOP), then the aggregator stands still; no daemon may grow",
        Amount::new(1_000_000, 5),
        Amount::new(10_000, 2),
        Node::Own,
        backlog::run,
    ),
    row(
        "duckdb",
        "the aggregator's disk is full, or its file held by another process",
        Amount::new(20_000, 5),
        Amount::new(200, 2),
        Node::Shared,
        database::run,
    ),
    row(
        "longer-than-ack-timeout",
        "jobs outlast the broker's acknowledgement timeout",
        Amount::new(50, 50),
        Amount::new(2, 2),
        Node::Own,
        ack_timeout::run,
    ),
    row(
        "poison",
        "jobs kill their worker, crash, hang, need too much memory, are too large, or are no jobs at all",
        Amount::new(50_000, 1_000),
        Amount::new(500, 10),
        Node::Shared,
        poison::run,
    ),
    row(
        "duplicates",
        "every job is published three times, every dead letter replayed twice",
        Amount::new(20_000, 20_000),
        Amount::new(200, 200),
        Node::Shared,
        duplicates::run,
    ),
    row(
        "rolling-restart",
        "workers are told to drain and replaced",
        Amount::new(50_000, 100),
        Amount::new(500, 4),
        Node::Shared,
        rolling::run,
    ),
    row(
        "replay-digests",
        "connections are closed while the stream is replayed from first, offset and time",
        Amount::new(20_000, 10),
        Amount::new(200, 3),
        Node::Shared,
        replay::run,
    ),
    row(
        "unroutable",
        "no such lane, a missing queue, a policy that silently drops jobs, a drifted topology",
        Amount::new(400, 4),
        Amount::new(40, 4),
        Node::Own,
        unroutable::run,
    ),
    row(
        "cluster-node-killed",
        "one node of three is killed",
        Amount::new(50_000, 10),
        Amount::new(500, 1),
        Node::Own,
        cluster::run,
    ),
];
