//! libtorch 2.11.0: the user's own where one is named, else out of pip wheels.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::download;
use crate::house::House;
use crate::install::Recipe;
use crate::needs;
use crate::pin::{Pin, parse_requirements};

/// The version that tch 0.24 is written for.
const VERSION: &str = "2.11.0";
const CPU_REQUIREMENTS: &str = include_str!("../requirements/libtorch-cpu.txt");
const CUDA_REQUIREMENTS: &str = include_str!("../requirements/libtorch-cuda.txt");

/// A libtorch that the trainer is built against.
#[derive(Clone, Debug)]
pub(crate) struct Libtorch {
    /// Holds `lib/` and `include/`.
    pub(crate) folder: PathBuf,
    /// The folder of its libraries.
    pub(crate) libraries: PathBuf,
}

impl Libtorch {
    fn at(folder: PathBuf) -> Self {
        Self { libraries: folder.join("lib"), folder }
    }

    /// Lets a command, cargo above all, build and start programs that are linked against this libtorch.
    pub(crate) fn give_to(&self, house: &House, command: &mut Command) -> Result<()> {
        let mut paths = vec![self.libraries.clone()];
        paths.extend(house.loader_path_of_user());
        command.env("LD_LIBRARY_PATH", env::join_paths(paths).context("a colon in the path of libtorch")?);
        if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
            // .cargo/config.toml would name the folder of setup, which is not there.
            command.env("LIBTORCH", &self.folder);
        }
        Ok(())
    }
}

/// Finds the user's libtorch or installs one; with `cuda` the CUDA flavour too, which the trainer loads at run time.
pub(crate) fn setup(house: &House, cuda: bool) -> Result<Libtorch> {
    if let Some(libtorch) = of_user(house)? {
        println!("libtorch: yours in {}", libtorch.folder.display());
        if cuda {
            let kernels = libtorch.libraries.join("libtorch_cuda.so");
            ensure!(
                kernels.exists(),
                "--cuda: your libtorch has no {}; take a CUDA build of PyTorch {VERSION}, or unset LIBTORCH and \
                 LIBTORCH_USE_PYTORCH to have one installed",
                kernels.display()
            );
        }
        return Ok(libtorch);
    }
    let flavours = [Some(cpu()?), cuda.then(self::cuda).transpose()?];
    let missing: Vec<_> = flavours.into_iter().flatten().filter(|flavour| !flavour.is_installed(house)).collect();
    if !missing.is_empty() {
        is_supported(env::consts::OS, env::consts::ARCH)?;
        let python = needs::python()?;
        needs::disk(&house.state, missing.iter().map(|flavour| flavour.disk_gib).sum(), "libtorch")?;
        for flavour in &missing {
            flavour.install(house, &python)?;
        }
        for pin in missing.iter().flat_map(|flavour| &flavour.pins) {
            if let Some(wheel) = pin.find(&house.downloads())? {
                fs::remove_file(wheel)?;
            }
        }
    }
    Ok(Libtorch::at(house.libtorch("cpu")))
}

fn is_supported(system: &str, processor: &str) -> Result<()> {
    ensure!(
        (system, processor) == ("linux", "x86_64"),
        "there is no pinned libtorch for {system} on {processor}: install PyTorch {VERSION} (pip install torch=={VERSION}) \
         and set LIBTORCH_USE_PYTORCH=1, or unpack libtorch {VERSION} and set LIBTORCH to its folder"
    );
    Ok(())
}

struct Flavour {
    name: &'static str,
    pins: Vec<Pin>,
    /// For the wheels, pip's copy of them, and what is unpacked.
    disk_gib: u64,
    /// Files that are left out.
    without: &'static [&'static str],
    /// Those of the nvidia wheels' libraries that are needed.
    nvidia: &'static [&'static str],
    required: &'static [&'static str],
}

fn cpu() -> Result<Flavour> {
    Ok(Flavour {
        name: "cpu",
        pins: parse_requirements(CPU_REQUIREMENTS)?,
        disk_gib: 4,
        without: &["libtorch_cuda*.so"],
        nvidia: &["libcudart.so.*", "libcupti.so.*"],
        required: &["lib/libtorch_cpu.so", "lib/libcudart.so.13", "lib/libcupti.so.13", "include/torch"],
    })
}

fn cuda() -> Result<Flavour> {
    Ok(Flavour {
        name: "cuda",
        pins: parse_requirements(CUDA_REQUIREMENTS)?,
        disk_gib: 12,
        without: &[],
        nvidia: &["lib*.so", "lib*.so.*"],
        required: &["lib/libtorch_cpu.so", "lib/libtorch_cuda.so", "lib/libcudart.so.13", "include/torch"],
    })
}

impl Flavour {
    fn recipe(&self) -> Recipe<'_> {
        let pins = self.pins.iter().map(Pin::stamp).collect::<String>();
        Recipe { stamp: format!("libtorch {} recipe 1\n{pins}", self.name), required: self.required }
    }

    fn is_installed(&self, house: &House) -> bool {
        self.recipe().is_installed(&house.libtorch(self.name))
    }

    fn install(&self, house: &House, python: &needs::Python) -> Result<()> {
        let folder = house.libtorch(self.name);
        let wheels = download::pip(house, python, &self.pins)?;
        println!("unpacking libtorch {VERSION} ({}) into {}", self.name, folder.display());
        self.recipe().install(&folder, |out| {
            for (pin, wheel) in self.pins.iter().zip(&wheels) {
                if pin.name == "torch" {
                    let without: Vec<_> = self.without.iter().flat_map(|glob| ["--without", glob]).collect();
                    let maps =
                        ["torch/lib/=lib", "torch/include/=include", "torch-2.11.0.dist-info/licenses/=licences"];
                    download::unpack_wheel(house, python, wheel, out, &maps, &without)?;
                } else {
                    let mut options = vec!["--flat"];
                    options.extend(self.nvidia.iter().flat_map(|glob| ["--only", glob]));
                    download::unpack_wheel(house, python, wheel, out, &["nvidia/=lib"], &options)?;
                }
            }
            // torch-sys reads this file and compares it with its own version.
            Ok(fs::write(out.join("build-version"), format!("{VERSION}\n"))?)
        })
    }
}

fn of_user(house: &House) -> Result<Option<Libtorch>> {
    if env::var_os("LIBTORCH_USE_PYTORCH").is_some() {
        return of_pytorch(house).map(Some);
    }
    let Some(folder) = house.set_by_user("LIBTORCH") else { return Ok(None) };
    let folder = PathBuf::from(folder);
    ensure!(folder.is_absolute(), "LIBTORCH={} must be an absolute path", folder.display());
    let mut libtorch = Libtorch::at(folder);
    if let Some(other) = house.set_by_user("LIBTORCH_LIB") {
        libtorch.libraries = PathBuf::from(other).join("lib");
    }
    let cpu = libtorch.libraries.join("libtorch_cpu.so");
    ensure!(
        cpu.exists(),
        "LIBTORCH={}: there is no {}; set it to a folder of libtorch {VERSION}, or unset it to have one installed",
        libtorch.folder.display(),
        cpu.display()
    );
    check_version(version_in(&libtorch.folder).as_deref(), &format!("LIBTORCH={}", libtorch.folder.display()))?;
    Ok(Some(libtorch))
}

fn of_pytorch(house: &House) -> Result<Libtorch> {
    // The interpreter that torch-sys asks.
    let python = if env::var_os("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let script = "import os, torch; print(torch.__version__); print(os.path.dirname(torch.__file__))";
    let asked = house.command(python).args(["-c", script]).stdin(Stdio::null()).output();
    let answer = asked.with_context(|| format!("LIBTORCH_USE_PYTORCH is set, but {python} cannot be started"))?;
    let text = String::from_utf8_lossy(&answer.stdout);
    let (Some(version), Some(folder), true) = (text.lines().next(), text.lines().nth(1), answer.status.success())
    else {
        let errors = String::from_utf8_lossy(&answer.stderr);
        bail!(
            "LIBTORCH_USE_PYTORCH is set, but {python} cannot import torch ({}); install PyTorch {VERSION} there, or unset \
             the variable to have libtorch installed",
            errors.lines().last().unwrap_or("it printed nothing")
        );
    };
    check_version(Some(version), &format!("the PyTorch of {python}"))?;
    Ok(Libtorch::at(PathBuf::from(folder)))
}

/// Accepts 2.11.0 in any build (`2.11.0+cpu`), as torch-sys does, and with its way out.
fn check_version(version: Option<&str>, place: &str) -> Result<()> {
    let wrong = match version.map(|version| version.split('+').next().unwrap_or(version)) {
        Some(VERSION) => return Ok(()),
        Some(other) => format!("{place} has version {other}, this program needs {VERSION}"),
        None => format!("{place} does not say its version, this program needs {VERSION}"),
    };
    if env::var_os("LIBTORCH_BYPASS_VERSION_CHECK").is_some() {
        eprintln!("warning: {wrong}; going on, because LIBTORCH_BYPASS_VERSION_CHECK is set");
        return Ok(());
    }
    bail!("{wrong}; name another one, or unset LIBTORCH and LIBTORCH_USE_PYTORCH to have it installed")
}

/// What a libtorch folder says of its version: in `build-version` or, inside a PyTorch, in a header.
fn version_in(folder: &Path) -> Option<String> {
    if let Ok(version) = fs::read_to_string(folder.join("build-version")) {
        return Some(version.trim().to_owned());
    }
    ["include/torch/headeronly/version.h", "include/torch/csrc/api/include/torch/version.h"]
        .iter()
        .filter_map(|header| fs::read_to_string(folder.join(header)).ok())
        .find_map(|header| version_in_header(&header))
}

fn version_in_header(header: &str) -> Option<String> {
    let part = |name: &str| {
        let start = format!("#define TORCH_VERSION_{name} ");
        header.lines().find_map(|line| line.strip_prefix(&start)).map(str::trim)
    };
    Some(format!("{}.{}.{}", part("MAJOR")?, part("MINOR")?, part("PATCH")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_where_they_stand() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(version_in(home.path()), None);
        let header = home.path().join("include/torch/headeronly");
        fs::create_dir_all(&header).unwrap();
        let text = "#pragma once\n#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 0\n";
        fs::write(header.join("version.h"), text).unwrap();
        assert_eq!(version_in(home.path()).as_deref(), Some("2.11.0"));
        fs::write(home.path().join("build-version"), "2.10.1+cpu\n").unwrap();
        assert_eq!(version_in(home.path()).as_deref(), Some("2.10.1+cpu"));
    }

    #[test]
    fn another_version_is_refused_with_the_way_out() {
        check_version(Some("2.11.0"), "yours").unwrap();
        check_version(Some("2.11.0+cu130"), "yours").unwrap();
        let message = check_version(Some("2.8.0+cpu"), "yours").unwrap_err().to_string();
        assert!(message.starts_with("yours has version 2.8.0, this program needs 2.11.0; name another"), "{message}");
        let message = check_version(None, "yours").unwrap_err().to_string();
        assert!(message.starts_with("yours does not say its version"), "{message}");
    }

    #[test]
    fn other_machines_are_told_how_to_bring_their_own() {
        is_supported("linux", "x86_64").unwrap();
        let message = is_supported("macos", "aarch64").unwrap_err().to_string();
        assert!(message.contains("macos on aarch64") && message.contains("LIBTORCH_USE_PYTORCH=1"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
}
