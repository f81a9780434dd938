//! `cargo xtask bench gradients`: the exchange of gradients beside raw TCP, a tonic echo and `PyTorch`'s parameter
//! server, in one run: this machine's noise falls on all of them.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Deserialize;

use crate::house::House;
use crate::peers;
use crate::run::{Steps, answers};
use crate::setup::{Wanted, setup};
use crate::test::cargo;

const SCRIPT: &str = "bench/peers/gradients/parameter_server.py";
/// α and the parameters of its network with 1,000 classes.
const NETWORKS: [(f64, u64); 2] = [(1.0, 4_231_976), (0.25, 470_072)];
const REPLICAS: [u32; 4] = [1, 2, 4, 8];
/// As the trainer has it compiled in: large buffers are kept.
const MALLOC_CONF: &str =
    "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1,background_thread:false,metadata_thp:auto,narenas:4";

/// One line of what the bench prints.
#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Measured {
    what: String,
    #[serde(default)]
    alpha: f64,
    #[serde(default)]
    wire: String,
    #[serde(default)]
    replicas: u32,
    #[serde(default)]
    per_second: f64,
    #[serde(default)]
    megabytes_per_second: f64,
    #[serde(default)]
    update_over_copy: f64,
    #[serde(default)]
    compensation: f64,
    #[serde(default)]
    copies: f64,
}

/// Builds, measures, prints a table in Markdown.
pub(crate) fn gradients(house: &House) -> Result<()> {
    let mut steps = Steps::default();
    let libtorch = steps.step("setup", || setup(house, &Wanted { cuda: false, data: Vec::new() }))?;
    let python = steps.step("peers", || peers::environment(house, &peers::WEIGHTS))?;
    let build = ["build", "--release", "--package", "alpharho-gradients", "--example", "bench"];
    steps.run("build", &mut cargo(house, &libtorch, &build)?)?;
    let mut bench = house.command(house.target().join("release/examples/bench"));
    bench.env("MALLOC_CONF", MALLOC_CONF);
    let mut measured = steps.step("chief, echo, tcp", || answers(&mut bench))?;
    for (alpha, values) in NETWORKS {
        for replicas in REPLICAS {
            let mut peer = house.command(&python);
            peer.arg(house.root.join(SCRIPT)).args(["--alpha", &alpha.to_string(), "--values", &values.to_string()]);
            peer.args(["--replicas", &replicas.to_string()]);
            measured.extend(steps.step("pytorch", || answers(&mut peer))?);
        }
    }
    print!("{}", table(&measured));
    Ok(())
}

/// What a chief does, and how that stands to the others of the same payload and replicas.
fn table(measured: &[Measured]) -> String {
    let mut rates: BTreeMap<(String, String, String, u32), f64> = BTreeMap::new();
    for one in measured {
        let key = (one.what.clone(), one.alpha.to_string(), one.wire.clone(), one.replicas);
        rates.insert(key, one.megabytes_per_second);
    }
    let mut text = String::from(
        "| α | wire | replicas | chief, pushes/s | chief, MB/s | of the tonic echo | of one that updates | of one in parts | of raw TCP | of \
         raw Unix sockets | of PyTorch's RPC |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for one in measured.iter().filter(|one| one.what == "chief") {
        // PyTorch's sends f32 in any case: what counts is pushes.
        let ratio = |what: &str, wire: &str| {
            let key = (what.to_owned(), one.alpha.to_string(), wire.to_owned(), one.replicas);
            let scale = if wire == one.wire { 1.0 } else { 2.0 };
            let other = rates.get(&key).copied().unwrap_or(f64::NAN);
            format!("{:.2}", scale * one.megabytes_per_second / other)
        };
        text.push_str(&format!(
            "| {} | {} | {} | {:.1} | {:.0} | {} | {} | {} | {} | {} | {} |\n",
            one.alpha,
            one.wire,
            one.replicas,
            one.per_second,
            one.megabytes_per_second,
            ratio("echo", &one.wire),
            ratio("echo and update", "f32"),
            ratio("echo in parts", &one.wire),
            ratio("tcp", &one.wire),
            ratio("unix", &one.wire),
            ratio("pytorch", "f32"),
        ));
    }
    for one in measured.iter().filter(|one| one.what == "update") {
        text.push_str(&format!(
            "\nα {}: the update takes {:.2} times as long as copying the bytes that it reads and writes.\n",
            one.alpha, one.update_over_copy
        ));
    }
    for one in measured.iter().filter(|one| one.what == "memory") {
        text.push_str(&format!(
            "\nMemory of a chief with {} replicas, delay compensation {}: {:.1} copies of the parameters.\n",
            one.replicas, one.compensation, one.copies
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(what: &str, wire: &str, megabytes_per_second: f64) -> Measured {
        let (what, wire) = (what.to_owned(), wire.to_owned());
        let (per_second, update_over_copy, compensation, copies) = (10.0, 0.0, 0.0, 0.0);
        Measured {
            what,
            alpha: 1.0,
            wire,
            replicas: 2,
            per_second,
            megabytes_per_second,
            update_over_copy,
            compensation,
            copies,
        }
    }

    #[test]
    fn ratios_are_of_the_same_payload() {
        let rows = [
            measured("tcp", "bf16", 400.0),
            measured("unix", "bf16", 500.0),
            measured("echo", "bf16", 200.0),
            measured("echo and update", "f32", 250.0),
            measured("echo in parts", "bf16", 250.0),
            measured("chief", "bf16", 100.0),
            measured("pytorch", "f32", 50.0),
        ];
        let text = table(&rows);
        assert!(text.contains("| 1 | bf16 | 2 | 10.0 | 100 | 0.50 | 0.80 | 0.40 | 0.25 | 0.20 | 4.00 |"), "{text}");
    }
}
