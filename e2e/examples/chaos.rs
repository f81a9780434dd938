//! Breaks real processes for a while and holds what is left against an undisturbed run; started by
//! `cargo xtask chaos`.
//!
//! `chaos SEED MINUTES [trained]`: prints what it does on standard error and a line of JSON for each round. A round
//! breaks things for half a minute, under a seed of its own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what is wrong here is to be seen at once")]

use e2e::chaos::{Chaos, Report, run};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let usage = "chaos SEED MINUTES [trained]";
    let seed: u64 = arguments.get(1).and_then(|seed| seed.parse().ok()).unwrap_or_else(|| panic!("{usage}"));
    let minutes: f64 = arguments.get(2).and_then(|minutes| minutes.parse().ok()).unwrap_or_else(|| panic!("{usage}"));
    let trained = arguments.get(3).is_some_and(|word| word == "trained");
    let until = Instant::now() + Duration::from_secs_f64(60.0 * minutes);
    let mut problems = 0;
    for seed in seed.. {
        eprintln!("-- seed {seed}");
        let left = until.saturating_duration_since(Instant::now());
        let report: Report = run(Chaos { seed, how_long: left.min(ROUND), trained }, |what| eprintln!("   {what}"));
        println!("{}", report.json());
        for problem in &report.problems {
            eprintln!("PROBLEM {problem}");
        }
        problems += report.problems.len();
        if Instant::now() >= until {
            break;
        }
    }
    if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
