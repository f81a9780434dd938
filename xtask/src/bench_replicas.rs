//! `cargo xtask bench replicas`: one trial trained by two workers, one of which gets a quarter of the time: what that
//! does to the pace with asynchronous gradients, and where replicas wait for each other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::background::{self, Background};
use crate::house::House;
use crate::install::remove_folder;
use crate::run::Steps;
use crate::setup::{Data, Wanted, setup};
use crate::test::cargo;

const SWEEP: &str = "pace";
const EPOCHS: u32 = 4;
/// The slow trainer works so long, then stands still so long.
const WORKS: Duration = Duration::from_millis(30);
const STANDS: Duration = Duration::from_millis(90);
/// Between two looks for a trainer.
const LOOK: Duration = Duration::from_millis(50);

/// How gradients come together, in words and in the sweep file.
const MODES: [(&str, &str); 3] =
    [("async", "mode: async"), ("sync", "mode: sync"), ("sync, slowest dropped", "mode: sync, drop_slowest: 1")];

/// What a run of one mode came to: its epochs trained by two.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    images_per_second: f64,
    staleness_mean: f64,
    staleness_max: f64,
    val_top1: f64,
}

/// Builds, trains each mode with and without a slow replica, prints a table in Markdown.
pub(crate) fn replicas(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: vec![Data::FashionMnist] }))?;
    let build = ["build", "--release", "--bin", "alpharho", "--bin", "alpharho-worker", "--bin", "alpharho-trainer"];
    steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
    let mut rows = Vec::new();
    for (mode, settings) in MODES {
        let even = steps.step("both at full speed", || train(house, settings, false))?;
        let slowed = steps.step("one slowed", || train(house, settings, true))?;
        rows.push((mode, even, slowed));
    }
    print!("{}", table(&rows));
    Ok(())
}

fn sweep(settings: &str) -> String {
    format!(
        "name: {SWEEP}\nparameters: {{alpha: {{value: 0.25}}, resolution: {{value: 20}}}}\n\
         data: {{format: idx, train: fashion-mnist/train-images-idx3-ubyte.gz, \
         validation: fashion-mnist/t10k-images-idx3-ubyte.gz, classes: 10, crop: {{area: [0.8, 1.0]}}, \
         color: {{brightness: 0, saturation: [1, 1]}}, evaluation_crop: 1.0}}\n\
         training: {{epochs: {EPOCHS}, batch_size: 64, optimizer: {{epsilon: 0.001}}, learning_rate: 0.002, \
         batch_norm: {{decay: 0.9, reestimate_batches: 40}}, schedule: {{decay: 0.7, every_epochs: 1}}, \
         replicas: 2, gradients: {{{settings}}}}}\n"
    )
}

fn train(house: &House, settings: &str, is_slowed: bool) -> Result<Pace> {
    let folder = house.state.join("bench/replicas");
    remove_folder(&folder)?;
    fs::create_dir_all(&folder)?;
    let (store, file) = (folder.join("store.db"), folder.join("pace.yaml"));
    fs::write(&file, sweep(settings))?;
    let alpharho = house.target().join("release/alpharho");
    let (_coordinator, address) = background::coordinator(house, &alpharho, &store)?;
    // The chief's, and then the other's: whoever comes first gets the trial.
    let _first = worker(house, &address, &folder.join("first"))?;
    let mut submit = house.command(&alpharho);
    let submitted = submit.arg("submit").arg(&file).arg("--store").arg(&store).stdout(Stdio::null()).status()?;
    ensure!(submitted.success(), "the sweep was not taken: {submitted}");
    let mut watch = house.command(&alpharho);
    watch.args(["watch", SWEEP, "--json", "--store"]).arg(&store);
    let mut watch = Watch(watch.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start alpharho")?);
    let lines = BufReader::new(watch.0.stdout.take().context("no stdout")?).lines();
    let mut events = lines.map(|line| Ok(serde_json::from_str::<Value>(&line?)?["happening"].take()));
    until(&mut events, "attempt_started")?;
    let second = worker(house, &address, &folder.join("second"))?;
    until(&mut events, "replica_joined")?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let slow = is_slowed.then(|| scope.spawn(|| slow_down(second.id(), &is_over)));
        let pace = pace(&mut events);
        is_over.store(true, Ordering::Relaxed);
        if let Some(slow) = slow {
            slow.join().map_err(|_| anyhow::anyhow!("the thread that slows a trainer panicked"))??;
        }
        pace
    })
}

fn worker(house: &House, coordinator: &str, folder: &Path) -> Result<Background> {
    let mut command = house.command(house.target().join("release/alpharho-worker"));
    command.args(["--coordinator", coordinator, "--device", "cpu", "--slots", "1", "--threads", "1", "--folder"]);
    Background::start(command.arg(folder).arg("--data-folder").arg(house.state.join("data")))
}

/// `alpharho watch`, which ends by itself unless the bench fails.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(events: &mut impl Iterator<Item = Result<Value>>, kind: &str) -> Result<()> {
    for event in events {
        if event?["kind"] == kind {
            return Ok(());
        }
    }
    bail!("the sweep ended before {kind}")
}

/// Lets the trainer of a worker work a quarter of the time, until the trial is over.
fn slow_down(worker: u32, is_over: &AtomicBool) -> Result<()> {
    let mut stops = 0;
    while !is_over.load(Ordering::Relaxed) {
        let Some(trainer) = child(worker) else {
            thread::sleep(LOOK);
            continue;
        };
        // It may have ended meanwhile.
        stops += u32::from(kill_process(trainer, Signal::STOP).is_ok());
        thread::sleep(STANDS);
        let _ = kill_process(trainer, Signal::CONT);
        thread::sleep(WORKS);
    }
    ensure!(stops > 0, "the trainer that should have been slowed was never found");
    Ok(())
}

/// A process that any thread of another has started.
fn child(parent: u32) -> Option<Pid> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).ok()?;
    let mut children = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children.find_map(|numbers| Pid::from_raw(numbers.split_whitespace().next()?.parse().ok()?))
}

/// Reads to the end of the trial; means over the epochs that two have trained from the beginning.
fn pace(events: &mut impl Iterator<Item = Result<Value>>) -> Result<Pace> {
    let mut epochs = Vec::new();
    let mut val_top1 = f64::NAN;
    for event in events {
        let event = event?;
        match event["kind"].as_str() {
            Some("epoch_finished") => {
                let value = |name: &str| {
                    let points = event["points"].as_array().into_iter().flatten();
                    points.filter(|point| point["name"] == name).find_map(|point| point["value"].as_f64())
                };
                val_top1 = value("val_top1").unwrap_or(f64::NAN);
                if event["epoch"].as_u64().is_some_and(|epoch| epoch > 1) {
                    let value = |name: &str| value(name).with_context(|| format!("an epoch without {name}"));
                    epochs.push([value("images_per_second")?, value("staleness_mean")?, value("staleness_max")?]);
                }
            }
            Some("attempt_ended") => ensure!(event["end"] == "completed", "the trial did not complete: {event}"),
            _ => {}
        }
    }
    ensure!(!epochs.is_empty(), "no epoch was finished");
    let mean = |place: usize| epochs.iter().map(|epoch| epoch[place]).sum::<f64>() / epochs.len() as f64;
    let staleness_max = epochs.iter().map(|epoch| epoch[2]).fold(0.0, f64::max);
    Ok(Pace { images_per_second: mean(0), staleness_mean: mean(1), staleness_max, val_top1 })
}

fn table(rows: &[(&str, Pace, Pace)]) -> String {
    let mut text = String::from(
        "| mode | both at full speed | one slowed to a quarter | share kept | staleness, mean and maximum | \
         with the slow one | top-1 after 4 epochs, both |\n|---|---|---|---|---|---|---|\n",
    );
    for (mode, even, slowed) in rows {
        text.push_str(&format!(
            "| {mode} | {:.0} images/s | {:.0} images/s | {:.0} % | {:.2}, {:.0} | {:.2}, {:.0} | {:.1} %, {:.1} % |\n",
            even.images_per_second,
            slowed.images_per_second,
            100.0 * slowed.images_per_second / even.images_per_second,
            even.staleness_mean,
            even.staleness_max,
            slowed.staleness_mean,
            slowed.staleness_max,
            100.0 * even.val_top1,
            100.0 * slowed.val_top1,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_from_the_second_on_count() {
        let epoch = |epoch: u32, images: f64| {
            let point = |name: &str, value: f64| serde_json::json!({"name": name, "value": value});
            let points = [
                point("images_per_second", images),
                point("staleness_mean", 1.0),
                point("staleness_max", images / 50.0),
                point("val_top1", 0.5),
            ];
            Ok(serde_json::json!({"kind": "epoch_finished", "epoch": epoch, "points": points}))
        };
        let even = pace(&mut [epoch(1, 9.0), epoch(2, 100.0), epoch(3, 200.0)].into_iter()).unwrap();
        assert_eq!(even.images_per_second, 150.0);
        let slowed = Pace { images_per_second: 75.0, ..even };
        let text = table(&[("async", even, slowed)]);
        let row = "| async | 150 images/s | 75 images/s | 50 % | 1.00, 4 | 1.00, 4 | 50.0 %, 50.0 % |\n";
        assert!(text.ends_with(row), "{text}");
    }

    #[test]
    fn a_sweep_that_ends_early_is_said() {
        let events = [Ok(serde_json::json!({"kind": "sweep_over"}))];
        assert!(until(&mut events.into_iter(), "replica_joined").is_err());
        let ended = [Ok(serde_json::json!({"kind": "attempt_ended", "end": "failed"}))];
        assert!(pace(&mut ended.into_iter()).is_err());
    }
}
