//! The training table as a release sees it: what it learned from, what is new to it, and what of that judges the next.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use messages::{AcceptedMeasurement, Configuration, JobId, Platform};
use predictors::{KnownJobs, PredictorError, Predictors};

use super::{
    evidence::{Evidence, ROWS_MIN},
    making::tables,
};

/// One of so many new rows of a platform is held back to judge the release on.
const ROWS_PER_JUDGE: usize = 5;
/// Fewest and about the most rows of a platform held back; below [`ROWS_MIN`] new rows none is.
const JUDGES: (usize, usize) = (5, 50);

/// The table's rows as a release sees them; those that were dropped are in neither part.
pub(super) struct Split<'a> {
    /// Those that it learned from.
    pub(super) seen: Vec<&'a AcceptedMeasurement>,
    /// Those that it did not.
    pub(super) unseen: Vec<&'a AcceptedMeasurement>,
}

impl<'a> Split<'a> {
    pub(super) fn of(rows: &'a [AcceptedMeasurement], jobs: &KnownJobs) -> Self {
        let counting = rows.iter().filter(|row| !jobs.dropped.contains(&row.job_id));
        let (seen, unseen) = counting.partition(|row| jobs.learned.contains(&row.job_id));
        Self { seen, unseen }
    }

    /// The same, but that only the rows from `first` on are unseen: those before were made a release of already.
    pub(super) fn since(rows: &'a [AcceptedMeasurement], jobs: &KnownJobs, first: usize) -> Self {
        let recent: HashSet<&JobId> = rows.iter().skip(first).map(|row| &row.job_id).collect();
        let mut split = Self::of(rows, jobs);
        split.unseen.retain(|row| recent.contains(&row.job_id));
        split
    }

    /// Takes rows for seen that were there before and count no more: they are neither learned from nor judges.
    pub(super) fn age(
        &mut self,
        before: impl Iterator<Item = &'a AcceptedMeasurement>,
        counts_no_more: impl Fn(&AcceptedMeasurement) -> bool,
    ) {
        let before: HashSet<&JobId> = before.map(|row| &row.job_id).collect();
        let is_old = |row: &&AcceptedMeasurement| before.contains(&row.job_id) && counts_no_more(row);
        self.seen.extend(self.unseen.extract_if(.., |row| is_old(&&**row)));
    }

    /// What the unseen rows say of a release.
    pub(super) fn evidence(&self, predictors: &Predictors) -> Result<Evidence, PredictorError> {
        Evidence::of(predictors, &self.seen, &self.unseen, &tables(&self.unseen))
    }

    /// Holds unseen rows back: of each platform that has enough, whole configurations chosen at random, so that no
    /// release learns from the repeats of its judges; at most half of the platform's rows.
    pub(super) fn hold_back(&self, seed: u64) -> BTreeSet<JobId> {
        let mut platforms: BTreeMap<Platform, BTreeMap<(&str, &Configuration), Vec<JobId>>> = BTreeMap::new();
        for row in &self.unseen {
            let configurations = platforms.entry(row.configuration.platform).or_default();
            configurations.entry((&row.device.name, &row.configuration)).or_default().push(row.job_id);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut held_out = BTreeSet::new();
        for configurations in platforms.into_values() {
            let rows: usize = configurations.values().map(Vec::len).sum();
            if rows < ROWS_MIN {
                continue;
            }
            let wanted = (rows / ROWS_PER_JUDGE).clamp(JUDGES.0, JUDGES.1);
            let mut repeats: Vec<Vec<JobId>> = configurations.into_values().collect();
            random.shuffle(&mut repeats);
            let mut held = 0;
            for jobs in repeats {
                if held < wanted && held + jobs.len() <= rows / 2 {
                    held += jobs.len();
                    held_out.extend(jobs);
                }
            }
        }
        held_out
    }
}

#[cfg(test)]
mod tests {
    use testkit::builders;

    use super::*;

    fn row(platform: Platform, batch_size: u32) -> AcceptedMeasurement {
        let mut row = builders::accepted_measurement();
        row.job_id = JobId::new();
        row.configuration.platform = platform;
        row.configuration.batch_size = batch_size;
        row
    }

    fn ids<'a>(rows: impl IntoIterator<Item = &'a AcceptedMeasurement>) -> BTreeSet<JobId> {
        rows.into_iter().map(|row| row.job_id).collect()
    }

    /// The order of a database is another than that of the table: what a release has seen is no beginning of it.
    #[test]
    fn what_a_release_has_seen_is_known_by_its_jobs_and_what_was_dropped_is_neither() {
        let rows: Vec<_> = (0..100).map(|size| row(Platform::Cpu, size)).collect();
        let jobs = KnownJobs { learned: ids(&rows[40..]), dropped: ids(&rows[..10]) };
        let split = Split::of(&rows, &jobs);
        assert_eq!(ids(split.seen), ids(&rows[40..]));
        assert_eq!(ids(split.unseen), ids(&rows[10..40]));
        let split = Split::since(&rows, &jobs, 35);
        assert_eq!((split.seen.len(), ids(split.unseen)), (60, ids(&rows[35..40])));
    }

    #[test]
    fn each_platform_has_judges_of_its_own_and_no_release_learns_from_their_repeats() {
        let native = (0..100).map(|index| row(Platform::Cpu, index / 4));
        let few = (0..9).map(|index| row(Platform::Webgpu, index));
        let web = (0..10).map(|index| row(Platform::Wasm, index));
        let rows: Vec<_> = native.chain(few).chain(web).collect();
        let split = Split::of(&rows, &KnownJobs::default());
        let held_out = split.hold_back(1);
        let judges = |platform| {
            let of_platform = rows.iter().filter(move |row| row.configuration.platform == platform);
            of_platform.filter(|row| held_out.contains(&row.job_id))
        };
        let count = |platform| judges(platform).count();
        assert_eq!([Platform::Cpu, Platform::Webgpu, Platform::Wasm].map(count), [20, 0, 5]);
        let sizes: BTreeSet<u32> = judges(Platform::Cpu).map(|row| row.configuration.batch_size).collect();
        assert_eq!(sizes.len(), 5, "of each of these all four repeats");
    }

    #[test]
    fn at_most_half_of_a_platforms_rows_are_held_back() {
        let repeats: Vec<_> = (0..12).map(|index| row(Platform::Cpu, u32::from(index == 0))).collect();
        let held_out = Split::of(&repeats, &KnownJobs::default()).hold_back(1);
        assert_eq!(held_out, ids(&repeats[..1]), "the other configuration is most of what there is");
    }
}
