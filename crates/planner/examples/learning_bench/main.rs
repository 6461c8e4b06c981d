//! Replays a measurement table as if it were a device that one can measure, and asks how many rows each strategy needs.
//!
//! ```text
//! learning_bench DATA [--seeds N] [--seed-first N] [--threads N] [--json FILE] [--svg FILE] [--part cold|warm|update]
//! ```
//!
//! *Cold start*: nothing is known. Of one GPU per seed a quarter of the rows is kept for testing; the strategies choose
//! among the others, batch after batch, each with predictors trained on what it has chosen so far. *Warm start*: all rows
//! of the other devices are known, and 5, 10 and 20 rows of each GPU correct what they say of it. Half of its rows may be
//! chosen, the other half is for testing. There a recommendation depends on them: which GPU is the fastest for a model and
//! batch. *Update*: 100 rows are new to a release of all the others. Whatever is random comes from the seed, and all
//! strategies of a seed choose among the same rows and are tested on the same rows, so their errors are compared in pairs.
//! It ends with the bars of what it looked at, and exits with 1 if one was missed; those of a cold start are judged from
//! six seeds on.

mod bars;
mod chart;
mod cold;
mod replay;
mod report;
mod rivals;
mod update;
mod warm;

use std::{error::Error, path::PathBuf, process::ExitCode, sync::Mutex};

use planner::Strategy;

use crate::{bars::Bar, replay::Replay, report::Curves, update::Updated};

/// Seeds of the update, which trains four releases of the whole table for each.
const UPDATE_SEEDS_MAX: usize = 3;

/// What the command line says.
struct Arguments {
    data: PathBuf,
    seeds: u64,
    /// The least of them: what was chosen on some is judged on others.
    seed_first: u64,
    threads: usize,
    json: Option<PathBuf>,
    svg: Option<PathBuf>,
    part: Option<String>,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut words = std::env::args().skip(1);
        let data = words
            .next()
            .ok_or("usage: learning_bench DATA [--seeds N] [--seed-first N] [--threads N] [--json F] [--svg F]")?;
        let mut arguments =
            Self { data: data.into(), seeds: 6, seed_first: 0, threads: 2, json: None, svg: None, part: None };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--seeds" => arguments.seeds = value.parse()?,
                "--seed-first" => arguments.seed_first = value.parse()?,
                "--threads" => arguments.threads = value.parse()?,
                "--json" => arguments.json = Some(value.into()),
                "--svg" => arguments.svg = Some(value.into()),
                "--part" => arguments.part = Some(value),
                _ => return Err(format!("`{flag}` is not a flag").into()),
            }
        }
        Ok(arguments)
    }

    fn wants(&self, part: &str) -> bool {
        self.part.as_ref().is_none_or(|wanted| wanted == part)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("learning_bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether no bar was missed.
fn run() -> Result<bool, Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let replay = Replay::read(&arguments.data)?;
    let seeds: Vec<u64> = (0..arguments.seeds).map(|index| arguments.seed_first + index).collect();
    let mut all: Vec<Curves> = Vec::new();
    if arguments.wants("cold") {
        let of_seeds = in_parallel(&seeds, arguments.threads, |seed| cold::curves(&replay, *seed))?;
        all.push(Curves {
            title: "cold start",
            unit: "mean error in percent",
            steps: cold::STEPS.to_vec(),
            of_cases: of_seeds.concat(),
        });
    }
    if arguments.wants("warm") {
        let gpus = replay.gpus();
        let of_gpus = in_parallel(&gpus, arguments.threads, |gpu| warm::curves(&replay, gpu, &seeds))?;
        let (errors, losses): (Vec<_>, Vec<_>) = of_gpus.into_iter().flatten().unzip();
        let steps = || warm::STEPS.to_vec();
        all.push(Curves { title: "warm start", unit: "mean error in percent", steps: steps(), of_cases: errors });
        let unit = "mean percent slower than the fastest GPU";
        all.push(Curves { title: "recommendation", unit, steps: steps(), of_cases: losses });
    }
    // One after the other: they are timed.
    let updates: Vec<Updated> = if arguments.wants("update") {
        let seeds = seeds.iter().take(UPDATE_SEEDS_MAX);
        seeds
            .map(|seed| update::updates(&replay, *seed))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect()
    } else {
        Vec::new()
    };
    for curves in &all {
        println!("{}", curves.table());
    }
    if !updates.is_empty() {
        println!("{}", update::table(&updates));
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, report::json(&all, &update::json(&updates))?)?;
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, chart::svg(&all))?;
    }
    let bars: Vec<Bar> = all.iter().flat_map(bars::of_curves).chain(bars::of_updates(&updates)).collect();
    for bar in &bars {
        println!("{}", bar.line());
    }
    Ok(!bars.iter().any(Bar::is_missed))
}

/// The strategies that are compared. Without other hardware to recommend, `integrated` is `information-gain`, so the cold
/// start shows that one's errors for it.
const STRATEGIES: [Strategy; 7] = [
    Strategy::Random,
    Strategy::Uncertainty,
    Strategy::Diversity,
    Strategy::Representative,
    Strategy::InformationGain,
    Strategy::Hybrid,
    Strategy::Integrated,
];

/// Calls `work` for each item on so many threads; answers in the order of the items.
fn in_parallel<I: Sync, O: Send>(
    items: &[I],
    threads: usize,
    work: impl Fn(&I) -> Result<O, Box<dyn Error>> + Sync,
) -> Result<Vec<O>, Box<dyn Error>> {
    let next = Mutex::new(0);
    let answers: Mutex<Vec<Option<Result<O, String>>>> = Mutex::new(items.iter().map(|_| None).collect());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = {
                        let mut next = next.lock().expect("no thread panics with it");
                        *next += 1;
                        *next - 1
                    };
                    let Some(item) = items.get(index) else { return };
                    let answer = work(item).map_err(|error| error.to_string());
                    answers.lock().expect("no thread panics with it")[index] = Some(answer);
                }
            });
        }
    });
    let answers = answers.into_inner().expect("no thread panics with it");
    answers.into_iter().map(|answer| Ok(answer.expect("every item was worked on")?)).collect()
}
