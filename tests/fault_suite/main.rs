//! The fault suite: whatever dies, a confirmed submission becomes exactly one counted result or one dead letter.
//!
//! ```text
//! fault_suite [--full] [--seed N] [--list] [ROW…]      make faults, make faults QUICK=1
//! fault_suite --soak MINUTES [--seed N]                make soak
//! ```
//!
//! Each row has a broker and daemons of its own, injects its faults at times that follow from the printed seed, and
//! is judged from four sides that do not trust each other: what the broker confirmed to this process, what the
//! aggregator stored, what the result stream holds, and what lies with the dead letters. Nothing may be lost, counted
//! twice or unexpected. `cargo test` runs the quick size, a hundredth of the full one.

mod arguments;
mod children;
mod daemons;
mod evidence;
mod jobs;
mod limits;
mod load;
mod progress;
mod report;
mod rig;
mod row;
mod rows;
mod samples;
mod soak;
mod verdict;
mod world;

use std::process::ExitCode;

use anyhow::Result;

use arguments::Command;

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
        Command::Soak { minutes, seed } => soak::run(minutes, seed),
        Command::Rows { filters, is_full, seed } => run_rows(&filters, is_full, seed),
    }
}

fn run_rows(filters: &[String], is_full: bool, seed: u64) -> Result<bool> {
    let wanted = |row: &&row::Row| filters.is_empty() || filters.iter().any(|filter| row.name.contains(filter));
    let chosen: Vec<_> = rows::ALL.iter().filter(wanted).collect();
    if chosen.is_empty() {
        // `cargo test FILTER` runs every test binary, whatever it holds.
        return Ok(true);
    }
    // A judge that sees nothing would pass everything.
    verdict::check_the_judge()?;
    let size = if is_full { "full" } else { "quick" };
    println!("fault suite, {size} size, seed {seed}: {} of {} rows", chosen.len(), rows::ALL.len());
    let mut table = report::Table::default();
    for row in chosen {
        table.add(row::Trial::new(row, is_full, seed)?.run());
    }
    table.print();
    Ok(table.is_clean())
}
