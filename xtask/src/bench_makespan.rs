//! `cargo xtask bench makespan`: the grid on scripted workers of unequal speed, real processes all of them, beside the least
//! time in which it can be done. Nobody knows the speeds before; trials sleep as long as the cells take to train.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::background::{self, Background};
use crate::house::House;
use crate::install::remove_folder;
use crate::run::Steps;
use crate::setup::{Wanted, setup};
use crate::test::cargo;

const SWEEP: &str = "makespan";
const EPOCHS: u32 = 5;
/// Each fleet is given work that takes it so long at best.
const BOUND_SECONDS: f64 = 60.0;
/// Moves must win four of them: 5 s, as it comes, are for sweeps of hours.
const HEARTBEAT_MS: &str = "500";
/// Images a second in training, by α and ρ: docs/results/throughput.md, steps.
const CELLS: [(f64, u32, f64); 16] = [
    (1.0, 224, 74.0),
    (1.0, 192, 101.0),
    (1.0, 160, 143.0),
    (1.0, 128, 217.0),
    (0.75, 224, 122.0),
    (0.75, 192, 160.0),
    (0.75, 160, 229.0),
    (0.75, 128, 342.0),
    (0.5, 224, 213.0),
    (0.5, 192, 287.0),
    (0.5, 160, 402.0),
    (0.5, 128, 634.0),
    (0.25, 224, 500.0),
    (0.25, 192, 685.0),
    (0.25, 160, 920.0),
    (0.25, 128, 1_389.0),
];
/// Of the workers, one slot each.
const FLEETS: [&[f64]; 6] =
    [&[1.0], &[1.0, 3.0], &[1.0, 10.0], &[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0, 4.0, 4.0], &[0.2, 1.0, 1.1, 1.3]];
/// Trials side by side on a slot, at most.
const SIDE_BY_SIDE: [u32; 2] = [1, 16];

/// What a run came to.
struct Run {
    seconds: f64,
    /// Attempts beyond the first of each cell.
    restarts: usize,
}

/// Builds, runs the grid on each fleet, prints a table in Markdown.
pub(crate) fn makespan(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: Vec::new() }))?;
    let bins = ["--bin", "alpharho", "--bin", "alpharho-worker", "--bin", "alpharho-trainer-scripted"];
    steps.run("build", &mut cargo(house, &libtorch, &[&["build", "--release"], &bins[..]].concat())?)?;
    let mut rows = Vec::new();
    for speeds in FLEETS {
        for side_by_side in SIDE_BY_SIDE {
            println!("workers of speed {speeds:?}, at most {side_by_side} trials a slot");
            rows.push((speeds, side_by_side, steps.step("run", || run(house, speeds, side_by_side))?));
        }
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Milliseconds that a cell's epoch takes at speed 1, where the fleet needs [`BOUND_SECONDS`] for the whole grid.
fn epoch_ms(speeds: &[f64], images_per_second: f64) -> u64 {
    let of_cells = || CELLS.iter().map(|(_, _, images)| 1.0 / images);
    let fastest = speeds.iter().copied().fold(0.0, f64::max);
    let longest = of_cells().fold(0.0, f64::max) / fastest;
    let bound = (of_cells().sum::<f64>() / speeds.iter().sum::<f64>()).max(longest);
    (1_000.0 * BOUND_SECONDS / bound / images_per_second / f64::from(EPOCHS)).round() as u64
}

fn sweep(speeds: &[f64], side_by_side: u32) -> String {
    let mut text = format!(
        "name: {SWEEP}\nparameters: {{alpha: {{values: [1, 0.75, 0.5, 0.25]}}, \
         resolution: {{values: [224, 192, 160, 128]}}}}\n\
         data: {{format: idx, train: nothing, validation: {{fraction: 0.5}}, classes: 10}}\n\
         training: {{epochs: {EPOCHS}}}\nresources: {{packing: {{max_trials_per_slot: {side_by_side}}}}}\nscript:\n"
    );
    for (alpha, resolution, images_per_second) in CELLS {
        let ms = epoch_ms(speeds, images_per_second);
        text += &format!("  - {{do: sleep, ms: {ms}, when: {{alpha: {alpha}, resolution: {resolution}}}}}\n");
    }
    text
}

fn run(house: &House, speeds: &[f64], side_by_side: u32) -> Result<Run> {
    let folder = house.state.join("bench/makespan");
    remove_folder(&folder)?;
    fs::create_dir_all(&folder)?;
    let (store, file) = (folder.join("store.db"), folder.join("makespan.yaml"));
    fs::write(&file, sweep(speeds, side_by_side))?;
    let alpharho = house.target().join("release/alpharho");
    let arguments = ["--listen", "127.0.0.1:0", "--heartbeat-ms", HEARTBEAT_MS];
    let (_coordinator, address) = background::coordinator_with(house, &alpharho, &store, &arguments)?;
    let workers = (1..).zip(speeds).map(|(number, &speed)| {
        let started = worker(house, &address, &folder.join(format!("worker{number}")), speed)?;
        attached(house, &alpharho, &store, number)?;
        Ok(started)
    });
    let _workers = workers.collect::<Result<Vec<_>>>()?;
    let began = Instant::now();
    let mut submit = house.command(&alpharho);
    let submitted = submit.arg("submit").arg(&file).arg("--store").arg(&store).stdout(Stdio::null()).status()?;
    ensure!(submitted.success(), "the sweep was not taken: {submitted}");
    let mut watch = house.command(&alpharho);
    watch.args(["watch", SWEEP, "--json", "--store"]).arg(&store);
    let mut watch = watch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start alpharho")?;
    let (mut begun, mut completed) = (0, 0);
    for line in BufReader::new(watch.stdout.take().context("no stdout")?).lines() {
        let happening = serde_json::from_str::<Value>(&line?)?["happening"].take();
        begun += usize::from(happening["kind"] == "attempt_started");
        completed += usize::from(happening["kind"] == "attempt_ended" && happening["end"] == "completed");
    }
    let seconds = began.elapsed().as_secs_f64();
    ensure!(watch.wait()?.success() && completed == CELLS.len(), "{completed} of {} cells completed", CELLS.len());
    Ok(Run { seconds, restarts: begun - CELLS.len() })
}

fn worker(house: &House, coordinator: &str, folder: &Path, speed: f64) -> Result<Background> {
    let mut command = house.command(house.target().join("release/alpharho-worker"));
    command.env("ALPHARHO_SCRIPTED_SPEED", speed.to_string());
    command.args(["--scripted-only", "--coordinator", coordinator, "--device", "cpu", "--slots", "1", "--folder"]);
    Background::start(command.arg(folder))
}

/// Waits until so many workers are there: whoever comes first gets the first trial.
fn attached(house: &House, alpharho: &Path, store: &Path, count: usize) -> Result<()> {
    for _ in 0..200 {
        let mut workers = house.command(alpharho);
        let told = workers.args(["workers", "--json", "--store"]).arg(store).output()?;
        let list: Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        let list = list.get("workers").unwrap_or(&list).as_array().map_or(0, Vec::len);
        if list == count {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    anyhow::bail!("worker {count} did not come")
}

fn table(rows: &[(&[f64], u32, Run)]) -> String {
    let mut text = String::from(
        "| speeds of the workers | trials a slot | seconds | of the least possible | restarts |\n|---|---|---|---|---|\n",
    );
    for (speeds, side_by_side, run) in rows {
        let speeds: Vec<String> = speeds.iter().map(f64::to_string).collect();
        let ratio = run.seconds / BOUND_SECONDS;
        text += &format!(
            "| {} | {side_by_side} | {:.1} | **{ratio:.3}** | {} |\n",
            speeds.join(", "),
            run.seconds,
            run.restarts
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_what_the_fleet_can_do_in_that_time() {
        for speeds in FLEETS {
            let total: u64 = CELLS.iter().map(|(_, _, images)| epoch_ms(speeds, *images) * u64::from(EPOCHS)).sum();
            let longest = epoch_ms(speeds, CELLS[0].2) * u64::from(EPOCHS);
            let fastest = speeds.iter().copied().fold(0.0, f64::max);
            let bound = (total as f64 / speeds.iter().sum::<f64>()).max(longest as f64 / fastest) / 1_000.0;
            assert!((bound - BOUND_SECONDS).abs() < 0.1, "{speeds:?}: {bound}");
        }
    }

    #[test]
    fn a_row_tells_the_ratio() {
        let text = table(&[(&[1.0, 3.0], 16, Run { seconds: 63.0, restarts: 2 })]);
        assert!(text.ends_with("| 1, 3 | 16 | 63.0 | **1.050** | 2 |\n"), "{text}");
    }
}
