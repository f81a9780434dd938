//! Grafana's dashboard and the alert rules use only metrics and labels that exist; and names are good ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use telemetry::{Family, Kind};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dashboards/grafana")
}

fn families() -> Vec<Family> {
    let mut families = coordinator::metrics::families().unwrap();
    families.extend(agent::metrics::families().unwrap());
    families
}

/// Labels by name of sample. Every series also has those that a scrape adds.
fn samples() -> BTreeMap<String, BTreeSet<String>> {
    let mut samples = BTreeMap::new();
    for family in families() {
        for name in family.samples() {
            let mut labels: BTreeSet<String> = family.labels.iter().cloned().collect();
            labels.extend(["instance", "job"].map(str::to_owned));
            if name.ends_with("_bucket") {
                labels.insert("le".to_owned());
            }
            let before = samples.insert(name, labels);
            assert_eq!(before, None, "{} is there twice", family.name);
        }
    }
    samples
}

/// Every `expr` in a document.
fn expressions(document: &Value, found: &mut Vec<String>) {
    match document {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| key == "expr" || key == "definition") {
                    Some(text) => found.push(text.to_owned()),
                    None => expressions(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// The words of an expression that begin as our metrics do, each with what stands in its braces.
fn metrics_in(expression: &str) -> Vec<(String, String)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find("alpharho_") {
        rest = &rest[start..];
        let end = rest.find(|letter| !is_name(letter)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let braces = after.strip_prefix('{').and_then(|inner| inner.split_once('}')).map_or("", |(inner, _)| inner);
        found.push((name.to_owned(), braces.to_owned()));
        rest = after;
    }
    found
}

#[test]
fn dashboards_and_alerts_use_what_there_is() {
    let samples = samples();
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(folder().join("alpharho.json")).unwrap()).unwrap();
    let alerts: Value = serde_yaml::from_str(&std::fs::read_to_string(folder().join("alerts.yml")).unwrap()).unwrap();
    let mut used = BTreeSet::new();
    for (document, at_least) in [(&dashboard, 30), (&alerts, 15)] {
        let mut found = Vec::new();
        expressions(document, &mut found);
        assert!(found.len() >= at_least, "{} expressions", found.len());
        for expression in found {
            let metrics = metrics_in(&expression);
            assert!(!metrics.is_empty(), "no metric of ours in {expression}");
            for (name, braces) in metrics {
                let labels = samples.get(&name).unwrap_or_else(|| panic!("there is no {name}: {expression}"));
                for matcher in braces.split(',').filter(|matcher| !matcher.is_empty()) {
                    let label = matcher.split(['=', '!']).next().unwrap().trim();
                    assert!(labels.contains(label), "{name} has no {label}: {expression}");
                }
                used.insert(name);
            }
        }
    }
    // What nobody looks at need not be counted.
    let unseen: Vec<String> = families()
        .into_iter()
        .filter(|family| !family.samples().iter().any(|name| used.contains(name)))
        .map(|family| family.name)
        .collect();
    assert!(unseen.is_empty(), "on no panel and in no rule: {unseen:?}");
}

#[test]
fn names_say_what_they_count_and_in_which_unit() {
    for Family { name, kind, help, .. } in families() {
        assert!(name.starts_with("alpharho_") && help.ends_with('.'), "{name}: {help}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        if help.contains("How long") || help.contains("Time ") {
            assert!(name.ends_with("_seconds"), "{name}");
        }
        for part in ["_bucket", "_sum", "_count"] {
            assert!(!name.ends_with(part), "{name}");
        }
    }
}

#[test]
fn promtool_finds_no_fault_with_the_rules() {
    let promtool = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        match Command::new(&promtool).args(arguments).current_dir(folder()).output() {
            Ok(output) => {
                let words = [output.stdout, output.stderr].concat();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
            }
            Err(error) => {
                eprintln!("skipped: promtool is not there ({error}); Debian has it in the package prometheus");
                return;
            }
        }
    }
}
