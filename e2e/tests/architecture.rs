//! The arrows of ARCHITECTURE.md, held over `cargo metadata`: who may know whom.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Package names each package is built with, by package name; what only tests use is left out.
struct Arrows(BTreeMap<String, BTreeSet<String>>);

impl Arrows {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            // What only other systems build with was never fetched.
            .args(["--filter-platform", &host()])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: BTreeMap<String, String> = metadata["packages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let mut arrows = BTreeMap::<String, BTreeSet<String>>::new();
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let from = arrows.entry(names[node["id"].as_str().unwrap()].clone()).or_default();
            for dependency in node["deps"].as_array().unwrap() {
                let kinds = dependency["dep_kinds"].as_array().unwrap();
                if kinds.iter().any(|kind| kind["kind"].is_null()) {
                    from.insert(names[dependency["pkg"].as_str().unwrap()].clone());
                }
            }
        }
        Self(arrows)
    }

    /// Everything that `package` is built with, however far.
    fn reach(&self, package: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![package.to_owned()];
        while let Some(next) = waiting.pop() {
            for dependency in self.0.get(&next).unwrap_or_else(|| panic!("no package {next}")) {
                if reached.insert(dependency.clone()) {
                    waiting.push(dependency.clone());
                }
            }
        }
        reached
    }
}

/// The system that this was built on, as cargo calls it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let words = String::from_utf8(output.stdout).unwrap();
    words.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// Rooms, and the rooms of ours that each may use.
const ROOMS: &[(&str, &[&str])] = &[
    ("alpharho-sweeps", &[]),
    ("alpharho-proto", &["alpharho-sweeps"]),
    ("alpharho-telemetry", &[]),
    ("alpharho-access", &[]),
    ("alpharho-coordinator", &["alpharho-access", "alpharho-sweeps", "alpharho-proto", "alpharho-telemetry"]),
    ("alpharho-agent", &["alpharho-access", "alpharho-sweeps", "alpharho-proto", "alpharho-telemetry"]),
    ("alpharho-gradients", &["alpharho-access", "alpharho-sweeps", "alpharho-proto"]),
    ("alpharho-images", &["alpharho-sweeps", "alpharho-proto"]),
    ("alpharho-kernels", &[]),
    (
        "alpharho-trainer",
        &[
            "alpharho-access",
            "alpharho-sweeps",
            "alpharho-proto",
            "alpharho-gradients",
            "alpharho-images",
            "alpharho-kernels",
        ],
    ),
    ("alpharho-trainer-scripted", &["alpharho-sweeps", "alpharho-proto"]),
    ("alpharho-dashboards", &["alpharho-sweeps", "alpharho-proto"]),
    (
        "alpharho",
        &[
            "alpharho-access",
            "alpharho-sweeps",
            "alpharho-proto",
            "alpharho-coordinator",
            "alpharho-dashboards",
            "alpharho-images",
            "alpharho-telemetry",
        ],
    ),
    ("xtask", &[]),
    ("e2e", &[]),
    // It tries every door.
    (
        "fuzz",
        &[
            "alpharho-access",
            "alpharho-sweeps",
            "alpharho-proto",
            "alpharho-coordinator",
            "alpharho-gradients",
            "alpharho-images",
            "alpharho-kernels",
            "alpharho-telemetry",
            "alpharho-agent",
            "alpharho-trainer",
            "alpharho-trainer-scripted",
        ],
    ),
];

#[test]
fn rooms_know_only_whom_they_may() {
    let arrows = Arrows::read();
    let ours: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for (room, allowed) in ROOMS {
        for used in arrows.reach(room).iter().filter(|used| ours.contains(used.as_str())) {
            assert!(allowed.contains(&used.as_str()), "{room} must not use {used}");
        }
    }
}

#[test]
fn what_is_heavy_stays_in_its_room() {
    let arrows = Arrows::read();
    let cases: &[(&str, &[&str])] = &[
        ("tch", &["alpharho-trainer", "fuzz"]),
        ("sqlx", &["alpharho-coordinator", "alpharho", "fuzz"]),
        ("plotters", &["alpharho-dashboards", "alpharho"]),
    ];
    for (heavy, allowed) in cases {
        for (room, _) in ROOMS {
            let reached = arrows.reach(room).contains(*heavy);
            assert_eq!(reached, allowed.contains(room), "{room} and {heavy}");
        }
    }
}

#[test]
fn the_heart_is_pure() {
    let reached = Arrows::read().reach("alpharho-sweeps");
    for outside in ["tokio", "tonic", "sqlx", "tch", "mio", "rustix"] {
        assert!(!reached.contains(outside), "sweeps must not use {outside}");
    }
}
