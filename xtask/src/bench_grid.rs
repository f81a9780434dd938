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
/// Of which 16 are held out.
const IMAGES: usize = 336;
/// One of so many.
const HELD_OUT: usize = 21;
/// Of an epoch of the other 320.
const BATCHES: f64 = 10.0;
/// What is taken and given back before each run, so that none pays for memory that a hypervisor has taken away meanwhile.
const WARM_GIB: &str = "8";
/// Where Debian has it.
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const JEMALLOC_CONF: &str =
    "oversize_threshold:1,dirty_decay_ms:-1,muzzy_decay_ms:-1,background_thread:true,metadata_thp:auto,thp:always";

/// How PyTorch trains the cells.
struct Way {
    /// In words.
    what: &'static str,
    script: &'static str,
    jemalloc: bool,
    arguments: &'static [&'static str],
    /// Whether it is one of the few that are tried on the second set of images too.
    on_both: bool,
}

const fn way(what: &'static str, jemalloc: bool, arguments: &'static [&'static str], on_both: bool) -> Way {
    Way { what, script: "train_cells.py", jemalloc, arguments, on_both }
}

const BY_TWO: &[&str] = &["--loaders", "0", "--channels-last", "--threads", "1", "--together", "2"];
const WAYS: [Way; 6] = [
    way("as people run it: 2 loader processes", false, &["--loaders", "2"], true),
    way("jemalloc preloaded", true, &["--loaders", "2"], false),
    way("jemalloc, channels_last", true, &["--loaders", "2", "--channels-last"], false),
    way("jemalloc, channels_last, no loader processes", true, &["--loaders", "0", "--channels-last"], false),
    way("the same, two cells at a time with a thread each", true, BY_TWO, true),
    Way {
        what: "the same by Ray Tune, two trials at a time",
        script: "ray_cells.py",
        jemalloc: true,
        arguments: BY_TWO,
        on_both: false,
    },
];

/// Images, and the sweep over them.
struct Images {
    name: &'static str,
    /// That must be there.
    folders: [&'static str; 2],
    sweep: &'static str,
    is_second: bool,
}

const SETS: [Images; 2] = [
    Images { name: "photographs", folders: ["train/animal", "validation/tool"], sweep: "grid.yaml", is_second: false },
    Images { name: "elpv", folders: ["train/0", "validation/1"], sweep: "grid-elpv.yaml", is_second: true },
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

/// What `roofline.py` prints.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Roofline {
    convolve_gflops: f64,
    multiply_gflops: f64,
    read_gb_s: f64,
    copy_gb_s: f64,
}

struct Bench<'a> {
    house: &'a House,
    libtorch: Libtorch,
    python: PathBuf,
    threads: String,
}

/// Builds, measures, prints tables in Markdown. Given a number of pairs, that of ours on the first set, each after its
/// floor, and no peers.
pub(crate) fn grid(house: &House, pairs: Option<usize>) -> Result<()> {
    let mut steps = Steps::default();
    let bench = Bench::prepare(house, &mut steps)?;
    let build = ["build", "--release", "--bin", "alpharho", "--bin", "alpharho-worker", "--bin", "alpharho-trainer"];
    steps.run("build", &mut cargo(house, &bench.libtorch, &build)?)?;
    if let Some(pairs) = pairs {
        return bench.pairs(pairs, &mut steps);
    }
    jemalloc()?;
    let ray = steps.step("Ray", || peers::environment(house, &peers::CONTROL_PLANE))?;
    let folder = house.state.join("bench/grid");
    let mut measured = Vec::new();
    for images in &SETS {
        photographs(&bench, images, &folder, &mut steps)?;
        let ways: Vec<&Way> = WAYS.iter().filter(|way| way.on_both || !images.is_second).collect();
        // Before and after the peers, each time with the floor: machines are noisy.
        let mut floors = vec![steps.step("floor", || bench.floor())?];
        let mut ours = vec![steps.step("ours", || bench.ours(images, &folder))?];
        let mut peers = Vec::new();
        for way in &ways {
            println!("PyTorch, {}", way.what);
            peers.push(bench.peer(images, &folder, way, &ray)?);
        }
        ours.push(steps.step("ours", || bench.ours(images, &folder))?);
        floors.push(steps.step("floor", || bench.floor())?);
        measured.push((images.name, floors, ours, ways, peers));
    }
    for (name, floors, ours, ways, peers) in &measured {
        println!("\n{name}\n\n{}", grid_table(floors, ours, ways, peers));
    }
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
        rates.extend(steps.step(how, || if how == "ours" { bench.steps("each", "2") } else { bench.peer_steps(how) })?);
    }
    let Roofline { convolve_gflops, multiply_gflops, read_gb_s, copy_gb_s } =
        answer(bench.peer_script("roofline.py").args(["--threads", &bench.threads]))?;
    println!(
        "\n{}\nThe machine at most: {convolve_gflops:.0} GFLOP/s in a pointwise convolution, {multiply_gflops:.0} in a product of \
         matrices; memory is read at {read_gb_s:.0} GB/s and copied at {copy_gb_s:.0}.",
        step_table(&rates)
    );
    Ok(())
}

impl<'a> Bench<'a> {
    fn prepare(house: &'a House, steps: &mut Steps) -> Result<Self> {
        let libtorch =
            steps.step("setup", || setup(house, &Wanted { cuda: false, data: vec![Data::Gcompris, Data::Elpv] }))?;
        let python = steps.step("peers", || peers::environment(house, &peers::WEIGHTS))?;
        let build = ["build", "--release", "-p", "alpharho-trainer", "--example", "steps"];
        steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
        let threads = available_parallelism().context("how many cores there are")?.to_string();
        Ok(Self { house, libtorch, python, threads })
    }

    /// Ours and the floor next to each other: on a noisy machine their ratio says more than either.
    fn pairs(&self, pairs: usize, steps: &mut Steps) -> Result<()> {
        let folder = self.house.state.join("bench/grid");
        let images = &SETS[0];
        photographs(self, images, &folder, steps)?;
        let mut measured = Vec::new();
        for _ in 0..pairs.max(1) {
            let floor = steps.step("floor", || self.floor())?;
            measured.push((floor, steps.step("ours", || self.ours(images, &folder))?));
        }
        println!("\n{}", pairs_table(&measured));
        Ok(())
    }

    /// Seconds of all steps alone: one cell at a time, and the better of that and all side by side.
    fn floor(&self) -> Result<(f64, f64)> {
        let together = self.steps("together", "8")?;
        let threads = self.threads.parse::<u32>()?;
        let in_turn = together.iter().find(|rate| rate.threads == threads).context("no cells in turn")?.seconds;
        let best = together.iter().map(|rate| rate.seconds).fold(in_turn, f64::min);
        Ok((in_turn * BATCHES, best * BATCHES))
    }

    fn steps(&self, how: &str, seconds: &str) -> Result<Vec<Rate>> {
        let mut command = self.house.command(self.house.target().join("release/examples/steps"));
        answers(command.args([how, &self.threads, seconds]))
    }

    fn peer_steps(&self, how: &str) -> Result<Vec<Rate>> {
        answers(self.peer_script("steps.py").args([how, "--threads", &self.threads]))
    }

    /// With the allocator that serves PyTorch best.
    fn peer_script(&self, name: &str) -> Command {
        let mut command = self.script(name);
        command.env("LD_PRELOAD", JEMALLOC).env("MALLOC_CONF", JEMALLOC_CONF);
        command
    }

    /// As a user would: from the command to the exported results.
    fn ours(&self, images: &Images, folder: &Path) -> Result<Measured> {
        let store = folder.join("store");
        remove_folder(&store)?;
        let mut command = self.measured();
        command.arg(self.house.target().join("release/alpharho")).arg("run");
        command.arg(self.house.root.join(SCRIPTS).join(images.sweep));
        command.arg("--store").arg(store.join("grid.db")).arg("--out").arg(store.join("results"));
        command.arg("--data").arg(format!("{}={}", images.name, folder.join(images.name).display()));
        answer(&mut command)
    }

    /// `ray`: the Python that has Ray. Its packages are shown to the one that has PyTorch.
    fn peer(&self, images: &Images, folder: &Path, way: &Way, ray: &Path) -> Result<Measured> {
        let mut command = self.measured();
        command.arg(&self.python).arg(self.house.root.join(SCRIPTS).join(way.script));
        command.arg(folder.join(images.name)).args(way.arguments);
        if way.jemalloc {
            command.env("LD_PRELOAD", JEMALLOC).env("MALLOC_CONF", JEMALLOC_CONF);
        }
        if way.script == "ray_cells.py" {
            let print = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))";
            let paths: BTreeMap<String, String> = answer(self.house.command(ray).args(["-c", print]))?;
            command.env("PYTHONPATH", paths.get("purelib").context("a Python without packages")?);
        }
        answer(&mut command)
    }

    /// To be followed by a command.
    fn measured(&self) -> Command {
        let mut command = self.script("measured.py");
        command.args(["--warm", WARM_GIB]);
        command
    }

    fn script(&self, name: &str) -> Command {
        let mut command = self.house.command(&self.python);
        command.arg(self.house.root.join(SCRIPTS).join(name)).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// The images in a folder per class, for training and held out, made where they are missing: photographs as JPEG, solar
/// cells as they are.
fn photographs(bench: &Bench<'_>, images: &Images, folder: &Path, steps: &mut Steps) -> Result<()> {
    let place = folder.join(images.name);
    let recipe = Recipe { stamp: "bench grid recipe 2".to_owned(), required: &images.folders };
    if recipe.is_installed(&place) {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    recipe.install(&place, |out| {
        let train = out.join("train");
        if images.is_second {
            solar_cells(&bench.house.data("elpv"), &train)?;
        } else {
            let mut make = bench.house.command(&bench.python);
            make.arg(bench.house.root.join(PHOTOGRAPHS));
            make.arg(bench.house.data("gcompris").join("photographs")).arg(&train).arg(IMAGES.to_string());
            steps.run("photographs", &mut make)?;
        }
        hold_out(&train, &out.join("validation"))
    })
}

/// Moves some of each class, so that everybody holds out the same.
fn hold_out(train: &Path, validation: &Path) -> Result<()> {
    let files = |folder: &Path| -> Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        paths.sort();
        Ok(paths)
    };
    let mut all = Vec::new();
    for class in files(train)? {
        all.extend(files(&class)?);
    }
    for path in all.iter().skip(HELD_OUT - 1).step_by(HELD_OUT) {
        let to = validation.join(path.strip_prefix(train)?);
        std::fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
        std::fs::rename(path, to)?;
    }
    Ok(())
}

/// As many of ELPV as of the photographs, by whether they are defective.
fn solar_cells(from: &Path, out: &Path) -> Result<()> {
    let rows = std::fs::read_to_string(from.join("defect.csv")).context("ELPV's defect.csv cannot be read")?;
    for row in rows.lines().skip(1).take(IMAGES) {
        let (path, class) = row.split_once(',').context("a row of defect.csv without label")?;
        let name = Path::new(path).file_name().context("a row of defect.csv without file")?;
        std::fs::create_dir_all(out.join(class))?;
        std::fs::copy(from.join(path), out.join(class).join(name)).with_context(|| format!("cannot copy {path}"))?;
    }
    Ok(())
}

fn grid_table(floors: &[(f64, f64)], ours: &[Measured], ways: &[&Way], peers: &[Measured]) -> String {
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
    for (way, Measured { seconds, peak_mib }) in ways.iter().zip(peers) {
        let what = way.what;
        text.push_str(&format!("| PyTorch, {what} | {seconds:.1} | {:.2} | {peak_mib:.0} |\n", seconds / took));
    }
    text
}

fn pairs_table(measured: &[((f64, f64), Measured)]) -> String {
    let mut text = String::from("| ours, seconds | floor: cell after cell | ours / floor |\n|---|---|---|\n");
    let mut ratios: Vec<f64> = measured.iter().map(|((floor, _), ours)| ours.seconds / floor).collect();
    for (((floor, _), ours), ratio) in measured.iter().zip(&ratios) {
        text.push_str(&format!("| {:.1} | {floor:.1} | {ratio:.3} |\n", ours.seconds));
    }
    ratios.sort_by(f64::total_cmp);
    text.push_str(&format!("| | median | **{:.3}** |\n", ratios[ratios.len() / 2]));
    text
}

fn step_table(rates: &[Rate]) -> String {
    let mut cells: BTreeMap<(u32, u32), BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    for rate in rates {
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
        let ways: Vec<&Way> = WAYS.iter().collect();
        let table = grid_table(&[(40.0, 30.0)], &[run(45.0), run(55.0)], &ways, &peers);
        assert!(table.contains("| ours | 50.0 | 1.00 | 100 |"), "{table}");
        assert!(
            table.contains("cell after cell | 40.0 | 0.80 |") && table.contains("| 100.0 | 2.00 | 100 |"),
            "{table}"
        );
    }

    #[test]
    fn pairs_are_told_by_their_median() {
        let pair = |floor, seconds| ((floor, 0.0), Measured { seconds, peak_mib: 0.0 });
        let table = pairs_table(&[pair(10.0, 20.0), pair(10.0, 11.0), pair(20.0, 24.0)]);
        assert!(table.contains("| 24.0 | 20.0 | 1.200 |") && table.contains("**1.200**"), "{table}");
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
