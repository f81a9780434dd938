//! What must be true in the end.

use super::{Report, Sweep, undisturbed};
use crate::{Happened, Stage};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Metrics that tell of the machine and not of the result.
const OF_THE_MACHINE: [&str; 5] =
    ["images_per_second", "data_wait_seconds", "epoch_seconds", "eval_seconds", "replicas"];

/// A sweep that is over, held against an undisturbed run of the same file.
pub(super) fn sweep(stage: &Stage, sweep: &Sweep, events: &[Happened], trained: bool, report: &mut Report) {
    let mut problems = Vec::new();
    report.sweeps += 1;
    report.trials += sweep.trials;
    for trial in 1..=sweep.trials {
        problems.extend(history(events, trial, sweep.epochs).into_iter().map(|what| format!("trial {trial}: {what}")));
    }
    for ended in events.iter().filter(|event| event.kind == "attempt_ended") {
        *report.attempts.entry(ended.word("end").to_owned()).or_default() += 1;
    }
    let other = undisturbed(stage, sweep, trained);
    let (disturbed, expected) = (values(stage, sweep), values(&other, sweep));
    match (disturbed, expected) {
        (Ok(disturbed), Ok(expected)) => {
            report.values += expected.len() as u64;
            problems.extend(differences(&disturbed, &expected));
        }
        (disturbed, expected) => problems.extend([disturbed.err(), expected.err()].into_iter().flatten()),
    }
    let (disturbed, expected) = (results(stage, sweep), results(&other, sweep));
    if disturbed != expected {
        problems.push(format!("trials are\n{disturbed:?}\nand were, undisturbed,\n{expected:?}"));
    }
    report.problems.extend(problems.into_iter().map(|what| format!("{}: {what}", sweep.name)));
}

/// The attempts of a trial: begun one by one, completed once, each going on where the one before had its last
/// checkpoint, or before that if it was damaged.
fn history(events: &[Happened], trial: u64, epochs: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut attempt, mut runs, mut completed) = (0, false, 0);
    // Finished in all, finished last by this attempt, in the newest checkpoint that can be gone on from.
    let (mut done, mut epoch, mut saved) = (0, None::<u64>, Vec::new());
    let mut safe = 0;
    for event in events.iter().filter(|event| event.trial == Some(trial)) {
        match event.kind.as_str() {
            "attempt_started" => {
                if runs || event.number("attempt") != attempt + 1 {
                    problems.push(format!("{event:?} after attempt {attempt}"));
                }
                (attempt, runs, epoch) = (event.number("attempt"), true, None);
                safe = saved.iter().copied().filter(|saved| *saved <= done).max().unwrap_or(0);
            }
            "checkpoint_saved" => saved.push(event.number("epoch")),
            // It may be an older one that is gone on from, or none.
            "checkpoint_damaged" => {
                saved.clear();
                safe = 0;
            }
            "epoch_finished" => {
                let now = event.number("epoch");
                let follows = match epoch {
                    Some(before) => now == before + 1,
                    None => now > safe && now <= done + 1,
                };
                if !runs || event.number("attempt") != attempt || !follows {
                    problems
                        .push(format!("event {}; {done} epochs were done, {safe} of them are saved", event.sequence));
                }
                (epoch, done) = (Some(now), done.max(now));
            }
            "attempt_ended" => {
                if !runs || event.number("attempt") != attempt {
                    problems.push(format!("{event:?}, which did not run"));
                }
                (runs, completed) = (false, completed + u64::from(event.word("end") == "completed"));
            }
            _ => {}
        }
    }
    if runs || completed != 1 || done != epochs {
        problems.push(format!("completed {completed} times, {done} of {epochs} epochs, in {attempt} attempts"));
    }
    if !problems.is_empty() {
        let of_trial = events.iter().filter(|event| event.trial == Some(trial));
        let line = |event: &Happened| {
            let Happened { sequence, kind, .. } = event;
            format!("{sequence} {kind} {}/{} {}", event.number("attempt"), event.number("epoch"), event.word("end"))
        };
        problems.push(of_trial.map(line).collect::<Vec<_>>().join("; "));
    }
    problems
}

type Point = (String, String, u64);

/// Every measured value of the sweep, once.
fn values(stage: &Stage, sweep: &Sweep) -> Result<BTreeMap<Point, String>, String> {
    let folder = format!("exported-{}", sweep.name);
    stage.ask(&["export", &sweep.name, "--only", "metrics,csv", "--out", &folder]);
    let text = std::fs::read_to_string(stage.folder().join(&folder).join("metrics.csv")).unwrap();
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let column = |name: &str| head.iter().position(|column| *column == name).ok_or(format!("no {name} in {head:?}"));
    let (trial, name) = (column("trial")?, column("name")?);
    let (step, value) = (column("step")?, column("value")?);
    let mut values = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        if OF_THE_MACHINE.contains(&cells[name]) {
            continue;
        }
        let point = (cells[trial].to_owned(), cells[name].to_owned(), cells[step].parse().unwrap());
        if values.insert(point.clone(), cells[value].to_owned()).is_some() {
            return Err(format!("{point:?} stands twice in the export"));
        }
    }
    Ok(values)
}

fn differences(disturbed: &BTreeMap<Point, String>, expected: &BTreeMap<Point, String>) -> Option<String> {
    let first = expected
        .iter()
        .find(|(point, value)| disturbed.get(*point) != Some(value))
        .map(|(point, value)| format!("{point:?} is {:?}, undisturbed {value}", disturbed.get(point)))
        .or_else(|| {
            disturbed.keys().find(|point| !expected.contains_key(*point)).map(|p| format!("{p:?} is too much"))
        });
    first.map(|first| format!("{} values, undisturbed {}: {first}", disturbed.len(), expected.len()))
}

/// Of each trial what a person looks at.
fn results(stage: &Stage, sweep: &Sweep) -> Vec<Value> {
    let status = stage.status(&sweep.name);
    let of_trial = |trial: &Value| -> Value {
        let kept =
            ["number", "alpha", "resolution", "seed", "state", "epochs_done", "best_epoch", "mult_adds", "params"];
        kept.iter().map(|key| ((*key).to_owned(), trial[key].clone())).collect::<serde_json::Map<_, _>>().into()
    };
    status["trials"].as_array().into_iter().flatten().map(of_trial).collect()
}

/// Every row and every byte that the store names.
pub(super) fn store(stage: &Stage) -> Option<String> {
    let output = stage.alpharho(&["store", "check"]);
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Processes and files that should be gone.
pub(super) fn left_over(stage: &Stage) -> Vec<String> {
    let mut problems: Vec<String> = stage
        .processes()
        .into_iter()
        .map(|process| format!("process {process} is left: {}", name_of(process)))
        .collect();
    let mut folders = vec![stage.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path.strip_prefix(stage.folder()).unwrap_or(&path).to_owned();
            let is_scratch = name.starts_with("runs") && name.components().count() > 1
                || name.starts_with("artifacts/.uploads") && name.components().count() > 3
                || path.extension().is_some_and(|extension| extension == "part");
            if is_scratch {
                problems.push(format!("{} is left", name.display()));
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    problems
}

fn name_of(process: u32) -> String {
    let line = std::fs::read(Path::new("/proc").join(process.to_string()).join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happened(what: &[(&str, u64, u64)]) -> Vec<Happened> {
        let event = |(sequence, (kind, attempt, epoch)): (usize, &(&str, u64, u64))| {
            let end = if *kind == "completed" { "completed" } else { "lost" };
            let kind = if matches!(*kind, "completed" | "lost") { "attempt_ended" } else { kind };
            Happened::read(&format!(
                "{{\"sequence\": {sequence}, \"trial\": 1, \"happening\": {{\"kind\": \"{kind}\", \
                 \"attempt\": {attempt}, \"epoch\": {epoch}, \"end\": \"{end}\"}}}}"
            ))
        };
        what.iter().enumerate().map(event).collect()
    }

    #[test]
    fn histories_that_break_a_promise_are_found() {
        let (start, epoch, saved) = ("attempt_started", "epoch_finished", "checkpoint_saved");
        let first = [(start, 1, 0), (epoch, 1, 1), (saved, 1, 1), (epoch, 1, 2), ("lost", 1, 0), (start, 2, 0)];
        let check = |more: &[(&str, u64, u64)], good: bool| {
            let events = happened(&[&first, more].concat());
            assert_eq!(history(&events, 1, 2).is_empty(), good, "{more:?}: {:?}", history(&events, 1, 2));
        };
        check(&[(epoch, 2, 2), ("completed", 2, 0)], true);
        check(&[("checkpoint_damaged", 2, 1), (epoch, 2, 1), (epoch, 2, 2), ("completed", 2, 0)], true);
        // Behind its last checkpoint, ahead of what was done, not to the end, twice, under another attempt.
        check(&[(epoch, 2, 1), (epoch, 2, 2), ("completed", 2, 0)], false);
        check(&[(epoch, 2, 4), ("completed", 2, 0)], false);
        check(&[("completed", 2, 0), ("completed", 2, 0)], false);
        check(&[("lost", 2, 0)], false);
        check(&[(epoch, 1, 2), ("completed", 2, 0)], false);
        check(&[("lost", 2, 0), (start, 4, 0), (epoch, 4, 2), ("completed", 4, 0)], false);
    }
}
