//! Downloads with the clients that every machine has: pip, and Debian's apt-get.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::house::House;
use crate::needs::{Python, find_program};
use crate::pin::{Pin, check_sha256};

/// What a user may have set for pip that would change which file is fetched or where it goes. Indexes, proxies and
/// certificates are the user's business and stay: the hash decides what is accepted.
const MISLEADING_FOR_PIP: [&str; 14] = [
    "PIP_ABI",
    "PIP_CONSTRAINT",
    "PIP_DEST",
    "PIP_DRY_RUN",
    "PIP_IMPLEMENTATION",
    "PIP_NO_BINARY",
    "PIP_ONLY_BINARY",
    "PIP_PLATFORM",
    "PIP_PREFIX",
    "PIP_PYTHON",
    "PIP_PYTHON_VERSION",
    "PIP_REPORT",
    "PIP_REQUIREMENT",
    "PIP_TARGET",
];

/// The tags of the wheels we pin, so that every Python 3 gets the same files. Older pips do not derive the older
/// manylinux tags from the newest.
const WHEEL_TAGS: [&str; 25] = [
    "--only-binary=:all:",
    "--implementation",
    "cp",
    "--python-version",
    "3.11",
    "--abi",
    "cp311",
    "--platform",
    "manylinux_2_28_x86_64",
    "--platform",
    "manylinux_2_27_x86_64",
    "--platform",
    "manylinux_2_25_x86_64",
    "--platform",
    "manylinux_2_18_x86_64",
    "--platform",
    "manylinux_2_17_x86_64",
    "--platform",
    "manylinux2014_x86_64",
    "--platform",
    "manylinux2010_x86_64",
    "--platform",
    "manylinux1_x86_64",
    "--no-deps",
    "--require-hashes",
];

/// Fetches what is not yet among the downloads; returns the files in the order of `pins`.
pub(crate) fn pip(house: &House, python: &Python, pins: &[Pin]) -> Result<Vec<PathBuf>> {
    let downloads = house.downloads();
    fs::create_dir_all(&downloads).with_context(|| format!("cannot create {}", downloads.display()))?;
    let mut missing = Vec::new();
    for pin in pins {
        if pin.find(&downloads)?.is_none() {
            missing.push(pin);
        }
    }
    if !missing.is_empty() {
        let names = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        println!("downloading with pip: {names}");
        let requirements = downloads.join("requirements.txt");
        fs::write(&requirements, missing.iter().map(|pin| pin.requirement() + "\n").collect::<String>())?;
        let mut command = pip_command(house, python)?;
        command.args(WHEEL_TAGS).arg("--dest").arg(&downloads).arg("--requirement").arg(&requirements);
        let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        ensure!(
            status.success(),
            "pip could not download {names} ({status}); its messages above say why. Check the network and your \
             package index (PIP_INDEX_URL, pip.conf), then run the same command again: what is there already is kept"
        );
    }
    let found = |pin: &Pin| {
        let file = pin.find(&downloads)?;
        file.with_context(|| format!("pip ended well, but {pin} is not in {}", downloads.display()))
    };
    pins.iter().map(found).collect()
}

fn pip_command(house: &House, python: &Python) -> Result<Command> {
    let scratch = house.scratch();
    fs::create_dir_all(&scratch)?;
    let (program, first) = python.pip.split_first().context("no pip")?;
    let mut command = house.command(program);
    command.args(first).arg("download").stdin(Stdio::null());
    for name in MISLEADING_FOR_PIP {
        command.env_remove(name);
    }
    command.env("PIP_REQUIRE_VIRTUALENV", "0").env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1");
    command.env("TMPDIR", scratch);
    Ok(command)
}

/// Unpacks parts of a wheel below `out`: `maps` are `FROM=TO`, `options` those of `unpack_wheel.py`.
pub(crate) fn unpack_wheel(
    house: &House,
    python: &Python,
    wheel: &Path,
    out: &Path,
    maps: &[&str],
    options: &[&str],
) -> Result<()> {
    let mut command = house.command(&python.python);
    command.args(["-c", include_str!("unpack_wheel.py")]).arg(wheel).arg(out).args(maps).args(options);
    let status = command.stdin(Stdio::null()).status()?;
    ensure!(status.success(), "unpacking {} into {} failed ({status})", wheel.display(), out.display());
    Ok(())
}

/// Fetches a Debian package without installing it and without root: with the system's package lists, else with
/// lists of our own.
pub(crate) fn apt(house: &House, pin: &Pin) -> Result<PathBuf> {
    let downloads = house.downloads();
    fs::create_dir_all(&downloads)?;
    if let Some(file) = pin.find(&downloads)? {
        return Ok(file);
    }
    let path = env::var_os("PATH");
    for tool in ["apt-get", "dpkg-deb"] {
        if find_program(tool, path.as_deref()).is_none() {
            bail!("no {tool}: this machine has not Debian's package tools");
        }
    }
    println!("downloading with apt-get: {pin}");
    let lists = house.state.join("apt");
    let private = [
        format!("Dir::State::lists={}", lists.join("lists").display()),
        format!("Dir::Cache={}", lists.join("cache").display()),
    ];
    let package = format!("{}={}", pin.name, pin.version);
    if !apt_get(house, &[], &["download", &package])? {
        println!("apt-get knows no such package yet: reading its lists into {}", lists.display());
        fs::create_dir_all(lists.join("lists/partial"))?;
        fs::create_dir_all(lists.join("cache/archives/partial"))?;
        let done = apt_get(house, &private, &["update"])? && apt_get(house, &private, &["download", &package])?;
        ensure!(
            done,
            "apt-get could not download {pin}; its messages above say why. As root, `apt-get update` may help; then run \
             the same command again"
        );
    }
    crate::install::remove_folder(&lists)?;
    let file = pin.find(&downloads)?;
    file.with_context(|| {
        format!("apt-get ended well, but no file with the SHA-256 of {pin} is in {}", downloads.display())
    })
}

fn apt_get(house: &House, options: &[String], arguments: &[&str]) -> Result<bool> {
    let mut command = house.command("apt-get");
    // Root would otherwise become the user _apt, who may not write here.
    command.args(["--quiet", "-o", "APT::Sandbox::User=root"]);
    for option in options {
        command.args(["-o", option]);
    }
    command.args(arguments).current_dir(house.downloads()).stdin(Stdio::null());
    Ok(command.status().context("cannot start apt-get")?.success())
}

/// Unpacks a Debian package below `out`.
pub(crate) fn unpack_deb(house: &House, package: &Path, pin: &Pin, out: &Path) -> Result<()> {
    check_sha256(package, &pin.sha256)?;
    let status = house.command("dpkg-deb").arg("--extract").arg(package).arg(out).status()?;
    ensure!(status.success(), "unpacking {} into {} failed ({status})", package.display(), out.display());
    Ok(())
}
