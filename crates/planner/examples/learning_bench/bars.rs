//! What active learning has to reach, and whether it did.

use planner::Strategy;

use crate::{report::Curves, update::Updated};

/// Largest mean error after [`WARM_ROWS`] representative rows of a new device, in percent.
const WARM_ERROR_PCT_MAX: f64 = 8.5;
/// See [`WARM_ERROR_PCT_MAX`].
const WARM_ROWS: usize = 10;
/// Seeds of a cold start, each one GPU, that it takes to tell a strategy from luck.
const COLD_SEEDS_MIN: usize = 6;
/// Most rows that `hybrid` may need to err as chance does at the end of a cold start.
const COLD_ROWS_MAX: f64 = 120.0;
/// Largest share of the time of training again that learning more may take.
const UPDATE_TIME_MAX: f64 = 0.1;
/// How many times as large its error may be.
const UPDATE_ERROR_MAX: f64 = 1.05;

/// One demand.
pub(crate) struct Bar {
    what: String,
    verdict: Verdict,
}

/// Whether a demand was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Met,
    Missed,
    /// So many seeds are too few to say.
    NotJudged(usize),
}

impl Bar {
    fn new(what: String, is_met: bool) -> Self {
        Self { what, verdict: if is_met { Verdict::Met } else { Verdict::Missed } }
    }

    pub(crate) fn is_missed(&self) -> bool {
        self.verdict == Verdict::Missed
    }

    pub(crate) fn line(&self) -> String {
        let what = &self.what;
        match self.verdict {
            Verdict::Met => format!("met: {what}"),
            Verdict::Missed => format!("MISSED: {what}"),
            Verdict::NotJudged(seeds) => format!("not judged: {seeds} seeds, {COLD_SEEDS_MIN} are needed: {what}"),
        }
    }
}

/// The bars of one kind of start.
pub(crate) fn of_curves(curves: &Curves) -> Vec<Bar> {
    let title = curves.title;
    let steady = || {
        let worse: Vec<String> = curves.worse_at(Strategy::Hybrid).map(|(step, _)| step.to_string()).collect();
        let what = format!(
            "{title}: hybrid is worse than random beyond noise at rows [{}], allowed nowhere",
            worse.join(", ")
        );
        Bar::new(what, worse.is_empty())
    };
    match title {
        "cold start" => {
            let rows = curves.rows_needed(Strategy::Hybrid);
            let needed = rows.map_or_else(|| "more".to_owned(), |rows| format!("{rows:.0}"));
            let what =
                format!("{title}: hybrid needs {needed} rows to err as random at the end, at most {COLD_ROWS_MAX}");
            let mut bars = vec![steady(), Bar::new(what, rows.is_some_and(|rows| rows <= COLD_ROWS_MAX))];
            let seeds = curves.cases();
            if seeds < COLD_SEEDS_MIN {
                for bar in &mut bars {
                    bar.verdict = Verdict::NotJudged(seeds);
                }
            }
            bars
        }
        "warm start" => {
            let step = curves.steps.iter().position(|rows| *rows == WARM_ROWS);
            let pct = step.map(|step| curves.means(Strategy::Representative)[step].value);
            let found = pct.map_or_else(|| "unknown".to_owned(), |pct| format!("{pct:.2} %"));
            let what =
                format!("{title}: {found} after {WARM_ROWS} representative rows, at most {WARM_ERROR_PCT_MAX} %");
            vec![steady(), Bar::new(what, pct.is_some_and(|pct| pct <= WARM_ERROR_PCT_MAX))]
        }
        _ => Vec::new(),
    }
}

/// The bars of updates by rows like the old ones, as means over the seeds.
pub(crate) fn of_updates(updates: &[Updated]) -> Vec<Bar> {
    let Some((time, error)) = crate::update::shares(updates) else { return Vec::new() };
    let share = format!("update: it takes {time:.3} of the time of training again, at most {UPDATE_TIME_MAX}");
    let errs = format!("update: it errs {error:.3} times as much, at most {UPDATE_ERROR_MAX}");
    vec![Bar::new(share, time <= UPDATE_TIME_MAX), Bar::new(errs, error <= UPDATE_ERROR_MAX)]
}
