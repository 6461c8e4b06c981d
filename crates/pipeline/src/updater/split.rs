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
/// Fewest and about the most rows of a platform held back where [`ROWS_MIN`] or more are new.
const JUDGES: (usize, usize) = (5, 50);
/// Configurations of a platform from which on it can spare a few rows for later.
const SPARING_MIN: usize = 50;

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

    /// Takes those that judged before for seen where they count no more: they are neither learned from nor judges.
    pub(super) fn age(&mut self, judges: &BTreeSet<JobId>, counts_no_more: impl Fn(&AcceptedMeasurement) -> bool) {
        let is_old = |row: &AcceptedMeasurement| judges.contains(&row.job_id) && counts_no_more(row);
        self.seen.extend(self.unseen.extract_if(.., |row| is_old(row)));
    }

    /// Whether there are so few configurations that none can be spared; what learns from them takes a moment.
    pub(super) fn is_small(&self) -> bool {
        let all = [&self.seen[..], &self.unseen].concat();
        by_platform(&all).values().map(Vec::len).sum::<usize>() < SPARING_MIN
    }

    /// What the unseen rows say of a release.
    pub(super) fn evidence(&self, predictors: &Predictors) -> Result<Evidence, PredictorError> {
        Evidence::of(predictors, &self.seen, &self.unseen, &tables(&self.unseen))
    }

    /// Holds unseen rows back: of each platform whole configurations chosen at random, so that no release learns from the
    /// repeats of its judges; at most half of the platform's rows. Where few are new, those that judged before do so again
    /// and one in five of the new ones joins them, until there are enough.
    pub(super) fn hold_back(&self, judges: &BTreeSet<JobId>, seed: u64) -> BTreeSet<JobId> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut held_out = BTreeSet::new();
        for mut repeats in by_platform(&self.unseen).into_values() {
            let rows: usize = repeats.iter().map(Vec::len).sum();
            random.shuffle(&mut repeats);
            let mut wanted = (rows / ROWS_PER_JUDGE).clamp(JUDGES.0, JUDGES.1);
            let mut held = 0;
            if rows < ROWS_MIN {
                let standing = repeats.extract_if(.., |jobs| jobs.iter().any(|job_id| judges.contains(job_id)));
                let standing: Vec<JobId> = standing.flatten().collect();
                held = standing.len();
                wanted = (held + (rows - held) / ROWS_PER_JUDGE).min(JUDGES.0);
                held_out.extend(standing);
            }
            held_out.extend(some(repeats, wanted, held, rows / 2));
        }
        held_out
    }
}

/// Two halves of rows by whole configurations, chosen at random.
pub(super) fn halves<'a>(rows: &[&'a AcceptedMeasurement], seed: u64) -> [Vec<&'a AcceptedMeasurement>; 2] {
    let mut repeats: Vec<Vec<JobId>> = by_platform(rows).into_values().flatten().collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut repeats);
    let first: BTreeSet<JobId> = repeats[..repeats.len() / 2].iter().flatten().copied().collect();
    let (first, second) = rows.iter().partition(|row| first.contains(&row.job_id));
    [first, second]
}

/// Rows for the next release to be judged on, though this one cannot be: of each platform that has fewer than five
/// judges and many configurations, as many as are missing, chosen as those are. A release that learns all that there is of a
/// platform leaves nothing that tells whether the next one is worse there.
pub(super) fn spared(rows: &[&AcceptedMeasurement], judges: &BTreeMap<Platform, usize>, seed: u64) -> BTreeSet<JobId> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut spared = BTreeSet::new();
    for (platform, mut repeats) in by_platform(rows) {
        random.shuffle(&mut repeats);
        if repeats.len() >= SPARING_MIN {
            let held = judges.get(&platform).copied().unwrap_or_default();
            spared.extend(some(repeats, JUDGES.0, held, 2 * JUDGES.0));
        }
    }
    spared
}

/// Takes whole configurations until `wanted` rows are held, and never more than `most`.
fn some(repeats: Vec<Vec<JobId>>, wanted: usize, mut held: usize, most: usize) -> impl Iterator<Item = JobId> {
    let is_taken = move |jobs: &Vec<JobId>| {
        let is_taken = held < wanted && held + jobs.len() <= most;
        held += if is_taken { jobs.len() } else { 0 };
        is_taken
    };
    repeats.into_iter().filter(is_taken).flatten()
}

/// The jobs of rows, by platform and within it by what was measured on which device.
fn by_platform(rows: &[&AcceptedMeasurement]) -> BTreeMap<Platform, Vec<Vec<JobId>>> {
    let mut platforms: BTreeMap<Platform, BTreeMap<(&str, &Configuration), Vec<JobId>>> = BTreeMap::new();
    for row in rows {
        let configurations = platforms.entry(row.configuration.platform).or_default();
        configurations.entry((&row.device.name, &row.configuration)).or_default().push(row.job_id);
    }
    platforms.into_iter().map(|(platform, repeats)| (platform, repeats.into_values().collect())).collect()
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
        let held_out = split.hold_back(&BTreeSet::new(), 1);
        let judges = |platform| {
            let of_platform = rows.iter().filter(move |row| row.configuration.platform == platform);
            of_platform.filter(|row| held_out.contains(&row.job_id))
        };
        let count = |platform| judges(platform).count();
        assert_eq!([Platform::Cpu, Platform::Webgpu, Platform::Wasm].map(count), [20, 1, 5]);
        let sizes: BTreeSet<u32> = judges(Platform::Cpu).map(|row| row.configuration.batch_size).collect();
        assert_eq!(sizes.len(), 5, "of each of these all four repeats");
    }

    #[test]
    fn at_most_half_of_a_platforms_rows_are_held_back() {
        let repeats: Vec<_> = (0..12).map(|index| row(Platform::Cpu, u32::from(index == 0))).collect();
        let held_out = Split::of(&repeats, &KnownJobs::default()).hold_back(&BTreeSet::new(), 1);
        assert_eq!(held_out, ids(&repeats[..1]), "the other configuration is most of what there is");
    }

    #[test]
    fn halves_keep_repeats_together_and_lose_nothing() {
        let rows: Vec<_> = (0..40).map(|index| row(Platform::Cpu, index / 4)).collect();
        let [first, second] = halves(&rows.iter().collect::<Vec<_>>(), 1);
        let sizes = |rows: &[&AcceptedMeasurement]| {
            rows.iter().map(|row| row.configuration.batch_size).collect::<BTreeSet<u32>>()
        };
        assert_eq!((first.len(), second.len()), (20, 20));
        assert!(sizes(&first).is_disjoint(&sizes(&second)));
    }

    #[test]
    fn where_little_is_new_those_judge_that_did_before() {
        let rows: Vec<_> = (0..9).map(|size| row(Platform::Wasm, size)).collect();
        let held_back = |judges: usize| Split::of(&rows, &KnownJobs::default()).hold_back(&ids(&rows[..judges]), 1);
        assert_eq!((held_back(6), held_back(5)), (ids(&rows[..6]), ids(&rows[..5])));
        let (two, three) = (ids(&rows[..2]), held_back(2));
        assert!(two.is_subset(&three) && three.len() == 3, "one of seven joins them");
    }

    #[test]
    fn of_many_rows_that_are_learned_a_few_are_spared_where_nobody_judges() {
        let native = (0..SPARING_MIN).map(|size| row(Platform::Cpu, u32::try_from(size).expect("few")));
        let web = (1..SPARING_MIN).map(|size| row(Platform::Wasm, u32::try_from(size).expect("few")));
        let rows: Vec<_> = native.chain(web).collect();
        let spared = |judges: usize| {
            let spared = spared(&rows.iter().collect::<Vec<_>>(), &BTreeMap::from([(Platform::Cpu, judges)]), 1);
            assert!(spared.is_subset(&ids(&rows[..SPARING_MIN])), "the other platform has one too few");
            spared.len()
        };
        assert_eq!([0, 2, 5, 20].map(spared), [5, 3, 0, 0]);
    }
}
