//! What one needs to do it again: commands, versions, hashes, the sweep file.

use super::{capital, definitions, section};
use crate::format;
use crate::results::Results;
use crate::sheets;
use crate::tabular::html::escape;
use crate::tabular::{self, Column, Kind, Style, Tabular, Value};
use sha2::{Digest, Sha256};

pub(super) fn sections(results: &Results, inexact: &[String]) -> String {
    let mut out = String::from("<h2 id=\"repeat\">How to repeat it</h2>\n");
    out.push_str(&commands(results));
    out.push_str(&definitions(&versions(results)));
    out.push_str(&exactness(results, inexact));
    if !results.attempts.is_empty() {
        out.push_str(&section(&sheets::attempts(results), "Attempts"));
    }
    out.push_str("<h3>Hashes</h3>\n");
    out.push_str(
        "<p>A trial's key is a hash of all its resolved settings and of the data's description: the same key means the \
         same work. A checkpoint's is the SHA-256 of its file.</p>\n",
    );
    out.push_str(&format!("<div class=\"hashes\">\n{}</div>\n", tabular::html(&hashes(results))));
    out.push_str("<h2 id=\"spec\">Sweep file</h2>\n");
    if !results.yaml.is_empty() {
        out.push_str(&format!("<h3>As submitted</h3>\n<pre>{}</pre>\n", escape(&results.yaml)));
    }
    match results.spec.as_ref().map(serde_yaml::to_string) {
        Some(Ok(resolved)) => {
            out.push_str(&format!("<h3>Resolved: every default filled in</h3>\n<pre>{}</pre>\n", escape(&resolved)));
        }
        _ => out.push_str("<p>The resolved sweep is of a version that this program cannot read.</p>\n"),
    }
    out
}

fn commands(results: &Results) -> String {
    let name = escape(&results.view.name);
    let method = if results.view.scripted { "the scripted trainer" } else { "local workers" };
    format!(
        "<p>Save the sweep file below as <code>{name}.yaml</code>, then train it with {method} and export:</p>\n\
         <pre>alpharho plan {name}.yaml\nalpharho run {name}.yaml\nalpharho export {name} --out {name}</pre>\n\
         <p>Data sets are named in the file and found on the worker: <code>--data NAME=PATH</code>.</p>\n"
    )
}

fn versions(results: &Results) -> Vec<(&'static str, String)> {
    let mut facts = vec![("alpharho, this program", env!("CARGO_PKG_VERSION").to_owned())];
    if !results.version.is_empty() {
        facts.push(("alpharho, coordinator", results.version.clone()));
    }
    let mut libtorch: Vec<&str> = results.attempts.iter().map(|attempt| attempt.libtorch.as_str()).collect();
    libtorch.retain(|version| !version.is_empty());
    libtorch.sort_unstable();
    libtorch.dedup();
    if !libtorch.is_empty() {
        facts.push(("libtorch", libtorch.join(", ")));
    }
    if results.submitted_ms > 0 {
        facts.push(("submitted", format::time(results.submitted_ms)));
    }
    let started = results.extras.values().map(|extra| extra.started_ms).filter(|ms| *ms > 0).min();
    let ended = results.extras.values().map(|extra| extra.ended_ms).filter(|ms| *ms > 0).max();
    facts.extend(started.map(|ms| ("first trial started", format::time(ms))));
    facts.extend(ended.map(|ms| ("last trial ended so far", format::time(ms))));
    if !results.yaml.is_empty() {
        facts.push(("SHA-256 of the sweep file", hex::encode(Sha256::digest(results.yaml.as_bytes()))));
    }
    facts
}

fn exactness(results: &Results, inexact: &[String]) -> String {
    const PROMISE: &str = "One replica on a CPU gives the same bits again with the same instruction set, the same number \
                           of threads and the same libtorch, also when it was stopped and resumed.";
    let mut out = format!("<h3>To the bit?</h3>\n<p>{PROMISE}</p>\n");
    if results.attempts.is_empty() {
        out.push_str("<p>On what the trials ran is not known here.</p>\n");
    } else if inexact.is_empty() {
        out.push_str("<p>Nothing speaks against it for these trials.</p>\n");
    } else {
        out.push_str("<p>Not bit-exact:</p>\n<ul>\n");
        for line in inexact {
            out.push_str(&format!("<li>{}</li>\n", escape(&capital(line))));
        }
        out.push_str("</ul>\n");
    }
    out
}

fn hashes(results: &Results) -> Tabular {
    let columns = vec![
        Column::new("trial", "trial", Kind::Count, Style::Plain),
        Column::new("cell", "cell", Kind::Text, Style::Plain),
        Column::new("seed", "seed", Kind::Count, Style::Plain),
        Column::new("key", "key", Kind::Text, Style::Plain),
        Column::new("epoch", "best checkpoint after epoch", Kind::Count, Style::Plain),
        Column::new("sha256", "its SHA-256", Kind::Text, Style::Plain),
    ];
    let row = |trial: &crate::view::TrialView| {
        let key = results.extras.get(&trial.number).map(|extra| extra.key.clone()).unwrap_or_default();
        let best = results.checkpoints.iter().rfind(|checkpoint| checkpoint.trial == trial.number && checkpoint.best);
        vec![
            Value::Count(u64::from(trial.number)),
            Value::text(format!("{}-{}", trial.alpha, trial.resolution)),
            Value::Count(trial.seed),
            Value::text(key),
            best.map_or(Value::None, |checkpoint| Value::Count(u64::from(checkpoint.epoch))),
            Value::text(best.map(|checkpoint| checkpoint.sha256.clone()).unwrap_or_default()),
        ]
    };
    Tabular { columns, rows: results.view.trials.iter().map(row).collect(), ..Tabular::default() }
}
