//! Breaks real processes for a while and holds what is left against an undisturbed run; started by
//! `cargo xtask chaos`.
//!
//! `chaos SEED MINUTES [trained | calls]`: prints what it does on standard error and a line of JSON for each round. A round
//! breaks things for half a minute, under a seed of its own; every second one single calls too, or single calls alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what is wrong here is to be seen at once")]

use e2e::calls::{Met, table};
use e2e::chaos::{Chaos, Report, What, run};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let usage = "chaos SEED MINUTES [trained | calls]";
    let seed: u64 = arguments.get(1).and_then(|seed| seed.parse().ok()).unwrap_or_else(|| panic!("{usage}"));
    let minutes: f64 = arguments.get(2).and_then(|minutes| minutes.parse().ok()).unwrap_or_else(|| panic!("{usage}"));
    let alone = match arguments.get(3).map(String::as_str) {
        None => None,
        Some("trained") => Some(What::Trained),
        Some("calls") => Some(What::Calls),
        Some(_) => panic!("{usage}"),
    };
    let until = Instant::now() + Duration::from_secs_f64(60.0 * minutes);
    let mut problems = 0;
    let mut met = Met::new();
    for seed in seed.. {
        eprintln!("-- seed {seed}");
        let left = until.saturating_duration_since(Instant::now());
        let mixed = if seed.is_multiple_of(2) { What::ProcessesAndCalls } else { What::Processes };
        let what = alone.unwrap_or(mixed);
        let report: Report = run(Chaos { seed, how_long: left.min(ROUND), what }, |what| eprintln!("   {what}"));
        println!("{}", report.json());
        for problem in &report.problems {
            eprintln!("PROBLEM {problem}");
        }
        problems += report.problems.len();
        for (what, times) in report.calls {
            *met.entry(what).or_default() += times;
        }
        if Instant::now() >= until {
            break;
        }
    }
    if !met.is_empty() {
        eprintln!("{}", table(&met));
    }
    if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
