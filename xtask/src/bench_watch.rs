//! `cargo xtask bench watch`: how soon the dashboard shows a full screen and what it takes while nothing happens, on a
//! sweep of 16 trials and on one of 10,000 with a million points; beside the time that TensorBoard takes to load the
//! same scalars.

use std::fs;
use std::process::Stdio;

use anyhow::Result;
use serde::Deserialize;

use crate::background::{self, MIB};
use crate::house::House;
use crate::install::remove_folder;
use crate::peers;
use crate::run::{Steps, answer};
use crate::setup::{Wanted, setup};
use crate::test::cargo;

const SCRIPTS: &str = "bench/peers/watch";
/// Name, seeds of each of the 16 cells, epochs of 10 points.
const SWEEPS: [(&str, u32, u32); 2] = [("watch-16", 1, 100), ("watch-10000", 625, 10)];

/// What `measure.py` prints.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Measured {
    sweep: String,
    first_screen_seconds: f64,
    idle_cpu_share: f64,
    resident_bytes: f64,
    resident_anonymous_bytes: f64,
}

/// What `accumulate.py` prints.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Loaded {
    scalars: u64,
    seconds: f64,
}

/// Builds, makes both stores, measures, prints a table in Markdown.
pub(crate) fn watch(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: Vec::new() }))?;
    let python = steps.step("peers", || peers::environment(house, &peers::WEIGHTS))?;
    let build = ["build", "--release", "--bin", "alpharho"];
    steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
    let build = ["build", "--release", "--package", "alpharho-coordinator", "--example", "load"];
    steps.run("build stores", &mut cargo(house, &libtorch, &build)?)?;
    let alpharho = house.target().join("release/alpharho");
    let folder = house.state.join("bench/watch");
    let mut rows = Vec::new();
    for (sweep, seeds, epochs) in SWEEPS {
        let place = folder.join(sweep);
        remove_folder(&place)?;
        fs::create_dir_all(&place)?;
        let store = place.join("store.db");
        let mut make = house.command(house.target().join("release/examples/load"));
        make.arg("fill").arg(&store).args([sweep, &seeds.to_string(), &epochs.to_string()]);
        steps.run("store", &mut make)?;
        // Of its own, so that only the dashboard is measured.
        let coordinator = background::coordinator(house, &alpharho, &store)?;
        let mut measure = house.command(&python);
        measure.arg(house.root.join(SCRIPTS).join("measure.py")).arg(&alpharho).args([sweep, "--store"]).arg(&store);
        let measured: Measured = steps.step("watch", || answer(&mut measure))?;
        drop(coordinator);
        let events = place.join("events");
        let mut export = house.command(&alpharho);
        export.args(["export", sweep, "--only", "tensorboard", "--out"]).arg(&events).arg("--store").arg(&store);
        steps.run("event files", export.stdout(Stdio::null()))?;
        let mut accumulate = house.command(&python);
        accumulate.arg(house.root.join(SCRIPTS).join("accumulate.py")).arg(&events);
        let loaded: Loaded = steps.step("tensorboard", || answer(&mut accumulate))?;
        rows.push((measured, loaded));
    }
    print!("{}", table(&rows));
    Ok(())
}

fn table(rows: &[(Measured, Loaded)]) -> String {
    let mut text = String::from(
        "| sweep | first full screen | idle, of one core | resident memory | of it heap | TensorBoard's loading | scalars \
         |\n|---|---|---|---|---|---|---|\n",
    );
    for (measured, loaded) in rows {
        text.push_str(&format!(
            "| {} | {:.0} ms | {:.2} % | {:.1} MiB | {:.1} MiB | {:.0} ms | {} |\n",
            measured.sweep,
            measured.first_screen_seconds * 1e3,
            measured.idle_cpu_share * 100.0,
            measured.resident_bytes / MIB,
            measured.resident_anonymous_bytes / MIB,
            loaded.seconds * 1e3,
            loaded.scalars,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_sweep() {
        let measured = r#"{"what": "watch", "sweep": "s", "first_screen_seconds": 0.0824, "idle_cpu_share": 0.0012,
            "idle_bytes_written": 0, "resident_bytes": 10485760, "resident_anonymous_bytes": 5242880}"#;
        let loaded = r#"{"what": "tensorboard", "runs": 16, "scalars": 16000, "seconds": 1.5}"#;
        let row = (serde_json::from_str(measured).unwrap(), serde_json::from_str(loaded).unwrap());
        let text = table(&[row]);
        assert!(text.ends_with("| s | 82 ms | 0.12 % | 10.0 MiB | 5.0 MiB | 1500 ms | 16000 |\n"), "{text}");
    }
}
