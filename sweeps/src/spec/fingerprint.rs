//! Whether a file submitted again under a known name is the same sweep with more cells, or another one.

use super::model::{Method, Sweep};
use crate::canonical;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// May change under an old name: what says which trials there are, and in what order and how often they run.
const FREE: [&str; 10] = [
    "name",
    "description",
    "trials",
    "parameters",
    "seeds",
    "max_concurrent_trials",
    "max_restarts",
    "max_losses",
    "resources.priority",
    "resources.packing",
];

impl Sweep {
    /// Hash, 32 hexadecimal digits, of every setting that must not change under an old name. A sweep with the
    /// same one is an extension: further values of its axes, seeds, or draws.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        canonical::hash(&json!(settings(self)))
    }

    /// The keys that keep this sweep from being an extension of `old`, as dotted names; none exactly when the
    /// fingerprints are equal.
    #[must_use]
    pub fn changed_settings(&self, old: &Self) -> Vec<String> {
        let (new, old) = (settings(self), settings(old));
        let names: BTreeSet<&String> = new.keys().chain(old.keys()).collect();
        let text = |settings: &BTreeMap<String, Value>, name: &str| settings.get(name).map(canonical::text);
        names.into_iter().filter(|name| text(&new, name) != text(&old, name)).cloned().collect()
    }
}

/// By dotted name, all that counts.
fn settings(sweep: &Sweep) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    if let Ok(Value::Object(map)) = serde_json::to_value(sweep) {
        flatten(&map, "", &mut settings);
    }
    settings.retain(|name, _| {
        // What an axis sets anew has no meaning of its own.
        let set_by_axis = sweep.parameters.keys().any(|axis| is_at(name, axis));
        !set_by_axis && !FREE.iter().any(|free| is_at(name, free))
    });
    // Which axes there are is a setting; which values they have is not, unless draws depend on them all.
    let axes = match sweep.method {
        Method::Grid => json!(sweep.parameters.keys().collect::<Vec<_>>()),
        Method::Random => json!(sweep.parameters),
    };
    settings.insert("parameters".to_owned(), axes);
    settings
}

/// Whether a dotted name is that of a key, or of something within it.
fn is_at(name: &str, key: &str) -> bool {
    name.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn flatten(map: &Map<String, Value>, prefix: &str, out: &mut BTreeMap<String, Value>) {
    for (key, value) in map {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(map) => flatten(map, &name, out),
            value => {
                out.insert(name, value.clone());
            }
        }
    }
}
