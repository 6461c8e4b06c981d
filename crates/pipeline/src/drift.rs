//! Whether predictions get worse over time: their errors against measurements made later, by group.
//!
//! The trend is Sen's slope, the median of the slopes between all pairs (1968,
//! <https://doi.org/10.1080/01621459.1968.10480934>), its significance the Mann-Kendall test: neither asks how errors are
//! distributed, and one wild measurement moves neither. Mann 1945, <https://doi.org/10.2307/1907187>.

use std::collections::BTreeMap;

use planner::normal_distribution;

/// Errors of a group that are looked at, the latest: every pair is compared.
const ERRORS_MAX: usize = 1_000;
/// Errors without which a group has no trend: the normal approximation of the test needs them.
const TREND_ERRORS_MIN: usize = 10;
/// Seconds of the unit that slopes are given in.
const DAY_S: f64 = 86_400.0;

/// One prediction, held against what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct DatedError {
    /// When it was measured, in seconds since 1970.
    pub at_s: f64,
    /// 100 (predicted − measured) / measured.
    pub error_pct: f64,
    /// Whether the interval held the truth.
    pub inside: bool,
    /// What it is counted under, e.g. `platform` and `cpu`.
    pub groups: Vec<(&'static str, String)>,
}

/// How errors of a group changed with time.
#[derive(Debug, Clone, PartialEq)]
pub struct Drift {
    /// What it is grouped by.
    pub by: &'static str,
    /// Which group.
    pub group: String,
    /// Predictions in it.
    pub count: usize,
    /// Mean absolute error, in percent.
    pub mean_error_pct: f64,
    /// Mean absolute error of the earlier and of the later half.
    pub halves_pct: Option<[f64; 2]>,
    /// Share of truths inside their interval, in percent.
    pub inside_pct: f64,
    /// Change of the absolute error, in percentage points per day.
    pub slope_pct_per_day: Option<f64>,
    /// Probability of a trend at least as strong by chance, both directions.
    pub p: Option<f64>,
    /// The same, corrected for the number of groups (Holm).
    pub p_corrected: Option<f64>,
}

impl Drift {
    /// Whether errors grow and not by chance.
    pub fn is_worse(&self, false_alarms: f64) -> bool {
        self.p_corrected.is_some_and(|p| p <= false_alarms) && self.slope_pct_per_day.is_some_and(|slope| slope > 0.0)
    }
}

/// The drift of every group, in the order of their names.
pub fn drift(errors: &[DatedError]) -> Vec<Drift> {
    let mut groups: BTreeMap<(&'static str, &str), Vec<&DatedError>> = BTreeMap::new();
    for error in errors {
        for (by, group) in &error.groups {
            groups.entry((by, group)).or_default().push(error);
        }
    }
    let mut drifts: Vec<Drift> = groups.into_iter().map(|((by, group), errors)| of_group(by, group, errors)).collect();
    correct(&mut drifts);
    drifts
}

fn of_group(by: &'static str, group: &str, mut errors: Vec<&DatedError>) -> Drift {
    errors.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    let count = errors.len();
    let latest = &errors[count.saturating_sub(ERRORS_MAX)..];
    let mean = |errors: &[&DatedError]| {
        errors.iter().map(|error| error.error_pct.abs()).sum::<f64>() / errors.len().max(1) as f64
    };
    let inside = errors.iter().filter(|error| error.inside).count();
    let trend = (latest.len() >= TREND_ERRORS_MIN).then(|| trend(latest));
    let (earlier, later) = errors.split_at(count / 2);
    Drift {
        by,
        group: group.to_owned(),
        count,
        mean_error_pct: mean(&errors),
        halves_pct: (count >= 2).then(|| [mean(earlier), mean(later)]),
        inside_pct: 100.0 * inside as f64 / count as f64,
        slope_pct_per_day: trend.map(|(slope, _)| slope),
        p: trend.map(|(_, p)| p),
        p_corrected: None,
    }
}

/// Sen's slope per day and the probability of the Mann-Kendall test; `errors` are in the order of time.
fn trend(errors: &[&DatedError]) -> (f64, f64) {
    let mut slopes = Vec::new();
    let mut score = 0.0;
    for (index, later) in errors.iter().enumerate() {
        for earlier in &errors[..index] {
            let grown = later.error_pct.abs() - earlier.error_pct.abs();
            let days = (later.at_s - earlier.at_s) / DAY_S;
            if days > 0.0 {
                slopes.push(grown / days);
                score += if grown == 0.0 { 0.0 } else { grown.signum() };
            }
        }
    }
    if slopes.is_empty() {
        return (0.0, 1.0);
    }
    slopes.sort_by(f64::total_cmp);
    let count = errors.len() as f64;
    let deviation = (count * (count - 1.0) * (2.0 * count + 5.0) / 18.0).sqrt();
    // One less for continuity: the score moves in steps of two.
    let p = 2.0 * normal_distribution(-((score.abs() - 1.0).max(0.0) / deviation));
    (slopes[slopes.len() / 2], p.min(1.0))
}

/// Holm's correction over all groups that have a trend.
fn correct(drifts: &mut [Drift]) {
    let mut order: Vec<(usize, f64)> =
        drifts.iter().enumerate().filter_map(|(index, drift)| Some((index, drift.p?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let tests = order.len();
    let mut largest: f64 = 0.0;
    for (place, (index, p)) in order.into_iter().enumerate() {
        largest = largest.max((p * (tests - place) as f64).min(1.0));
        drifts[index].p_corrected = Some(largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Errors of one group, an hour apart, of 5 % times this factor each.
    fn errors(group: &str, factor: impl Fn(usize) -> f64) -> Vec<DatedError> {
        let mut random = fastrand::Rng::with_seed(3);
        (0..60)
            .map(|index| DatedError {
                at_s: 3_600.0 * index as f64,
                error_pct: 5.0 * factor(index) * (0.5 + random.f64()) * if random.bool() { 1.0 } else { -1.0 },
                inside: index % 10 != 0,
                groups: vec![("platform", group.to_owned())],
            })
            .collect()
    }

    #[test]
    fn growing_errors_are_told_from_steady_ones() {
        let mut all = errors("steady", |_| 1.0);
        all.extend(errors("worse", |index| 1.0 + index as f64 / 30.0));
        let drifts = drift(&all);
        let [steady, worse] = &drifts[..] else { panic!("two groups: {drifts:?}") };
        assert!(!steady.is_worse(0.05) && worse.is_worse(0.05), "{drifts:?}");
        assert!(worse.slope_pct_per_day.is_some_and(|slope| (2.0..6.0).contains(&slope)), "4 points a day: {worse:?}");
        let [earlier, later] = worse.halves_pct.expect("two halves");
        assert!(later > 1.2 * earlier && (worse.inside_pct - 90.0).abs() < 1e-9, "{worse:?}");
    }

    #[test]
    fn steady_errors_are_seldom_called_growing() {
        let alarmed = (0..200_u64).filter(|seed| {
            let mut random = fastrand::Rng::with_seed(*seed);
            let of_group = |group: usize, random: &mut fastrand::Rng| -> Vec<DatedError> {
                let error = |index: usize| DatedError {
                    at_s: index as f64,
                    error_pct: random.f64(),
                    inside: true,
                    groups: vec![("release", group.to_string())],
                };
                (0..20).map(error).collect()
            };
            let all: Vec<DatedError> = (0..5).flat_map(|group| of_group(group, &mut random)).collect();
            drift(&all).iter().any(|drift| drift.p_corrected.is_some_and(|p| p <= 0.05))
        });
        assert!(alarmed.count() <= 18, "5 % are promised: 10 of 200, and by chance up to 18");
    }

    #[test]
    fn few_errors_have_no_trend() {
        let few: Vec<DatedError> = errors("few", |_| 1.0).into_iter().take(5).collect();
        let drifts = drift(&few);
        assert_eq!((drifts[0].count, drifts[0].p, drifts[0].p_corrected), (5, None, None));
        assert!(drift(&[]).is_empty());
    }
}
