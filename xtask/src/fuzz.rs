//! `cargo xtask fuzz`: builds the program in `fuzz`, runs it for each target in a process of its own, and makes a table.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::house::House;
use crate::run::Steps;
use crate::setup::{Wanted, setup};
use crate::test::cargo;

/// What to try, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) seed: u64,
    pub(crate) minutes: f64,
    pub(crate) from: u64,
    pub(crate) targets: Vec<String>,
}

/// What the program prints of a target.
#[derive(Clone, Debug, Default, Deserialize)]
struct Report {
    target: String,
    cases: u64,
    taken: u64,
    seconds: f64,
    slowest_ms: f64,
    slowest_case: u64,
    largest: u64,
    most: u64,
    findings: Vec<Finding>,
}

#[derive(Clone, Debug, Deserialize)]
struct Finding {
    case: u64,
    what: String,
    file: String,
}

/// Builds, tries, prints a table in Markdown; an error if anything was found.
pub(crate) fn fuzz(house: &House, wish: Wish) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: Vec::new() }))?;
    steps.run("build", &mut cargo(house, &libtorch, &["build", "--workspace", "--example", "fuzz"])?)?;
    let program = house.target().join("debug/examples/fuzz");
    let folder = house.target().join("fuzz");
    let start = |arguments: &[String]| {
        let mut command = house.command(&program);
        command.env("LIBTORCH", &libtorch.folder).args(arguments);
        command
    };
    let listed = start(&["list".to_owned()]).output().context("cannot start the program that tries targets")?;
    let known = String::from_utf8_lossy(&listed.stdout).into_owned();
    let targets =
        if wish.targets.is_empty() { known.lines().map(str::to_owned).collect() } else { wish.targets.clone() };
    for target in &targets {
        ensure!(
            known.lines().any(|name| name == target),
            "there is no target {target}; there are {}",
            known.replace('\n', " ")
        );
    }
    let time = Duration::from_secs_f64(60.0 * wish.minutes / targets.len() as f64);
    let reports: Result<Vec<Report>> =
        steps.step("fuzz", || targets.iter().map(|target| one(target, &wish, time, &folder, &start)).collect());
    let reports = reports?;
    print!("{}", table(&reports, wish.seed));
    let found: usize = reports.iter().map(|report| report.findings.len()).sum();
    ensure!(found == 0, "{found} cases failed; they are named above");
    Ok(())
}

/// Tries a target until its time is over; should the process die, goes on behind the case that killed it.
fn one(
    target: &str,
    wish: &Wish,
    time: Duration,
    folder: &Path,
    start: &dyn Fn(&[String]) -> Command,
) -> Result<Report> {
    let begun = Instant::now();
    let mut sum = Report { target: target.to_owned(), ..Report::default() };
    let mut from = wish.from;
    loop {
        let left = time.saturating_sub(begun.elapsed()).as_secs_f64();
        let words = [target, &wish.seed.to_string(), &from.to_string(), &left.to_string(), &u64::MAX.to_string()];
        let mut arguments = words.map(str::to_owned).to_vec();
        arguments.push(folder.display().to_string());
        let mut child = start(&arguments).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut last = Report::default();
        for line in child.stdout.take().map(BufReader::new).context("no standard output")?.lines() {
            last = serde_json::from_str(&line?)?;
            println!("{target}: {} cases in {:.0} s, {} failed", last.cases, last.seconds, last.findings.len());
        }
        let status = child.wait()?;
        sum.add(last);
        if status.success() {
            return Ok(sum);
        }
        let case = fs::read_to_string(folder.join(format!("{target}.now"))).ok();
        let case = case.and_then(|text| text.trim().parse().ok()).context("a target died before its first case")?;
        sum.findings.push(Finding { case, what: died(status), file: "not written".to_owned() });
        if begun.elapsed() >= time {
            return Ok(sum);
        }
        from = case + 1;
    }
}

fn died(status: ExitStatus) -> String {
    format!("the process died: {status} (3: the case did not end)")
}

impl Report {
    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.taken += other.taken;
        self.seconds += other.seconds;
        if other.slowest_ms > self.slowest_ms {
            (self.slowest_ms, self.slowest_case) = (other.slowest_ms, other.slowest_case);
        }
        self.largest = self.largest.max(other.largest);
        self.most = self.most.max(other.most);
        self.findings.extend(other.findings);
    }
}

fn table(reports: &[Report], seed: u64) -> String {
    let mut text = String::from(
        "\n| target | cases | cases/s | taken as good | slowest case | largest allocation | most memory | findings |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    for report in reports {
        let Report { target, cases, taken, seconds, slowest_ms, slowest_case: _, largest, most, findings } = report;
        let (share, rate) = (100.0 * *taken as f64 / (*cases).max(1) as f64, *cases as f64 / seconds.max(1e-3));
        // Into a string, which does not fail.
        let _ = writeln!(
            text,
            "| {target} | {cases} | {rate:.0} | {share:.0} % | {slowest_ms:.0} ms | {} | {} | {} |",
            mib(*largest),
            mib(*most),
            findings.len()
        );
    }
    for report in reports {
        for Finding { case, what, file } in &report.findings {
            let target = &report.target;
            let _ = writeln!(
                text,
                "\n{target}, case {case}: {what}\n  {file}\n  again: cargo xtask fuzz --seed {seed} --from {case} --minutes 0.1 {target}"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_processes_did_is_one_line_and_findings_are_told_with_the_way_back() {
        let line = r#"{"target": "images", "cases": 10, "taken": 5, "seconds": 2.0, "slowest_ms": 7.0, "slowest_case": 3,
            "largest": 1048576, "most": 2097152, "findings": [{"case": 9, "what": "it panicked", "file": "x.case"}]}"#;
        let mut sum = Report { target: "images".to_owned(), ..Report::default() };
        sum.add(serde_json::from_str(line).unwrap());
        sum.add(serde_json::from_str(line).unwrap());
        let table = table(&[sum], 5);
        assert!(table.contains("| images | 20 | 5 | 50 % | 7 ms | 1.0 MiB | 2.0 MiB | 2 |"), "{table}");
        assert!(table.contains("again: cargo xtask fuzz --seed 5 --from 9 --minutes 0.1 images"), "{table}");
    }
}
