//! Heartbeats and releases: news that are no results.

use duckdb::{Connection, OptionalExt, params};
use messages::{Heartbeat, ReleasePublished};

use super::moment;
use crate::{Store, StoreError, error::failed, json};

impl Store {
    /// Stores a worker's latest sign of life; an older one than is known changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the write fails.
    pub fn upsert_worker(&self, heartbeat: &Heartbeat) -> Result<(), StoreError> {
        upsert_worker(self.writer().connection(), heartbeat).map_err(failed("store a heartbeat"))
    }

    /// Stores a release; one that is known changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the write fails.
    pub fn insert_release(&self, release: &ReleasePublished) -> Result<(), StoreError> {
        self.writer()
            .connection()
            .execute(
                "INSERT INTO releases (release_id, parent, created_at, training_rows, evaluation) \
                 SELECT v.* FROM (VALUES (?, ?, ?, ?, ?)) v (release_id, parent, created_at, training_rows, evaluation) \
                 WHERE NOT EXISTS (SELECT 1 FROM releases r WHERE r.release_id = v.release_id)",
                params![
                    release.release_id.as_str(),
                    release.parent.as_ref().map(messages::ReleaseId::as_str),
                    moment(release.created_at),
                    release.training_rows,
                    json::evaluation(&release.evaluation),
                ],
            )
            .map(|_| ())
            .map_err(failed("store a release"))
    }
}

fn upsert_worker(connection: &Connection, heartbeat: &Heartbeat) -> duckdb::Result<()> {
    let worker_id = heartbeat.worker_id.as_str();
    let known: Option<i64> = connection
        .query_row("SELECT epoch_us(last_seen_at) FROM workers WHERE worker_id = ?", [worker_id], |row| row.get(0))
        .optional()?;
    if known.is_some_and(|last_seen_at| last_seen_at > heartbeat.sent_at.as_micros()) {
        return Ok(());
    }
    let sql = if known.is_some() {
        "UPDATE workers SET host = ?, pid = ?, version = ?, started_at = ?, last_seen_at = ?, platforms = ?, \
         offer = ?, concurrency = ?, draining = ?, running = ?, jobs_done = ? WHERE worker_id = ?"
    } else {
        "INSERT INTO workers (host, pid, version, started_at, last_seen_at, platforms, offer, concurrency, draining, \
         running, jobs_done, worker_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
    connection.execute(
        sql,
        params![
            heartbeat.host,
            heartbeat.pid,
            heartbeat.version,
            moment(heartbeat.started_at),
            moment(heartbeat.sent_at),
            json::platforms(&heartbeat.platforms),
            json::offer(&heartbeat.offer),
            heartbeat.concurrency,
            heartbeat.draining,
            json::running(&heartbeat.running),
            heartbeat.jobs_done,
            worker_id,
        ],
    )?;
    Ok(())
}
