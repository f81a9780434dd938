//! `cargo xtask peers`: exported networks and metrics, held against the programs that people will read them with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::house::House;
use crate::install::Recipe;
use crate::libtorch::Libtorch;
use crate::needs;
use crate::run::Steps;
use crate::setup::{Data, Wanted, setup};
use crate::test::{cargo, room_for_build};

/// Scripts, pins and small sweeps.
const SCRIPTS: &str = "bench/peers/weights";
/// Sweeps of one epoch that are trained and checked when no sweep is named.
const SWEEPS: [&str; 3] = ["peers-mobilenet", "peers-shallow", "peers-conv"];
/// What the checks read.
const EXPORTS: &str = "weights,onnx,tensorboard,metrics.csv";
/// The oldest Python that has wheels of all pins.
const IS_PYTHON_3_11: &str = "import sys, venv; sys.exit(sys.version_info < (3, 11))";

/// A sweep that was trained already.
#[derive(Clone, Debug)]
pub(crate) struct Trained {
    /// Its name.
    pub(crate) sweep: String,
    /// The store that holds it.
    pub(crate) store: PathBuf,
    /// The folder of its checkpoints.
    pub(crate) artifacts: PathBuf,
}

/// Sets up Python's side, builds, trains three small sweeps where none is named, exports and compares; prints the
/// largest difference of each trial.
pub(crate) fn peers(house: &House, trained: Option<Trained>) -> Result<()> {
    let mut steps = Steps::default();
    let data = if trained.is_none() { vec![Data::Elpv] } else { Vec::new() };
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data }))?;
    let python = steps.step("peers", || environment(house, &WEIGHTS))?;
    build(house, &libtorch, &mut steps)?;

    let alpharho = house.target().join("debug/alpharho");
    let place = house.state.join("peers");
    let sweeps = match trained {
        Some(trained) => vec![trained],
        None => {
            let (store, artifacts) = (place.join("store/peers.db"), place.join("store/artifacts"));
            for sweep in SWEEPS {
                let mut run = house.command(&alpharho);
                run.arg("run").arg(Path::new(SCRIPTS).join(format!("{sweep}.yaml"))).arg("--store").arg(&store);
                steps.run("train", &mut run)?;
            }
            let known =
                |sweep: &str| Trained { sweep: sweep.to_owned(), store: store.clone(), artifacts: artifacts.clone() };
            SWEEPS.map(known).into()
        }
    };
    for Trained { sweep, store, artifacts } in &sweeps {
        let out = place.join("exports").join(sweep);
        crate::install::remove_folder(&out)?;
        let mut export = house.command(&alpharho);
        export.args(["export", sweep, "--only", EXPORTS, "--out"]).arg(&out);
        export.arg("--store").arg(store).arg("--artifacts").arg(artifacts);
        steps.run("export", export.stdout(Stdio::null()))?;
        let mut check = house.command(&python);
        check.arg(house.root.join(SCRIPTS).join("check.py")).arg(&out).arg("--artifacts").arg(artifacts);
        check.arg("--logits").arg(house.target().join("debug/examples/logits"));
        check.arg("--report").arg(out.join("peers.md"));
        steps.run("check", check.env("PYTHONDONTWRITEBYTECODE", "1"))?;
    }
    steps.print_durations();
    for Trained { sweep, .. } in &sweeps {
        println!("{}", place.join("exports").join(sweep).join("peers.md").display());
    }
    Ok(())
}

fn build(house: &House, libtorch: &Libtorch, steps: &mut Steps) -> Result<()> {
    room_for_build(house, "debug/alpharho-trainer", 10)?;
    let bins = ["--bin", "alpharho", "--bin", "alpharho-worker", "--bin", "alpharho-trainer"];
    steps.run("build", &mut cargo(house, libtorch, &[&["build"], &bins[..]].concat())?)?;
    let example = ["build", "--package", "alpharho-trainer", "--example", "logits"];
    steps.run("build logits", &mut cargo(house, libtorch, &example)?)
}

/// Packages that are held against ours, in an environment of their own.
#[derive(Debug)]
pub(crate) struct Packages {
    /// Where `requirements.txt` is.
    scripts: &'static str,
    /// Below the folder of all environments.
    folder: &'static str,
    what: &'static str,
    gigabytes: u64,
}

/// What reads networks and metrics, or exchanges gradients.
pub(crate) const WEIGHTS: Packages = Packages {
    scripts: SCRIPTS,
    folder: "peers/python",
    what: "PyTorch with timm, onnxruntime and TensorBoard",
    gigabytes: 8,
};
/// What schedules trials.
pub(crate) const CONTROL_PLANE: Packages = Packages {
    scripts: "bench/peers/control_plane",
    folder: "peers/control-plane",
    what: "Ray Tune, Optuna and HyperQueue",
    gigabytes: 2,
};

/// The Python of a virtual environment with the pinned packages, made where it is missing.
pub(crate) fn environment(house: &House, packages: &Packages) -> Result<PathBuf> {
    let requirements = house.root.join(packages.scripts).join("requirements.txt");
    let pins = fs::read_to_string(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let folder = house.state.join(packages.folder);
    let recipe = Recipe { stamp: format!("peers recipe 1\n{pins}"), required: &["bin/python"] };
    if !recipe.is_installed(&folder) {
        let python = needs::python()?.python;
        let answers = house.command(&python).args(["-c", IS_PYTHON_3_11]).status();
        ensure!(
            answers.is_ok_and(|status| status.success()),
            "{} is older than 3.11, or has no venv; the pinned packages need both. Install them (Debian, Ubuntu: \
             apt-get install python3-venv), then run the same command again",
            python.display()
        );
        fs::create_dir_all(house.state.join("peers"))?;
        needs::disk(&house.state, packages.gigabytes, packages.what)?;
        recipe.install(&folder, |out| {
            run(house.command(&python).args(["-m", "venv"]).arg(out))?;
            let mut pip = house.command(out.join("bin/python"));
            pip.args(["-m", "pip", "install", "--no-deps", "--disable-pip-version-check", "--requirement"]);
            run(pip.arg(&requirements))
        })?;
    }
    Ok(folder.join("bin/python"))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {program}"))?;
    ensure!(status.success(), "{program} ended with {status}; its messages above say why");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn every_package_is_pinned() {
        let check = |packages: &Packages, named: &[&str]| {
            let text = fs::read_to_string(root().join(packages.scripts).join("requirements.txt")).unwrap();
            let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            for package in named {
                assert!(lines.iter().any(|line| line.starts_with(&format!("{package}=="))), "{package}");
            }
            for line in lines {
                let (name, version) = line.split_once("==").unwrap_or_else(|| panic!("{line} has no exact version"));
                assert!(!name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()), "{line}");
            }
        };
        check(&WEIGHTS, &["torch", "timm", "onnx", "onnxruntime", "tensorboard", "safetensors"]);
        check(&CONTROL_PLANE, &["ray", "optuna", "hyperqueue"]);
    }

    #[test]
    fn the_sweeps_are_there_under_their_names() {
        for sweep in SWEEPS {
            let text = fs::read_to_string(root().join(SCRIPTS).join(format!("{sweep}.yaml"))).unwrap();
            assert!(text.lines().any(|line| line == format!("name: {sweep}")), "{sweep}");
        }
    }
}
