//! `cargo xtask bench input`: images a second and core, ours and torchvision's in turn on the same files.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use crate::house::House;
use crate::install::Recipe;
use crate::peers;
use crate::run::{Steps, answer};
use crate::setup::{Data, Wanted, setup};
use crate::test::cargo;

const SCRIPTS: &str = "bench/peers/input";
const IMAGES: usize = 2_000;
/// What each is asked for: one cell, and the four of a column of the grid.
const RESOLUTIONS: [&str; 2] = ["224", "224,192,160,128"];
const WAYS: [&str; 3] = ["tensor", "tensor-nhwc", "pil"];
/// Ours and the peers take turns so often.
const ROUNDS: usize = 5;
const SECONDS: &str = "2";

/// What each of them prints.
#[derive(Clone, Debug, Deserialize)]
struct Measured {
    per_second: f64,
    #[serde(default)]
    first_epoch_per_second: f64,
}

/// One turn of all.
#[derive(Clone, Debug, Default)]
struct Round {
    ours: f64,
    first_epoch: f64,
    peers: Vec<f64>,
}

/// Builds, measures, prints a table in Markdown.
pub(crate) fn input(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: vec![Data::Gcompris] }))?;
    let python = steps.step("peers", || peers::environment(house, &peers::WEIGHTS))?;
    let build = ["build", "--release", "--package", "alpharho-images", "--example", "input"];
    steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
    let folder = house.state.join("bench/input");
    photographs(house, &python, &folder, &mut steps)?;
    let example = house.target().join("release/examples/input");
    let mut table = String::from(
        "| ρ | ours | ours, first epoch | torchvision, tensors | tensors, NHWC | Pillow | ours / best of torchvision, median | from | to |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for resolutions in RESOLUTIONS {
        let rounds = steps.step("measure", || {
            (0..ROUNDS).map(|_| round(house, &python, &example, &folder, resolutions)).collect::<Result<Vec<_>>>()
        })?;
        table.push_str(&row(resolutions, &rounds));
    }
    let decoding = peer(house, &python, &folder, "224", "decode")?;
    let zune: Measured = answer(house.command(&example).arg(&folder).args(["decode", SECONDS]))?;
    let zune = zune.per_second;
    println!("\n{table}\nDecoding alone, whole: torchvision's decode_jpeg {decoding:.0}/s, zune-jpeg {zune:.0}/s");
    Ok(())
}

/// The photographs as JPEG under 2,000 names, made where they are missing.
fn photographs(house: &House, python: &Path, folder: &Path, steps: &mut Steps) -> Result<()> {
    let recipe = Recipe { stamp: "bench input recipe 1".to_owned(), required: &["animal", "tool"] };
    if recipe.is_installed(folder) {
        return Ok(());
    }
    std::fs::create_dir_all(house.state.join("bench"))?;
    recipe.install(folder, |out| {
        let mut make = house.command(python);
        make.arg(house.root.join(SCRIPTS).join("photographs.py"));
        make.arg(house.data("gcompris").join("photographs")).arg(out).arg(IMAGES.to_string());
        steps.run("photographs", &mut make)
    })
}

fn round(house: &House, python: &Path, example: &Path, folder: &Path, resolutions: &str) -> Result<Round> {
    let ours: Measured = answer(house.command(example).arg(folder).args([resolutions, SECONDS]))?;
    let peers = WAYS.iter().map(|way| peer(house, python, folder, resolutions, way)).collect::<Result<_>>()?;
    Ok(Round { ours: ours.per_second, first_epoch: ours.first_epoch_per_second, peers })
}

fn peer(house: &House, python: &Path, folder: &Path, resolutions: &str, way: &str) -> Result<f64> {
    let mut command = house.command(python);
    command.arg(house.root.join(SCRIPTS).join("loading.py")).arg(folder).args([resolutions, SECONDS, way]);
    let measured: Measured = answer(command.env("PYTHONDONTWRITEBYTECODE", "1"))?;
    Ok(measured.per_second)
}

fn row(resolutions: &str, rounds: &[Round]) -> String {
    let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let mut ratios: Vec<f64> =
        rounds.iter().map(|round| round.ours / round.peers.iter().copied().fold(0.0, f64::max)).collect();
    ratios.sort_by(f64::total_cmp);
    let peers: Vec<String> = (0..WAYS.len()).map(|way| format!("{:.0}", of(&|round| round.peers[way]))).collect();
    format!(
        "| {resolutions} | {:.0} | {:.0} | {} | {:.2} | {:.2} | {:.2} |\n",
        of(&|round| round.ours),
        of(&|round| round.first_epoch),
        peers.join(" | "),
        median(ratios.clone()),
        ratios.first().copied().unwrap_or(f64::NAN),
        ratios.last().copied().unwrap_or(f64::NAN),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_to_the_best_peer_of_the_same_round() {
        let round = |ours, peers: [f64; 3]| Round { ours, first_epoch: ours / 2.0, peers: peers.into() };
        let rounds = [round(200.0, [100.0, 50.0, 10.0]), round(300.0, [50.0, 100.0, 10.0]), round(80.0, [80.0; 3])];
        let text = row("224", &rounds);
        assert_eq!(text, "| 224 | 200 | 100 | 80 | 80 | 10 | 2.00 | 1.00 | 3.00 |\n");
    }
}
