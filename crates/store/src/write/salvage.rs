//! What can be stored of a batch that is refused as a whole, and what cannot.

use messages::RunId;

use super::{CommitSummary, OutboxMode};
use crate::{Record, Store, StoreError};

/// What became of a batch that was stored part by part.
#[derive(Debug, Default)]
pub struct Salvaged {
    /// What the stored records changed.
    pub summary: CommitSummary,
    /// The records that cannot be stored, in order.
    pub refused: Vec<Refused>,
}

/// A record that cannot be stored.
#[derive(Debug)]
pub struct Refused {
    /// Its index in the batch.
    pub index: usize,
    /// Why.
    pub error: StoreError,
}

impl Store {
    /// Stores what can be stored of records that [`Store::commit`] refused together, in parts, and gives the others.
    ///
    /// The stream position is to be stored afterwards, once what was refused is kept elsewhere. Until then the batch
    /// may come again.
    ///
    /// # Errors
    ///
    /// What is no record's fault ([`StoreError::is_of_records`]); parts may be stored by then.
    pub fn salvage(&self, records: &[Record], outbox: OutboxMode) -> Result<Salvaged, StoreError> {
        let mut salvaged = Salvaged::default();
        let mut parts = vec![(0, records.len())];
        while let Some((from, to)) = parts.pop() {
            match self.commit(&records[from..to], None, outbox) {
                Ok(summary) => salvaged.summary.add(summary),
                Err(error) if from == to || !error.is_of_records() => return Err(error),
                Err(error) if from + 1 == to => salvaged.refused.push(Refused { index: from, error }),
                Err(_) => {
                    let middle = usize::midpoint(from, to);
                    parts.extend([(middle, to), (from, middle)]);
                }
            }
        }
        Ok(salvaged)
    }
}

impl CommitSummary {
    /// Adds what a later batch changed.
    fn add(&mut self, later: Self) {
        let Self { results_new, results_duplicate, runs_new, measurements_accepted, runs_touched } = later;
        self.results_new += results_new;
        self.results_duplicate += results_duplicate;
        self.runs_new += runs_new;
        self.measurements_accepted += measurements_accepted;
        let mut all: Vec<RunId> = self.runs_touched.drain(..).chain(runs_touched).collect();
        all.sort_unstable();
        all.dedup();
        self.runs_touched = all;
    }
}
