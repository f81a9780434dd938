//! `cargo xtask bench grid`: the 16 cells on photographs, ours beside the floor (their steps alone) and PyTorch, which
//! trains cell after cell. `cargo xtask bench step`: those steps one by one, beside PyTorch's, eager and compiled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::house::House;
use crate::install::{Recipe, remove_folder};
use crate::libtorch::Libtorch;
use crate::peers;
use crate::run::{Steps, answer, answers};
use crate::setup::{Data, Wanted, setup};
use crate::test::cargo;

const SCRIPTS: &str = "bench/peers/grid";
const PHOTOGRAPHS: &str = "bench/peers/input/photographs.py";
/// Of which a twentieth is held out.
const IMAGES: usize = 336;
/// Of an epoch.
const BATCHES: f64 = 10.0;
/// Where Debian has it.
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const JEMALLOC_CONF: &str =
    "oversize_threshold:1,dirty_decay_ms:-1,muzzy_decay_ms:-1,background_thread:true,metadata_thp:auto,thp:always";

/// How PyTorch trains the cells: in words, whether with jemalloc preloaded, and as arguments.
const WAYS: [(&str, bool, &[&str]); 5] = [
    ("as people run it: 2 loader processes", false, &["--loaders", "2"]),
    ("jemalloc preloaded", true, &["--loaders", "2"]),
    ("jemalloc, channels_last", true, &["--loaders", "2", "--channels-last"]),
    ("jemalloc, channels_last, no loader processes", true, &["--loaders", "0", "--channels-last"]),
    (
        "the same, two cells at a time with a thread each",
        true,
        &["--loaders", "0", "--channels-last", "--together", "2", "--threads", "1"],
    ),
];

#[derive(Clone, Copy, Debug, Deserialize)]
struct Measured {
    seconds: f64,
    peak_mib: f64,
}

/// What the example `steps` and `steps.py` print.
#[derive(Clone, Debug, Deserialize)]
struct Rate {
    what: String,
    #[serde(default)]
    alpha: f64,
    #[serde(default)]
    resolution: u32,
    #[serde(default)]
    images_per_second: f64,
    #[serde(default)]
    threads: u32,
    #[serde(default)]
    seconds: f64,
}

struct Bench<'a> {
    house: &'a House,
    libtorch: Libtorch,
    python: PathBuf,
    threads: String,
}

/// Builds, measures, prints a table in Markdown.
pub(crate) fn grid(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let bench = Bench::prepare(house, &mut steps)?;
    jemalloc()?;
    let build = ["build", "--release", "--bin", "alpharho", "--bin", "alpharho-worker", "--bin", "alpharho-trainer"];
    steps.run("build", &mut cargo(house, &bench.libtorch, &build)?)?;
    let folder = house.state.join("bench/grid");
    photographs(&bench, &folder, &mut steps)?;
    let mut measure = |ours: &mut Vec<_>, floors: &mut Vec<_>| -> Result<()> {
        floors.push(steps.step("floor", || bench.floor())?);
        ours.push(steps.step("ours", || bench.ours(&folder))?);
        Ok(())
    };
    // Before and after the peers.
    let (mut ours, mut floors, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    measure(&mut ours, &mut floors)?;
    for (way, jemalloc, arguments) in WAYS {
        println!("PyTorch, {way}");
        peers.push(bench.peer(&folder, jemalloc, arguments)?);
    }
    measure(&mut ours, &mut floors)?;
    println!("\n{}", grid_table(&floors, &ours, &peers));
    Ok(())
}

fn jemalloc() -> Result<()> {
    ensure!(
        Path::new(JEMALLOC).exists(),
        "{JEMALLOC} is not there, which the best peers preload: apt-get install libjemalloc2"
    );
    Ok(())
}

/// The same for single steps.
pub(crate) fn step(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let bench = Bench::prepare(house, &mut steps)?;
    jemalloc()?;
    let mut rates = Vec::new();
    // Each of the faster ones before and after the one that takes minutes to compile.
    for how in ["ours", "eager", "compiled", "eager", "ours"] {
        rates.extend(steps.step(how, || if how == "ours" { bench.steps("2") } else { bench.peer_steps(how) })?);
    }
    println!("\n{}", step_table(&rates));
    Ok(())
}

impl<'a> Bench<'a> {
    fn prepare(house: &'a House, steps: &mut Steps) -> Result<Self> {
        let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: vec![Data::Gcompris] }))?;
        let python = steps.step("peers", || peers::environment(house, &peers::WEIGHTS))?;
        let build = ["build", "--release", "-p", "alpharho-trainer", "--example", "steps"];
        steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
        let threads = available_parallelism().context("how many cores there are")?.to_string();
        Ok(Self { house, libtorch, python, threads })
    }

    /// Seconds of all steps alone: one cell at a time, and the better of that and all side by side.
    fn floor(&self) -> Result<(f64, f64)> {
        let rates = self.steps("4")?;
        let together: Vec<&Rate> = rates.iter().filter(|rate| rate.what == "together").collect();
        let threads = self.threads.parse::<u32>()?;
        let in_turn = together.iter().find(|rate| rate.threads == threads).context("no cells in turn")?.seconds;
        let best = together.iter().map(|rate| rate.seconds).fold(in_turn, f64::min);
        Ok((in_turn * BATCHES, best * BATCHES))
    }

    fn steps(&self, seconds: &str) -> Result<Vec<Rate>> {
        let mut command = self.house.command(self.house.target().join("release/examples/steps"));
        answers(command.args([&self.threads, seconds]))
    }

    fn peer_steps(&self, how: &str) -> Result<Vec<Rate>> {
        let mut command = self.script("steps.py");
        answers(
            command
                .args([how, "--threads", &self.threads])
                .env("LD_PRELOAD", JEMALLOC)
                .env("MALLOC_CONF", JEMALLOC_CONF),
        )
    }

    /// As a user would: from the command to the exported results.
    fn ours(&self, folder: &Path) -> Result<Measured> {
        let store = folder.join("store");
        remove_folder(&store)?;
        let mut command = self.script("measured.py");
        command.arg(self.house.target().join("release/alpharho")).arg("run");
        command.arg(self.house.root.join(SCRIPTS).join("grid.yaml"));
        command.arg("--store").arg(store.join("grid.db")).arg("--out").arg(store.join("results"));
        command.arg("--data").arg(format!("photographs={}", folder.join("photographs").display()));
        answer(&mut command)
    }

    fn peer(&self, folder: &Path, jemalloc: bool, arguments: &[&str]) -> Result<Measured> {
        let mut command = self.script("measured.py");
        command.arg(&self.python).arg(self.house.root.join(SCRIPTS).join("train_cells.py"));
        command.arg(folder.join("photographs")).args(arguments);
        if jemalloc {
            command.env("LD_PRELOAD", JEMALLOC).env("MALLOC_CONF", JEMALLOC_CONF);
        }
        answer(&mut command)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = self.house.command(&self.python);
        command.arg(self.house.root.join(SCRIPTS).join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// The photographs as JPEG, made where they are missing.
fn photographs(bench: &Bench<'_>, folder: &Path, steps: &mut Steps) -> Result<()> {
    let place = folder.join("photographs");
    let recipe = Recipe { stamp: "bench grid recipe 1".to_owned(), required: &["animal", "tool"] };
    if recipe.is_installed(&place) {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    recipe.install(&place, |out| {
        let mut make = bench.house.command(&bench.python);
        make.arg(bench.house.root.join(PHOTOGRAPHS));
        make.arg(bench.house.data("gcompris").join("photographs")).arg(out).arg(IMAGES.to_string());
        steps.run("photographs", &mut make)
    })
}

fn grid_table(floors: &[(f64, f64)], ours: &[Measured], peers: &[Measured]) -> String {
    let in_turn = mean(floors.iter().map(|floor| floor.0));
    let best = mean(floors.iter().map(|floor| floor.1));
    let took = mean(ours.iter().map(|run| run.seconds));
    let mut text = format!(
        "| 16 cells | seconds | of ours | largest process, MiB |\n|---|---|---|---|\n\
         | ours | {took:.1} | 1.00 | {:.0} |\n\
         | floor: the steps alone, cell after cell | {in_turn:.1} | {:.2} | |\n\
         | the steps alone, the way that is faster here | {best:.1} | {:.2} | |\n",
        mean(ours.iter().map(|run| run.peak_mib)),
        in_turn / took,
        best / took,
    );
    for ((way, ..), Measured { seconds, peak_mib }) in WAYS.iter().zip(peers) {
        text.push_str(&format!("| PyTorch, {way} | {seconds:.1} | {:.2} | {peak_mib:.0} |\n", seconds / took));
    }
    text
}

fn step_table(rates: &[Rate]) -> String {
    let mut cells: BTreeMap<(u32, u32), BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    for rate in rates.iter().filter(|rate| rate.what != "together") {
        let key = ((1000.0 / rate.alpha).round() as u32, u32::MAX - rate.resolution);
        cells.entry(key).or_default().entry(&rate.what).or_default().push(rate.images_per_second);
    }
    let mut text = String::from(
        "| α | ρ | ours | PyTorch, eager | compiled | ours / the better one |\n|---|---|---|---|---|---|\n",
    );
    for ((width, side), of) in &cells {
        let rate = |what: &str| of.get(what).map_or(f64::NAN, |rates| rates.iter().copied().fold(0.0, f64::max));
        let (ours, eager, compiled) = (rate("ours"), rate("eager"), rate("compiled"));
        text.push_str(&format!(
            "| {:.2} | {} | {ours:.0} | {eager:.0} | {compiled:.0} | **{:.2}** |\n",
            1000.0 / f64::from(*width),
            u32::MAX - side,
            ours / eager.max(compiled),
        ));
    }
    text
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_means_and_to_ours() {
        let run = |seconds| Measured { seconds, peak_mib: 100.0 };
        let peers = vec![run(100.0); WAYS.len()];
        let table = grid_table(&[(40.0, 30.0)], &[run(45.0), run(55.0)], &peers);
        assert!(table.contains("| ours | 50.0 | 1.00 | 100 |"), "{table}");
        assert!(
            table.contains("cell after cell | 40.0 | 0.80 |") && table.contains("| 100.0 | 2.00 | 100 |"),
            "{table}"
        );
    }

    #[test]
    fn a_step_is_held_against_the_better_peer() {
        let rate = |what: &str, images_per_second| Rate {
            what: what.to_owned(),
            alpha: 0.25,
            resolution: 128,
            images_per_second,
            threads: 0,
            seconds: 0.0,
        };
        let table =
            step_table(&[rate("ours", 300.0), rate("eager", 100.0), rate("compiled", 200.0), rate("ours", 290.0)]);
        assert!(table.contains("| 0.25 | 128 | 300 | 100 | 200 | **1.50** |"), "{table}");
    }
}
