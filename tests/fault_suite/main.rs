//! The fault suite: whatever dies, a confirmed submission becomes exactly one counted result or one dead letter.
//!
//! ```text
//! fault_suite [--full|--quick] [--seed N] [--list] [ROW…]      make faults, make faults QUICK=1
//! fault_suite --soak MINUTES [--seed N]                make soak
//! ```
//!
//! Each row has a broker and daemons of its own, injects its faults at times that follow from the printed seed, and
//! is judged from four sides that do not trust each other: what the broker confirmed to this process, what the
//! aggregator stored, what the result stream holds, and what lies with the dead letters. Nothing may be lost, counted
//! twice or unexpected. `cargo test` runs the quick size, a hundredth of the full one, and rows with a node of their own
//! beside those that share one.

mod arguments;
mod children;
mod daemons;
mod evidence;
mod jobs;
mod limits;
mod load;
mod measurements;
mod progress;
mod report;
mod rig;
mod row;
mod rows;
mod samples;
mod soak;
mod verdict;
mod world;

use std::{
    collections::VecDeque,
    panic::resume_unwind,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Result, bail};

use arguments::Command;
use row::Node;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fault suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything asked for went well.
fn run() -> Result<bool> {
    match arguments::parse(std::env::args().skip(1))? {
        Command::Submit => children::submit().map(|()| true),
        Command::Hold { database } => children::hold(&database).map(|()| true),
        Command::List => {
            report::print_rows(rows::ALL);
            Ok(true)
        }
        Command::Soak { minutes, seed } => check_the_judges().and_then(|()| soak::run(minutes, seed)),
        Command::Rows { filters, is_full, seed, is_strict } => run_rows(&filters, is_full, seed, is_strict),
    }
}

fn run_rows(filters: &[String], is_full: bool, seed: u64, is_strict: bool) -> Result<bool> {
    let named = |filter: &String| rows::ALL.iter().any(|row| row.name.contains(filter));
    if let Some(unknown) = filters.iter().find(|filter| is_strict && !named(filter)) {
        let known = rows::ALL.iter().map(|row| row.name).collect::<Vec<_>>().join(" ");
        bail!("no row is called {unknown}; there are {known}");
    }
    let wanted = |row: &&row::Row| filters.is_empty() || filters.iter().any(|filter| row.name.contains(filter));
    let chosen: Vec<_> = rows::ALL.iter().filter(wanted).collect();
    if chosen.is_empty() {
        // `cargo test FILTER` runs every test binary, whatever it holds.
        return Ok(true);
    }
    check_the_judges()?;
    let size = if is_full { "full" } else { "quick" };
    println!("fault suite, {size} size, seed {seed}: {} of {} rows", chosen.len(), rows::ALL.len());
    // At quick size rows with a node of their own run beside those that share one, and at last beside each other.
    let (own, others): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|row| !is_full && row.node == Node::Own);
    let own = Mutex::new(VecDeque::from(own));
    let table = Mutex::new(report::Table::default());
    let run_row = |row: &'static row::Row| -> Result<()> {
        let finished = row::Trial::new(row, is_full, seed)?.run();
        lock(&table).add(finished);
        Ok(())
    };
    let run_own = |next: fn(&mut VecDeque<&'static row::Row>) -> Option<&'static row::Row>| -> Result<()> {
        while let Some(row) = { next(&mut lock(&own)) } {
            run_row(row)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let beside = scope.spawn(|| run_own(VecDeque::pop_front));
        let first = others.into_iter().try_for_each(run_row).and_then(|()| run_own(VecDeque::pop_back));
        first.and(beside.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    let table = table.into_inner().unwrap_or_else(PoisonError::into_inner);
    table.print();
    Ok(table.is_clean())
}

/// A judge that sees nothing would pass everything.
fn check_the_judges() -> Result<()> {
    verdict::check_the_judge()?;
    samples::check_the_judge_of_growth()
}

/// What is shared is valid after every statement, so that a panic of another thread spoils nothing.
pub(crate) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
