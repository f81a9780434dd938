//! `cargo xtask bench control-plane`: what a coordinator bears. Made-up workers hold real sessions with a real process
//! and its store on disk; beside it Ray Tune, Optuna and `HyperQueue` do as many empty trials, in the same run.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::background::{self, Background, MIB, Usage};
use crate::house::House;
use crate::install::remove_folder;
use crate::peers;
use crate::run::{Steps, answer, answer_of};
use crate::setup::{Wanted, setup};
use crate::test::cargo;

const SCRIPTS: &str = "bench/peers/control_plane";
/// Empty trials: script, its arguments, how many.
const PEERS: [(&str, &[&str], u64); 4] = [
    ("ray_tune.py", &[], 50),
    ("ray_tune.py", &["--reuse"], 200),
    ("optuna_sqlite.py", &[], 400),
    ("hyperqueue_cluster.py", &[], 10_000),
];
/// Of ours alone.
const TRIALS_MANY: u64 = 100_000;
/// Points of a message.
const POINTS: [u64; 2] = [10, 100];
const POINTS_SECONDS: u64 = 15;
/// Workers that heartbeat, and in how many processes.
const FLEETS: [(u64, u64); 3] = [(200, 1), (1_000, 1), (10_000, 4)];
const FLEET_SECONDS: u64 = 60;
/// Seeds of 16 cells, epochs of 10 points: 100,000 trials with 10,000,000 points.
const LARGE: [&str; 2] = ["6250", "10"];

/// One line of what a load or a peer prints.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Measured {
    what: String,
    trials: u64,
    seconds: f64,
    per_second: f64,
    submit_seconds: f64,
    points_of_message: u64,
    acknowledged: u64,
    back_seconds: Option<f64>,
    lost: Option<u64>,
    leases_ms: Vec<f64>,
    heartbeats_ms: Vec<f64>,
}

/// Builds, measures, prints tables in Markdown.
pub(crate) fn control_plane(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: Vec::new() }))?;
    let python = steps.step("peers", || peers::environment(house, &peers::CONTROL_PLANE))?;
    let build = ["build", "--release", "--bin", "alpharho", "--example", "load"];
    steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
    let bench = Bench { house, folder: house.state.join("bench/control-plane"), python };
    let mut text = steps.step("trials", || bench.trials())?;
    text += &steps.step("points", || bench.points())?;
    text += &steps.step("workers", || bench.fleets())?;
    text += &steps.step("start", || bench.starts())?;
    print!("\n{text}");
    Ok(())
}

struct Bench<'a> {
    house: &'a House,
    folder: PathBuf,
    python: PathBuf,
}

/// A coordinator that is measured, and its store.
struct Measuring {
    coordinator: Background,
    address: String,
    store: PathBuf,
}

impl Measuring {
    fn usage(&self) -> Result<Usage> {
        Usage::of(self.coordinator.id())
    }

    /// Of the store, its write-ahead log included.
    fn bytes(&self) -> u64 {
        let file = |end: &str| fs::metadata(self.store.with_extension(end)).map_or(0, |file| file.len());
        file("db") + file("db-wal")
    }
}

impl Bench<'_> {
    /// A coordinator of a new store, on a port that is free.
    fn coordinator(&self, name: &str) -> Result<Measuring> {
        let place = self.folder.join(name);
        remove_folder(&place)?;
        fs::create_dir_all(&place)?;
        let store = place.join("store.db");
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        self.coordinator_of(&store, &format!("127.0.0.1:{port}"))
    }

    fn coordinator_of(&self, store: &Path, listen: &str) -> Result<Measuring> {
        let alpharho = self.house.target().join("release/alpharho");
        let (coordinator, address) = background::coordinator_with(self.house, &alpharho, store, &["--listen", listen])?;
        Ok(Measuring { coordinator, address, store: store.to_owned() })
    }

    fn load(&self, arguments: &[&str]) -> Command {
        let mut load = self.house.command(self.house.target().join("release/examples/load"));
        load.args(arguments);
        load
    }

    /// Empty trials of ours and of the peers, as many.
    fn trials(&self) -> Result<String> {
        fs::create_dir_all(&self.folder)?;
        let mut text = String::from(
            "| empty trials | how many | seconds | trials/s | alpharho with as many, trials/s | ratio |\n|---|---|---|---|---|---|\n",
        );
        for (script, arguments, trials) in PEERS {
            let mut peer = self.house.command(&self.python);
            peer.arg(self.house.root.join(SCRIPTS).join(script)).args(["--trials", &trials.to_string()]);
            // Some leave files where they run.
            let peer: Measured = answer(peer.args(arguments).current_dir(&self.folder))?;
            let (ours, _) = self.trials_of_ours(trials)?;
            let rate = peer.trials as f64 / peer.seconds;
            let Measured { what, trials, seconds, .. } = peer;
            let ratio = ours.per_second / rate;
            let ours = ours.per_second;
            writeln!(text, "| {what} | {trials} | {seconds:.2} | {rate:.1} | {ours:.0} | {ratio:.0} |")?;
        }
        let (ours, used) = self.trials_of_ours(TRIALS_MANY)?;
        let Measured { trials, seconds, per_second, submit_seconds, .. } = ours;
        writeln!(text, "| alpharho | {trials} | {seconds:.2} | {per_second:.0} | | |")?;
        let (usage, bytes) = used;
        writeln!(
            text,
            "\n{trials} trials were submitted in {submit_seconds:.2} s. The coordinator took {:.0} µs of processor time a \
             trial, {:.0} MiB of memory at most, and {:.2} kB of disk a trial.\n",
            usage.cpu_seconds / trials as f64 * 1e6,
            usage.peak_bytes / MIB,
            bytes as f64 / trials as f64 / 1e3,
        )?;
        Ok(text)
    }

    fn trials_of_ours(&self, trials: u64) -> Result<(Measured, (Usage, u64))> {
        let measuring = self.coordinator("trials")?;
        let load = answer(&mut self.load(&["trials", &measuring.address, "t", &trials.to_string(), "16", "16"]))?;
        Ok((load, (measuring.usage()?, measuring.bytes())))
    }

    /// Metric points; in the last run the coordinator is killed while they come.
    fn points(&self) -> Result<String> {
        let mut text = String::from(
            "| metric points of 64 workers | acknowledged | points/s | coordinator's processors | bytes a point | after SIGKILL, \
             back in | acknowledged and lost |\n|---|---|---|---|---|---|---|\n",
        );
        for (points, is_killed) in POINTS.map(|points| (points, false)).into_iter().chain([(POINTS[0], true)]) {
            let mut measuring = self.coordinator("points")?;
            let (seconds, points) = (POINTS_SECONDS.to_string(), points.to_string());
            let mut load = self.load(&["points", &measuring.address, "p", "64", &seconds, &points]);
            let load = load.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the load")?;
            if is_killed {
                thread::sleep(Duration::from_secs(POINTS_SECONDS / 2));
                let listen = measuring.address.trim_start_matches("http://").to_owned();
                let store = measuring.store.clone();
                // Killed when it is dropped.
                drop(measuring);
                measuring = self.coordinator_of(&store, &listen)?;
            }
            let load: Measured = answer_of(load, "load")?;
            let usage = measuring.usage()?;
            let or_none = |text: Option<String>| text.unwrap_or_default();
            let running = !is_killed;
            writeln!(
                text,
                "| {} a message | {} | {:.0} | {} | {:.1} | {} | {} |",
                load.points_of_message,
                load.acknowledged,
                load.per_second,
                or_none(running.then(|| format!("{:.2}", usage.cpu_seconds / load.seconds))),
                measuring.bytes() as f64 / load.acknowledged as f64,
                or_none(load.back_seconds.map(|seconds| format!("{seconds:.2} s"))),
                or_none(load.lost.map(|lost| lost.to_string())),
            )?;
        }
        text.push('\n');
        Ok(text)
    }

    /// Heartbeats of many workers, and the leases they wait for.
    fn fleets(&self) -> Result<String> {
        let mut text = String::from(
            "| workers, a heartbeat every 5 s | leases | p50 | p99 | longest | heartbeats acknowledged, p50 | p99 | coordinator's \
             processors | memory at the end | at most |\n|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for (workers, processes) in FLEETS {
            let measuring = self.coordinator("workers")?;
            let (each, seconds) = (workers / processes, FLEET_SECONDS.to_string());
            let mut loads = Vec::new();
            for process in 0..processes {
                let (sweep, first) = (format!("l{process}"), (1 + process * each).to_string());
                let arguments = ["leases", &measuring.address, &sweep, &each.to_string(), &seconds, &first];
                let mut load = self.load(&arguments);
                let load = load.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
                loads.push(load.context("cannot start the load")?);
            }
            // Looked at while all are there.
            thread::sleep(Duration::from_secs(FLEET_SECONDS.saturating_sub(3)));
            let usage = measuring.usage()?;
            let (mut leases, mut heartbeats) = (Vec::new(), Vec::new());
            for load in loads {
                let load: Measured = answer_of(load, "load")?;
                leases.extend(load.leases_ms);
                heartbeats.extend(load.heartbeats_ms);
            }
            let (leases, heartbeats) = (Times::of(leases)?, Times::of(heartbeats)?);
            writeln!(
                text,
                "| {workers} | {} | {:.1} ms | {:.1} ms | {:.0} ms | {:.1} ms | {:.1} ms | {:.2} | {:.0} MiB | {:.0} MiB |",
                leases.0.len(),
                leases.share(0.5),
                leases.share(0.99),
                leases.share(1.0),
                heartbeats.share(0.5),
                heartbeats.share(0.99),
                usage.cpu_seconds / (FLEET_SECONDS - 3) as f64,
                usage.resident_bytes / MIB,
                usage.peak_bytes / MIB,
            )?;
        }
        text.push('\n');
        Ok(text)
    }

    /// Until it answers, with a large store; after it was stopped, and after it was killed.
    fn starts(&self) -> Result<String> {
        let place = self.folder.join("large");
        remove_folder(&place)?;
        fs::create_dir_all(&place)?;
        let store = place.join("store.db");
        let path = store.to_str().context("the folder's name is not UTF-8")?;
        let begun = Instant::now();
        let status = self.load(&[&["fill", path, "large"], &LARGE[..]].concat()).status()?;
        ensure!(status.success(), "the large store could not be made");
        let filling = begun.elapsed().as_secs_f64();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let listen = format!("127.0.0.1:{port}");
        let mut text = String::new();
        for after in ["an orderly stop", "SIGKILL"] {
            let begun = Instant::now();
            let measuring = self.coordinator_of(&store, &listen)?;
            let answers = self.load(&["answers", &measuring.address]).stdout(Stdio::null()).status()?;
            ensure!(answers.success(), "the coordinator did not answer");
            let seconds = begun.elapsed().as_secs_f64();
            let usage = measuring.usage()?;
            writeln!(
                text,
                "With 100,000 trials and 10,000,000 points (made in {filling:.0} s, {:.2} GB), after {after}: answers in \
                 {seconds:.2} s, with {:.0} MiB of memory.\n",
                measuring.bytes() as f64 / 1e9,
                usage.resident_bytes / MIB,
            )?;
        }
        remove_folder(&place)?;
        Ok(text)
    }
}

/// Sorted.
struct Times(Vec<f64>);

impl Times {
    fn of(mut times: Vec<f64>) -> Result<Self> {
        ensure!(!times.is_empty(), "nothing was measured");
        times.sort_by(f64::total_cmp);
        Ok(Self(times))
    }

    /// The time that this share of all did not exceed.
    fn share(&self, share: f64) -> f64 {
        let place = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(place.max(1) - 1).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_times() {
        let times = Times::of((1..=200).rev().map(f64::from).collect()).unwrap();
        let shares = [0.0, 0.5, 0.99, 1.0].map(|share| times.share(share));
        assert_eq!(shares, [1.0, 100.0, 198.0, 200.0]);
        assert!(Times::of(Vec::new()).is_err());
    }

    #[test]
    fn the_peers_are_there() {
        for (script, _, _) in PEERS {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(SCRIPTS).join(script);
            assert!(path.exists(), "{}", path.display());
        }
    }
}
