//! The table of keys against the model and against the reference for users; text of all kinds against the reader.

use super::model::{GradientMode, Gradients, Precision, StalenessRate, Sweep};
use super::schema::{self, Key, Kind, Need};
use super::{FILE_BYTES_MAX, parse};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value;
use std::collections::BTreeSet;

const MINIMAL: &str = include_str!("../../tests/specs/good/minimal.yaml");
const GOOD: [&str; 7] = [
    MINIMAL,
    include_str!("../../tests/specs/good/complete.yaml"),
    include_str!("../../tests/specs/good/random.yaml"),
    include_str!("../../tests/specs/good/scripted.yaml"),
    include_str!("../../tests/specs/good/other-styles.yaml"),
    include_str!("../../tests/specs/good/replicas.yaml"),
    include_str!("../../quickstart.yaml"),
];

fn good(text: &str) -> Sweep {
    parse("test.yaml", text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Names of all that is in a sweep's JSON, mappings by their keys.
fn names_of(value: &Value, prefix: &str, out: &mut BTreeSet<String>) {
    let Value::Object(map) = value else {
        out.insert(prefix.to_owned());
        return;
    };
    for (key, value) in map {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        if key == "parameters" {
            out.insert(name);
        } else {
            names_of(value, &name, out);
        }
    }
}

#[test]
fn the_table_of_keys_is_that_of_the_model() {
    let mut model = BTreeSet::new();
    let mut sweep = good(MINIMAL);
    // Left out of JSON where they are the defaults.
    sweep.training.gradients = Gradients {
        mode: GradientMode::Sync,
        max_staleness: Some(1),
        staleness_lr: StalenessRate::Inverse,
        delay_compensation: 1.0,
        push_every: 2,
        wire: Precision::Bf16,
        drop_slowest: 1,
    };
    names_of(&serde_json::to_value(sweep).unwrap(), "", &mut model);
    let mut table = Vec::new();
    schema::leaves(schema::SWEEP, "", &mut table);
    // Left out of JSON when absent.
    let table: BTreeSet<String> =
        table.into_iter().filter(|name| !["trials", "script"].contains(&name.as_str())).collect();
    assert_eq!(model, table);
}

#[test]
fn fillers_are_what_their_keys_hold() {
    fn check(keys: &[Key], count: &mut usize) {
        for key in keys {
            if let Need::Must(filler) = key.need {
                serde_json::from_str::<Value>(filler).unwrap_or_else(|error| panic!("{}: {error}", key.name));
                *count += 1;
            }
            match &key.kind {
                Kind::Map(keys) | Kind::Either(_, keys) => check(keys, count),
                _ => {}
            }
        }
    }
    let mut count = 0;
    check(schema::SWEEP, &mut count);
    assert!(count >= 12);
}

#[test]
fn defaults_are_those_of_the_complete_file() {
    let mut complete = good(GOOD[1]);
    let minimal = good(MINIMAL);
    // What must be given differs; everything else is the default.
    complete.name.clone_from(&minimal.name);
    complete.description.clone_from(&minimal.description);
    complete.parameters.clone_from(&minimal.parameters);
    complete.data.train.clone_from(&minimal.data.train);
    complete.data.validation = minimal.data.validation.clone();
    complete.data.classes = minimal.data.classes;
    complete.training.epochs = minimal.training.epochs;
    assert_eq!(complete, minimal);
}

#[test]
fn the_reference_names_every_key() {
    let reference = include_str!("../../../docs/sweep-file.md");
    let mut names = Vec::new();
    schema::leaves(schema::SWEEP, "", &mut names);
    for name in names {
        assert!(reference.contains(&format!("`{name}`")), "docs/sweep-file.md does not explain {name}");
    }
}

#[test]
fn the_examples_of_the_reference_are_good() {
    let reference = include_str!("../../../docs/sweep-file.md");
    let examples: Vec<&str> = reference
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|example| example.contains("name: "))
        .collect();
    assert!(examples.len() >= 3);
    for example in examples {
        good(example);
    }
}

#[test]
fn an_alpha_is_the_same_however_written() {
    let written = |alpha: &str| {
        let sweep = good(&MINIMAL.replace("[1, 0.5]", &format!("[{alpha}]")));
        sweep.expand().map(|trial| (trial.key, trial.parameters["alpha"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(written("1"), written("1.0"));
    assert_eq!(written("1"), written("1e0"));
    assert_ne!(written("1"), written("0.5"));
}

#[test]
fn long_files_are_refused_before_they_are_read() {
    let text = format!("{MINIMAL}# {}", "x".repeat(FILE_BYTES_MAX));
    let message = parse("long.yaml", &text).unwrap_err().to_string();
    assert_eq!(message, format!("long.yaml:1:1: the file has {} bytes; at most 1048576 are read", text.len()));
}

/// Each of these once took long, or much memory, in some reader of YAML.
#[test]
fn hostile_files_are_refused() {
    let long = FILE_BYTES_MAX;
    for text in [
        "[".repeat(long),
        "{".repeat(long),
        "{a: ".repeat(long / 4),
        "- ".repeat(long / 2),
        "? ".repeat(long / 2),
        "a:\n ".repeat(long / 4),
        "&a ".repeat(long / 3),
        "!".repeat(long),
        "#".repeat(long),
        "\n".repeat(long),
        "a".repeat(long),
        "a: b\n".repeat(long / 5),
        "\"".repeat(long),
        "'".repeat(long),
        "|\n".repeat(long / 2),
        "---\n".repeat(long / 4),
        "%YAML 1.2\n".repeat(long / 10),
        format!("seeds: [{}]", "1,".repeat(long / 2 - 10)),
        format!("parameters: {{alpha: {{values: [{}]}}}}", "a ".repeat(long / 2 - 50)),
        (0..70_000).map(|key| format!("k{key}: 0\n")).collect::<String>(),
        format!("{}: 1", "a".repeat(long - 3)),
        "\u{0}".repeat(100),
        "\u{feff}".repeat(100),
        "a: \u{85}\u{2028}b".to_owned(),
    ] {
        let problems = parse("hostile.yaml", &text).unwrap_err();
        assert!(!problems.problems.is_empty() && problems.problems.len() <= 100);
        assert!(problems.to_string().len() < 100_000);
    }
}

/// Pieces that mean something in the format.
fn piece() -> impl Strategy<Value = String> {
    const WORDS: [&str; 40] = [
        "name",
        "parameters",
        "alpha",
        "resolution",
        "training",
        "epochs",
        "values",
        "value",
        "min",
        "max",
        "data",
        "seeds",
        "[",
        "]",
        "{",
        "}",
        ": ",
        ", ",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "? ",
        "&a ",
        "*a",
        "!x ",
        "|\n",
        ">\n",
        "'",
        "\"",
        "#",
        "1",
        "0.5",
        "-",
        "none",
        ".nan",
        "1e999",
        "<<",
        "---\n",
        "null",
    ];
    prop_oneof![4 => prop::sample::select(&WORDS[..]).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn never_panics(text: &str) {
    match parse("any.yaml", text) {
        Ok(sweep) => {
            let trials: Vec<_> = sweep.expand().collect();
            assert_eq!(trials.len() % sweep.seeds.len(), 0);
            assert!(!trials.is_empty());
        }
        Err(problems) => {
            assert!(!problems.problems.is_empty());
            assert!(problems.problems.iter().all(|problem| problem.line > 0 && problem.column > 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, rng_seed: RngSeed::Fixed(2_024), ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        never_panics(&text);
    }

    #[test]
    fn arbitrary_pieces_never_panic(pieces in prop::collection::vec(piece(), 0..60)) {
        never_panics(&pieces.concat());
    }

    #[test]
    fn mutations_of_good_files_never_panic(
        which in 0..GOOD.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, piece()), 1..4),
    ) {
        let mut text: Vec<char> = GOOD[which].chars().collect();
        for (at, removed, piece) in changes {
            let at = at.index(text.len() + 1);
            let end = (at + removed).min(text.len());
            text.splice(at..end, piece.chars());
        }
        never_panics(&text.into_iter().collect::<String>());
    }
}
