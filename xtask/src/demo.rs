//! `cargo xtask demo`: from a bare machine to a trade-off curve.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::house::House;
use crate::run::Steps;
use crate::setup::{Data, Wanted, setup};
use crate::test::{cargo, room_for_build};

const SWEEP: &str = "sweeps/quickstart.yaml";
/// Where `alpharho run` exports to.
const RESULTS: &str = "runs/quickstart";

/// Sets up, builds in release mode, trains the quickstart sweep, and prints its cells and where the results lie.
pub(crate) fn demo(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let wanted = Wanted { cuda: false, data: vec![Data::Elpv] };
    let libtorch = steps.step("setup", || setup(house, &wanted))?;
    room_for_build(house, "release/alpharho-trainer", 4)?;
    let packages = ["--bin", "alpharho", "--bin", "alpharho-worker", "--bin", "alpharho-trainer"];
    let arguments = [&["build", "--release"], &packages[..]].concat();
    steps.run("release build", &mut cargo(house, &libtorch, &arguments)?)?;

    // As a person would start it: finding libtorch is the agent's work.
    let mut run = house.command(house.target().join("release/alpharho"));
    run.args(["run", SWEEP]);
    steps.step("sweep", || {
        println!("$ alpharho run {SWEEP}");
        let status = run.status().with_context(|| format!("cannot start {}", run.get_program().display()))?;
        ensure!(
            status.success(),
            "alpharho run {SWEEP} ended with {status}; what is trained is kept, the same command goes on from there"
        );
        Ok(())
    })?;
    steps.print_durations();

    let results = house.root.join(RESULTS);
    let table = results.join("grid.md");
    println!("\n{}", fs::read_to_string(&table).with_context(|| format!("the run left no {}", table.display()))?);
    for name in ["tradeoff.svg", "tradeoff.png", "grid.csv", "grid.md"] {
        println!("{}", results.join(name).display());
    }
    Ok(())
}
