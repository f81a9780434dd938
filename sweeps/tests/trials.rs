//! From a sweep file to its trials, and from a file to the next under the same name.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;
use sweeps::spec::model::Sweep;
use sweeps::spec::parse;
use sweeps::trial::Trial;

const GRID: &str = include_str!("specs/good/minimal.yaml");
const RANDOM: &str = include_str!("specs/good/random.yaml");
const FEW: &str = include_str!("specs/good/random-from-few.yaml");

fn sweep(text: &str) -> Sweep {
    parse("test.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The text with a piece replaced, which must be there.
fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{old}");
    text.replace(old, new)
}

fn trials(text: &str) -> Vec<Trial> {
    sweep(text).expand().collect()
}

fn keys(trials: &[Trial]) -> BTreeSet<String> {
    trials.iter().map(|trial| trial.key.clone()).collect()
}

#[test]
fn a_grid_runs_through_axes_in_order_and_seeds_innermost() {
    let text = with(GRID, "  resolution", "  training.batch_size: {values: [64, 16]}\n  resolution");
    let found: Vec<String> = trials(&with(&text, "name: small", "name: small\nseeds: [3, 1]"))
        .iter()
        .map(|trial| format!("{} {} {} {}", trial.alpha, trial.resolution, trial.training.batch_size, trial.seed))
        .collect();
    let expected = [
        "1 128 64 3",
        "1 128 64 1",
        "1 128 16 3",
        "1 128 16 1",
        "1 96 64 3",
        "1 96 64 1",
        "1 96 16 3",
        "1 96 16 1",
        "0.5 128 64 3",
        "0.5 128 64 1",
        "0.5 128 16 3",
        "0.5 128 16 1",
        "0.5 96 64 3",
        "0.5 96 64 1",
        "0.5 96 16 3",
        "0.5 96 16 1",
    ];
    assert_eq!(found, expected);
}

#[test]
fn axes_reach_the_training_of_their_trials() {
    let text = with(
        GRID,
        "  resolution",
        "  training.optimizer.epsilon: {value: 0.001}\n  training.gradient_clip_norm: {value: 5}\n  \
         training.weight_ema: {value: none}\n  training.activation: {value: relu}\n  resolution",
    );
    for trial in trials(&with(&text, "epochs: 3", "epochs: 3\n  weight_ema: 0.9")) {
        let training = json(&trial.training);
        assert_eq!(training["optimizer"]["epsilon"], 0.001);
        assert_eq!(training["optimizer"]["decay"], 0.9, "its neighbours stay");
        assert_eq!(training["gradient_clip_norm"], 5.0);
        assert_eq!(training["weight_ema"], "none");
        assert_eq!(training["activation"], "relu");
        assert_eq!(trial.parameters["training.gradient_clip_norm"], 5);
        assert_eq!(trial.parameters.len(), 6);
    }
}

#[test]
fn replicas_and_gradients_reach_their_trials_and_their_defaults_change_no_key() {
    let replicas = trials(include_str!("specs/good/replicas.yaml"));
    let found: Vec<String> = replicas
        .iter()
        .filter(|trial| trial.alpha == 0.5)
        .map(|trial| format!("{:?} {}", trial.training.gradients.mode, trial.training.replicas.max()))
        .collect();
    assert_eq!(found, ["Async 1", "Async 4", "Sync 1", "Sync 4"]);
    assert_eq!(keys(&replicas).len(), 8);
    assert!(replicas.iter().all(|trial| trial.training.gradients.push_every == 2), "what is no axis stays");

    let defaults = "gradients: {mode: async, max_staleness: none, staleness_lr: none, delay_compensation: 0, \
                    push_every: 1, wire: f32, drop_slowest: 0}";
    let written = with(GRID, "epochs: 3", &format!("epochs: 3\n  replicas: 1\n  {defaults}"));
    assert_eq!(keys(&trials(&written)), keys(&trials(GRID)));
    assert_eq!(sweep(&written).fingerprint(), sweep(GRID).fingerprint());
    let asked = sweep(&with(GRID, "epochs: 3", "epochs: 3\n  gradients: {mode: sync}"));
    assert_eq!(asked.changed_settings(&sweep(GRID)), ["training.gradients.mode"]);
}

fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap()
}

#[test]
fn keys_are_what_the_numbers_depend_on() {
    let before = keys(&trials(GRID));
    for (old, new, same) in [
        ("name: small", "name: other\ndescription: x\nmax_restarts: 0", true),
        ("epochs: 3", "epochs: 3\n  batch_size: 32\n  learning_rate: 0.045", true),
        ("epochs: 3", "epochs: 3\ncheckpoint: {every_minutes: 1}", true),
        ("  resolution", "  training.learning_rate: {value: 0.045}\n  resolution", true),
        ("epochs: 3", "epochs: 4", false),
        ("photos/train", "photos/others", false),
        ("classes: 10", "classes: 10\n  seed: 2", false),
        ("name: small", "name: small\nseeds: [2]", false),
        ("name: small", "name: small\nnetwork: shallow_mobilenet", false),
        ("epochs: 3", "epochs: 3\nscript: []", false),
    ] {
        let after = keys(&trials(&with(GRID, old, new)));
        assert_eq!(before == after, same, "{new}");
        assert!(same || before.is_disjoint(&after), "{new}");
    }
}

/// A key is an identity in stores that exist: it must not change by accident.
#[test]
fn keys_stay_what_they_are() {
    let found: Vec<String> = trials(GRID).into_iter().map(|trial| trial.key).collect();
    assert_eq!(found, KEYS);
    let again = trials(RANDOM);
    assert_eq!(again[0].key, RANDOM_KEY);
}

const KEYS: [&str; 4] = [
    "14ab3e46fe5ac62111ddcca3ca7f85a6",
    "cf55a62bca91d4e6a5a39a46205edef2",
    "55f6b6f3fcf968e4cee59e9fa3be1b7b",
    "be71a8ea9a498b75f563118de444639d",
];
const RANDOM_KEY: &str = "a340e06a7e959b2e7e14695812b9eea1";

#[test]
fn draws_lie_in_their_ranges() {
    let trials = trials(RANDOM);
    assert_eq!(trials.len(), 80, "40 draws, two seeds each");
    assert_eq!(keys(&trials).len(), 80);
    for pair in trials.chunks(2) {
        assert_eq!(pair[0].parameters, pair[1].parameters);
        assert_eq!((pair[0].seed, pair[1].seed), (1, 2));
        let trial = &pair[0];
        assert!((0.1..=2.0).contains(&trial.alpha));
        assert!((32..=128).contains(&trial.resolution));
        assert!((0.001..=0.1).contains(&trial.training.learning_rate));
        assert!([1.0, 0.001].contains(&trial.training.optimizer.epsilon));
        assert!([None, Some(1.0), Some(5.5)].contains(&trial.training.gradient_clip_norm));
    }
    // Half of the learning rates lie below the middle of the logarithm, 0.01; evenly spread ones hardly ever do.
    let low = trials.iter().filter(|trial| trial.training.learning_rate < 0.01).count();
    assert!((20..=60).contains(&low), "{low} of 80");
}

#[test]
fn more_draws_begin_with_the_same() {
    for (text, less, more) in [(RANDOM, "trials: 40", "trials: 90"), (FEW, "trials: 4", "trials: 6")] {
        let text = if text == FEW { with(text, "trials: 6", "trials: 4") } else { text.to_owned() };
        let (less, more) = (trials(&text), trials(&with(&text, less, more)));
        assert!(more.len() > less.len());
        assert_eq!(more[..less.len()], less);
    }
    let other = trials(&with(RANDOM, "seed: 7", "seed: 8"));
    assert_ne!(other[0].parameters, trials(RANDOM)[0].parameters, "another seed, other draws");
}

#[test]
fn a_small_space_can_be_drawn_empty() {
    let found = trials(FEW);
    assert_eq!(found.len(), 6);
    assert_eq!(keys(&found).len(), 6, "all 3 × 2 points, each once");
    let cells: BTreeSet<String> = found.iter().map(|trial| format!("{} {}", trial.alpha, trial.resolution)).collect();
    assert_eq!(cells.len(), 6);
}

#[test]
fn the_same_name_again() {
    let check = |base: &str, old: &str, new: &str, expected: &[&str]| {
        let (before, after) = (sweep(base), sweep(&with(base, old, new)));
        assert_eq!(after.changed_settings(&before), expected, "{new}");
        assert_eq!(after.fingerprint() == before.fingerprint(), expected.is_empty(), "{new}");
    };
    // Extensions.
    check(GRID, "[1, 0.5]", "[1, 0.5, 0.25]", &[]);
    check(GRID, "{values: [1, 0.5]}", "{value: 1.0}", &[]);
    check(GRID, "name: small", "name: small\nseeds: [1, 2]\ndescription: more seeds", &[]);
    check(GRID, "name: small", "name: small\nmax_concurrent_trials: 2\nmax_restarts: 0\nmax_losses: 1", &[]);
    check(GRID, "name: small", "name: small\nresources: {priority: 90}", &[]);
    check(GRID, "epochs: 3", "epochs: 3\n  learning_rate: 0.045", &[]);
    check(RANDOM, "trials: 40", "trials: 50", &[]);
    check(RANDOM, "gradient_clip_norm: 2", "gradient_clip_norm: 3", &[]); // an axis sets it anyway
    // Other sweeps.
    check(
        GRID,
        "epochs: 3",
        "epochs: 4\n  optimizer: {epsilon: 0.1}",
        &["training.epochs", "training.optimizer.epsilon"],
    );
    check(GRID, "photos/val", "{fraction: 0.5}", &["data.validation", "data.validation.fraction"]);
    check(GRID, "name: small", "name: small\nnetwork: conv_mobilenet", &["network"]);
    check(GRID, "name: small", "name: small\ncheckpoint: {keep: [latest]}", &["checkpoint.keep"]);
    check(
        GRID,
        "  resolution",
        "  training.batch_size: {values: [32, 64]}\n  resolution",
        &["parameters", "training.batch_size"],
    );
    check(RANDOM, "max: 0.1,", "max: 0.2,", &["parameters"]);
    check(GRID, "epochs: 3", "epochs: 3\nscript: [{do: crash}]", &["script"]);
}

#[test]
fn a_hundred_thousand_trials_are_expanded() {
    let seeds: Vec<String> = (0..25_000).map(|seed: u32| seed.to_string()).collect();
    let text = with(GRID, "name: small", &format!("name: small\nseeds: [{}]", seeds.join(",")));
    let trials = trials(&text);
    assert_eq!(trials.len(), 100_000);
    assert_eq!(keys(&trials).len(), 100_000);
}
