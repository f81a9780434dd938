//! `cargo xtask chaos`: builds the executables and the program in `e2e` that breaks them, runs it, and adds up.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::house::House;
use crate::run::Steps;
use crate::setup::{Wanted, setup};
use crate::test::cargo;

/// What to break, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) seed: u64,
    pub(crate) minutes: f64,
    /// What alone is broken; processes and connections, and every second round single calls, if nothing is named.
    pub(crate) alone: Option<&'static str>,
}

/// A line that the program prints for each round.
#[derive(Debug, Default, Deserialize)]
struct Round {
    kills: u64,
    faults: BTreeMap<String, u64>,
    sweeps: u64,
    trials: u64,
    attempts: BTreeMap<String, u64>,
    values: u64,
    problems: Vec<String>,
}

/// Builds, breaks, prints a summary in Markdown; an error if anything of it can be seen in the results.
pub(crate) fn chaos(house: &House, wish: Wish) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: Vec::new() }))?;
    // All executables: what is broken is what is built now.
    let build = ["build", "--workspace", "--bins", "--example", "chaos"];
    steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
    let mut program = house.command(house.target().join("debug/examples/chaos"));
    program.env("LIBTORCH", &libtorch.folder);
    program.args([wish.seed.to_string(), wish.minutes.to_string()]).args(wish.alone);
    let mut sum = Round::default();
    let mut rounds = 0;
    let ended = steps.step("chaos", || {
        let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start chaos")?;
        let lines = child.stdout.take().map(BufReader::new).context("chaos has no standard output")?.lines();
        for line in lines {
            sum.add(serde_json::from_str(&line?)?);
            rounds += 1;
        }
        Ok(child.wait()?)
    })?;
    print!("{}", sum.table(rounds));
    ensure!(ended.success() && sum.problems.is_empty(), "chaos found problems; they are named above");
    Ok(())
}

impl Round {
    fn add(&mut self, round: Self) {
        self.kills += round.kills;
        self.sweeps += round.sweeps;
        self.trials += round.trials;
        self.values += round.values;
        for (kind, count) in round.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (end, count) in round.attempts {
            *self.attempts.entry(end).or_default() += count;
        }
        self.problems.extend(round.problems);
    }

    fn table(&self, rounds: u32) -> String {
        let mut text = String::from("\n| fault | times |\n|---|---|\n");
        for (kind, count) in &self.faults {
            text.push_str(&format!("| {kind} | {count} |\n"));
        }
        let attempts: Vec<String> = self.attempts.iter().map(|(end, count)| format!("{count} {end}")).collect();
        text.push_str(&format!(
            "\n{rounds} rounds, {} kills; {} sweeps of {} trials in all, attempts: {}; {} values compared; {} problems\n",
            self.kills,
            self.sweeps,
            self.trials,
            attempts.join(", "),
            self.values,
            self.problems.len()
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_added_up() {
        let line = r#"{"seed": 7, "kills": 3, "faults": {"kill worker": 2, "cut connections": 1}, "sweeps": 1,
            "trials": 4, "attempts": {"completed": 4, "lost": 2}, "values": 40, "problems": []}"#;
        let mut sum = Round::default();
        sum.add(serde_json::from_str(line).unwrap());
        sum.add(serde_json::from_str(line).unwrap());
        let table = sum.table(2);
        assert!(table.contains("| kill worker | 4 |"), "{table}");
        assert!(table.contains("2 rounds, 6 kills; 2 sweeps of 8 trials in all, attempts: 8 completed, 4 lost; 80"));
    }
}
