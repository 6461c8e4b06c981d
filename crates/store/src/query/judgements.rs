//! Runs to hold against what was measured before them, and what came of it.

use duckdb::params;
use messages::{RunId, Timestamp};

use super::{Columns, select};
use crate::{
    ComparableRow, JudgementRow, RegressionRow, Store, StoreError,
    error::failed,
    write::{moment, uuid},
};

/// Complete runs with a benchmark at least that nobody compared yet, or that had fewer results then.
const UNJUDGED: &str = "
SELECT r.run_uuid::VARCHAR, r.done
FROM runs r LEFT JOIN run_judgements g ON g.run_uuid = r.run_uuid
WHERE r.completed_at IS NOT NULL AND r.done > r.tests AND (g.run_uuid IS NULL OR g.done <> r.done)
ORDER BY r.completed_at, r.run_uuid LIMIT ?";

/// Configurations are the same if everything is that a job may choose, and the device's name and platform.
const COMPARABLE: &str = "
WITH measured AS (
    SELECT j.run_uuid, j.job_id, j.finished_at, m.latency_p50_ms AS ms, j.model_name, j.model_sha256, j.platform,
           j.backend, j.\"precision\", j.batch_size, coalesce(j.sequence_length, 0) AS sequence_length,
           coalesce(j.image_size, 0) AS image_size, j.threads, coalesce(j.browser, '') AS browser, h.device_name
    FROM measurements m
    JOIN jobs j ON j.job_id = m.job_id
    JOIN hardware_platforms h ON h.hardware_id = j.hardware_id
    WHERE m.accepted AND m.latency_p50_ms > 0
), mine AS (
    SELECT model_name, model_sha256, platform, backend, \"precision\", batch_size, sequence_length, image_size, threads,
           browser, device_name, list(ms ORDER BY finished_at, job_id) AS run_ms
    FROM measured WHERE run_uuid = $1::UUID GROUP BY ALL
), earlier AS (
    SELECT e.model_name, e.model_sha256, e.platform, e.backend, e.\"precision\", e.batch_size, e.sequence_length,
           e.image_size, e.threads, e.browser, e.device_name,
           list_slice(list(e.ms ORDER BY e.finished_at DESC, e.job_id), 1, $2) AS earlier_ms
    FROM measured e
    SEMI JOIN mine USING (model_sha256, platform, backend, \"precision\", batch_size, sequence_length, image_size,
                          threads, browser, device_name)
    WHERE e.run_uuid <> $1::UUID AND e.finished_at < (SELECT submitted_at FROM runs WHERE run_uuid = $1::UUID)
    GROUP BY ALL
)
SELECT concat_ws(' ', model_name, platform, nullif(browser, ''), \"precision\", 'batch ' || batch_size,
                 'sequence ' || nullif(sequence_length, 0), 'image ' || nullif(image_size, 0), 'threads ' || threads,
                 'on ' || device_name),
       platform || ' on ' || device_name,
       array_to_string(run_ms, ','), array_to_string(earlier_ms, ',')
FROM mine JOIN earlier USING (model_name, model_sha256, platform, backend, \"precision\", batch_size, sequence_length,
                              image_size, threads, browser, device_name)
ORDER BY ALL";

impl Store {
    /// Complete runs that are to be compared with what was measured before them, each with its number of results, the
    /// oldest first, at most so many.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn unjudged_runs(&self, limit: usize) -> Result<Vec<(RunId, u32)>, StoreError> {
        select(&self.reader()?, "read the runs to compare", UNJUDGED, [limit], |columns| {
            Ok((uuid(&columns.get::<String>()?), columns.get()?))
        })
    }

    /// The configurations of a run that were measured before it was submitted, with at most so many of these earlier
    /// measurements, the latest ones. Only what is learned from is compared.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn comparable(&self, run: RunId, earlier_max: u32) -> Result<Vec<ComparableRow>, StoreError> {
        let params = params![run.to_string(), earlier_max];
        select(&self.reader()?, "read what was measured before a run", COMPARABLE, params, |columns| {
            Ok(ComparableRow {
                configuration: columns.get()?,
                place: columns.get()?,
                run_ms: numbers(columns)?,
                earlier_ms: numbers(columns)?,
            })
        })
    }

    /// Stores what came of comparing runs, in place of what was said of them before.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the write fails; then nothing is stored.
    pub fn judge(&self, judgements: &[JudgementRow], judged_at: Timestamp) -> Result<(), StoreError> {
        let writer = self.writer();
        let write = || {
            let transaction = writer.connection().unchecked_transaction()?;
            for of in judgements {
                for table in ["run_judgements", "regressions"] {
                    transaction.execute(&format!("DELETE FROM {table} WHERE run_uuid = ?::UUID"), [&of.run_id])?;
                }
                transaction.execute(
                    "INSERT INTO run_judgements VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    params![
                        of.run_id,
                        moment(judged_at),
                        of.done,
                        of.compared,
                        of.undecided,
                        of.improvements,
                        of.threshold_pct,
                        of.false_alarms
                    ],
                )?;
                for row in &of.regressions {
                    transaction.execute(
                        "INSERT INTO regressions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        params![
                            of.run_id,
                            row.configuration,
                            row.run_repeats,
                            row.baseline_repeats,
                            row.run_ms,
                            row.baseline_ms,
                            row.difference_pct,
                            row.lower_pct,
                            row.upper_pct,
                            row.p,
                            row.p_corrected
                        ],
                    )?;
                }
            }
            transaction.commit()
        };
        write().map_err(failed("store what came of comparing runs"))
    }

    /// What came of comparing a run with what was measured before; `None` if nobody did (yet).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the read fails.
    pub fn judgement(&self, run: RunId) -> Result<Option<JudgementRow>, StoreError> {
        let connection = self.reader()?;
        let of_run = run.to_string();
        let sql = "SELECT run_uuid::VARCHAR, epoch_us(judged_at), done, compared, undecided, improvements, \
                   threshold_pct, false_alarms FROM run_judgements WHERE run_uuid = ?::UUID";
        let judgement = select(&connection, "read what came of comparing a run", sql, [&of_run], judgement)?.pop();
        let sql = "SELECT * EXCLUDE (run_uuid) FROM regressions WHERE run_uuid = ?::UUID ORDER BY difference_pct DESC";
        let regressions = select(&connection, "read the regressions of a run", sql, [&of_run], regression)?;
        Ok(judgement.map(|judgement| JudgementRow { regressions, ..judgement }))
    }
}

fn numbers(columns: &mut Columns<'_, '_>) -> duckdb::Result<Vec<f64>> {
    let text: String = columns.get()?;
    Ok(text.split(',').filter_map(|number| number.parse().ok()).collect())
}

fn judgement(columns: &mut Columns<'_, '_>) -> duckdb::Result<JudgementRow> {
    Ok(JudgementRow {
        run_id: columns.get()?,
        judged_at: columns.moment()?,
        done: columns.get()?,
        compared: columns.get()?,
        undecided: columns.get()?,
        improvements: columns.get()?,
        threshold_pct: columns.get()?,
        false_alarms: columns.get()?,
        regressions: Vec::new(),
    })
}

fn regression(columns: &mut Columns<'_, '_>) -> duckdb::Result<RegressionRow> {
    Ok(RegressionRow {
        configuration: columns.get()?,
        run_repeats: columns.get()?,
        baseline_repeats: columns.get()?,
        run_ms: columns.get()?,
        baseline_ms: columns.get()?,
        difference_pct: columns.get()?,
        lower_pct: columns.number()?,
        upper_pct: columns.number()?,
        p: columns.get()?,
        p_corrected: columns.get()?,
    })
}
