//! What a release came of, and which of our own jobs it knows: a later one sees by that what is new to it, in whatever
//! order they are listed.

use std::collections::BTreeSet;

use messages::JobId;

use super::{Contents, damaged};
use crate::{Manifest, PredictorError, Source, Update};

/// Ids of [`KnownJobs::learned`], 16 bytes each, in their order.
const LEARNED_FILE: &str = "jobs-learned.bin";
/// The same of [`KnownJobs::dropped`].
const DROPPED_FILE: &str = "jobs-dropped.bin";

/// What a release came of.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// Whose measurements it learned from.
    pub source: Source,
    /// Those of our own jobs.
    pub jobs: KnownJobs,
    /// How it came of the current release; `None` if somebody trained it by hand.
    pub update: Option<Update>,
}

/// Our own jobs as a release sees them; all others are new to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownJobs {
    /// Whose measurements it learned from, and its ancestors where it only learned more.
    pub learned: BTreeSet<JobId>,
    /// Whose measurements do not count any more: nothing that comes of it learns from them.
    pub dropped: BTreeSet<JobId>,
}

pub(super) fn save(jobs: &KnownJobs) -> Contents {
    let bytes = |ids: &BTreeSet<JobId>| ids.iter().flat_map(|id| *id.as_bytes()).collect();
    vec![(LEARNED_FILE.to_owned(), bytes(&jobs.learned)), (DROPPED_FILE.to_owned(), bytes(&jobs.dropped))]
}

/// What [`save`] saved; `read` gives a file's checked contents.
pub(super) fn load(
    manifest: &Manifest,
    read: impl Fn(&str) -> Result<Vec<u8>, PredictorError>,
) -> Result<KnownJobs, PredictorError> {
    let ids = |name: &str| {
        let bytes = read(name)?;
        let (ids, []) = bytes.as_chunks() else {
            return Err(damaged(&manifest.release_id, name, "ends within an id".to_owned()));
        };
        Ok(ids.iter().copied().map(JobId::from_bytes).collect())
    };
    Ok(KnownJobs { learned: ids(LEARNED_FILE)?, dropped: ids(DROPPED_FILE)? })
}
