//! `cargo xtask test`: everything that must hold before a change lands.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::house::House;
use crate::libtorch::Libtorch;
use crate::needs;
use crate::run::{Counts, Steps};
use crate::setup::{Data, Wanted, setup};

/// Sets up, then formatting, lints, docs, the executables and all tests; stops at the first step that fails.
pub(crate) fn test(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let mut counts = Counts::default();
    let result = run_all(house, &mut steps, &mut counts);
    steps.print_durations();
    match result {
        Ok(()) => println!("\n{counts}"),
        Err(_) if counts != Counts::default() => println!("\n{counts}"),
        Err(_) => {}
    }
    result
}

fn run_all(house: &House, steps: &mut Steps, counts: &mut Counts) -> Result<()> {
    let wanted = Wanted { cuda: false, data: vec![Data::Elpv, Data::FashionMnist] };
    let libtorch = steps.step("setup", || setup(house, &wanted))?;
    room_for_build(house, "debug/alpharho-trainer", 10)?;
    let cargo = |arguments: &[&str]| cargo(house, &libtorch, arguments);

    steps.run("formatting", &mut cargo(&["fmt", "--all", "--check"])?)?;
    steps.run("clippy", &mut cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?)?;
    let mut docs = cargo(&["doc", "--workspace", "--no-deps"])?;
    docs.env("RUSTDOCFLAGS", join_flags(env::var("RUSTDOCFLAGS").ok().as_deref(), "--deny warnings"));
    steps.run("docs", &mut docs)?;
    if answers(&mut cargo(&["deny", "--version"])?) {
        steps.run("licences", &mut cargo(&["deny", "check", "licenses", "bans", "sources"])?)?;
    } else {
        println!(
            "SKIPPED: licences and sources of dependencies: cargo-deny is not installed (cargo install cargo-deny)"
        );
    }
    // The tests of the whole start the executables from the folder of build results.
    steps.run("build", &mut cargo(&["build", "--workspace", "--all-targets"])?)?;

    let mut failed = Vec::new();
    let runners: [(&str, &[&str]); 2] = if answers(&mut cargo(&["nextest", "--version"])?) {
        [
            ("doc tests", &["test", "--workspace", "--doc"]),
            ("tests", &["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=warn"]),
        ]
    } else {
        [
            ("doc tests", &["test", "--workspace", "--doc"]),
            ("tests", &["test", "--workspace", "--all-targets", "--no-fail-fast"]),
        ]
    };
    for (name, arguments) in runners {
        let (counted, is_well) = steps.run_tests(name, &mut cargo(arguments)?)?;
        counts.add(counted);
        if !is_well {
            failed.push(format!("cargo {}", arguments.join(" ")));
        }
    }
    if !failed.is_empty() {
        bail!("tests failed: {}", failed.join("; "));
    }
    Ok(())
}

/// Whether a tool is there.
fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The cargo that runs this xtask, with libtorch in its reach.
pub(crate) fn cargo(house: &House, libtorch: &Libtorch, arguments: &[&str]) -> Result<Command> {
    let mut command = house.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    libtorch.give_to(house, &mut command)?;
    Ok(command)
}

/// Checks the disk before a first build.
pub(crate) fn room_for_build(house: &House, product: &str, needed_gib: u64) -> Result<()> {
    let target = house.target();
    if target.join(product).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&target)?;
    needs::disk(&target, needed_gib, "the build")
}

fn join_flags(of_user: Option<&str>, ours: &str) -> String {
    of_user.map(|flags| format!("{flags} {ours}")).unwrap_or_else(|| ours.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_user_are_kept() {
        assert_eq!(join_flags(None, "--deny warnings"), "--deny warnings");
        assert_eq!(join_flags(Some("--cfg docs"), "--deny warnings"), "--cfg docs --deny warnings");
    }
}
