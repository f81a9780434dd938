//! The folders of good and of bad sweep files, and the sweeps that ship.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use sweeps::spec::model::Sweep;
use sweeps::spec::{Problems, parse};

fn room() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Sweep, Problems> {
    parse(path.file_name().unwrap().to_str().unwrap(), &fs::read_to_string(path).unwrap())
}

/// The sweeps that ship, and the good ones of the tests.
fn good() -> Vec<(PathBuf, Sweep)> {
    let mut all = files(&room());
    assert!(all.len() >= 4, "{all:?}");
    all.extend(files(&room().join("tests/specs/good")));
    all.into_iter()
        .map(|path| match read(&path) {
            Ok(sweep) => (path, sweep),
            Err(problems) => panic!("{problems}"),
        })
        .collect()
}

#[test]
fn good_files_are_read_and_survive_json() {
    for (path, sweep) in good() {
        let json = serde_json::to_string(&sweep).unwrap();
        assert_eq!(serde_json::from_str::<Sweep>(&json).unwrap(), sweep, "{}", path.display());
    }
}

#[test]
fn good_files_have_trials_with_keys_of_their_own() {
    for (path, sweep) in good() {
        let trials: Vec<_> = sweep.expand().collect();
        assert!(!trials.is_empty(), "{}", path.display());
        let mut keys: Vec<&str> = trials.iter().map(|trial| trial.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), trials.len(), "{}", path.display());
        assert!(keys.iter().all(|key| key.len() == 32 && key.chars().all(|c| c.is_ascii_hexdigit())));
        assert_eq!(sweep.expand().collect::<Vec<_>>(), trials, "the same file gives the same trials");
        for trial in trials {
            let json = serde_json::to_string(&trial).unwrap();
            assert_eq!(serde_json::from_str::<sweeps::trial::Trial>(&json).unwrap(), trial);
        }
    }
}

/// Beside each bad file lies exactly what is said of it. With `UPDATE_SPECS=1` the messages are written anew, to
/// be read before they are committed.
#[test]
fn bad_files_get_exactly_their_message() {
    let bad = files(&room().join("tests/specs/bad"));
    assert!(bad.len() >= 25, "{} bad files", bad.len());
    for path in bad {
        let Err(problems) = read(&path) else { panic!("{} is read without a problem", path.display()) };
        let message = format!("{problems}\n");
        let beside = path.with_extension("txt");
        if std::env::var_os("UPDATE_SPECS").is_some() {
            fs::write(&beside, &message).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        assert_eq!(message, expected, "{}", path.display());
    }
}
