//! The first check: known keys, kinds of values, bounds of each value by itself.
//!
//! Gives the file as JSON with everything wrong left out and everything missing put in, so that the second
//! check ([`super::meaning`]) can go on and all problems are told at once.

use super::problems::{Place, Problems};
use super::schema::{self, Key, Kind, List, Need};
use super::suggest::{clause, nearest};
use super::tree::{Content, Entry, Node, Scalar};
use crate::canonical;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// From the path of a key or item to where it stands.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<String, (Place, Place)>);

impl Places {
    /// Where the value of that path begins; if it is absent, the key of the nearest mapping around it.
    pub(super) fn value(&self, path: &str) -> Place {
        if let Some((_, value)) = self.0.get(path) {
            return *value;
        }
        let mut path = path;
        while let Some(end) = path.rfind(['.', '[']) {
            path = &path[..end];
            if let Some((key, _)) = self.0.get(path) {
                return *key;
            }
        }
        Place::START
    }
}

/// Checks a whole file. None if it is no mapping at all.
pub(super) fn check(root: &Node, problems: &mut Problems) -> Option<(Value, Places)> {
    let mut walk = Walk { problems, places: Places::default() };
    let value = walk.value(root, &Kind::Map(schema::SWEEP), "")?;
    Some((value, walk.places))
}

struct Walk<'a> {
    problems: &'a mut Problems,
    places: Places,
}

impl Walk<'_> {
    /// The value as JSON, or None if it is of no use.
    fn value(&mut self, node: &Node, kind: &Kind, path: &str) -> Option<Value> {
        match (kind, &node.content) {
            (_, Content::Refused) => None,
            (Kind::Map(keys) | Kind::Either(_, keys), Content::Map(entries)) => {
                Some(self.map(entries, keys, path, node.place))
            }
            (Kind::Parameters, Content::Map(entries)) => Some(self.parameters(entries, path, node.place)),
            (Kind::List(list), Content::List(items)) => self.list(items, kind, list, path, node.place),
            (Kind::Pair(bounds), Content::List(items)) => {
                let numbers: Vec<f64> =
                    items.iter().filter_map(Node::number).filter(|number| bounds.hold(*number)).collect();
                match (numbers.as_slice(), items.len()) {
                    ([from, to], 2) if from <= to => Some(json!([from, to])),
                    _ => self.wrong(node, kind, path),
                }
            }
            (_, Content::Scalar(scalar)) => match accept(kind, scalar) {
                Some(value) => Some(value),
                None => self.wrong(node, kind, path),
            },
            _ => self.wrong(node, kind, path),
        }
    }

    fn wrong(&mut self, node: &Node, kind: &Kind, path: &str) -> Option<Value> {
        self.problems.add(node.place, path, || {
            let hint = match (kind, &node.content) {
                (Kind::Word(words) | Kind::Or(_, Kind::Word(words)), Content::Scalar(Scalar::Text(text))) => {
                    clause(nearest(text, words.iter().copied()))
                }
                (Kind::Or(word, _), Content::Scalar(Scalar::Text(text))) => clause(nearest(text, [*word])),
                (Kind::Text(_), Content::Scalar(Scalar::Whole(_) | Scalar::Number(_) | Scalar::Flag(_))) => {
                    "; put it in quotes".to_owned()
                }
                _ => String::new(),
            };
            if path.is_empty() {
                let found = node.content.shown();
                return format!("a sweep file is a mapping of name, parameters, data, training and more, not {found}");
            }
            let name = path;
            format!("{name} must be {}, not {}{hint}", kind.expected(), node.content.shown())
        });
        None
    }

    fn list(&mut self, items: &[Node], kind: &Kind, list: &List, path: &str, place: Place) -> Option<Value> {
        let (shortest, longest) = list.lengths;
        if items.len() < shortest || items.len() > longest {
            let length = items.len();
            self.problems.add(place, path, || format!("{path} must be {}, not of {length}", kind.expected()));
            return None;
        }
        let mut seen = BTreeSet::new();
        let mut values = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.places.0.insert(path.clone(), (item.place, item.place));
            let Some(value) = self.value(item, list.of, &path) else { continue };
            if list.distinct && !seen.insert(canonical::text(&value)) {
                self.problems.add(item.place, &path, || format!("{} stands twice in this list", item.content.shown()));
                continue;
            }
            values.push(value);
        }
        // A list of nothing but mistakes must not look like an empty one.
        (values.len() >= shortest).then(|| Value::Array(values))
    }

    fn map(&mut self, entries: &[Entry], keys: &[Key], path: &str, place: Place) -> Value {
        let mut map = Map::new();
        let mut meant = BTreeSet::new();
        for entry in entries {
            let Some(key) = keys.iter().find(|key| key.name == entry.key) else {
                let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
                meant.extend(self.unknown(entry, path, &names));
                continue;
            };
            let path = self.enter(entry, path);
            meant.insert(key.name.to_owned());
            if let Some(value) = self.value(&entry.value, &key.kind, &path) {
                map.insert(entry.key.clone(), value);
            }
        }
        let place = self.places.0.get(path).map_or(place, |(key, _)| *key);
        for Key { name, need, .. } in keys {
            let Need::Must(filler) = need else { continue };
            if !meant.contains(*name) {
                let (parent, path) = (path, joined(path, name));
                self.problems.add(place, &path, || format!("missing key \"{name}\"{}", inside(parent)));
            }
            if !map.contains_key(*name) {
                map.insert((*name).to_owned(), constant(filler));
            }
        }
        Value::Object(map)
    }

    /// Notes where an entry stands; its path.
    fn enter(&mut self, entry: &Entry, path: &str) -> String {
        let path = joined(path, &entry.key);
        self.places.0.insert(path.clone(), (entry.place, entry.value.place));
        path
    }

    /// Tells of a key that does not exist; what was meant by it, if that can be guessed.
    fn unknown(&mut self, entry: &Entry, parent: &str, names: &[&str]) -> Option<String> {
        let key = &entry.key;
        let near = if self.problems.is_full() { None } else { nearest(key, names.iter().copied()) };
        self.problems.add(entry.place, &joined(parent, key), || {
            let hint = match near {
                Some(_) => clause(near),
                None if parent == "parameters" => {
                    "; an axis is alpha, resolution or a key of training by its dotted name, as training.learning_rate"
                        .to_owned()
                }
                None => match (elsewhere(key), names.len()) {
                    (Some(name), _) => clause(Some(&name)),
                    (None, 0..=6) => format!("; there is {}", names.join(", ")),
                    (None, _) => String::new(),
                },
            };
            format!("unknown key \"{key}\"{}{hint}", inside(parent))
        });
        near.map(str::to_owned)
    }

    fn parameters(&mut self, entries: &[Entry], path: &str, place: Place) -> Value {
        let mut names = vec!["alpha".to_owned(), "resolution".to_owned()];
        schema::leaves(schema::TRAINING, "training", &mut names);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut map = Map::new();
        let mut meant = BTreeSet::new();
        for entry in entries {
            let Some(kind) = schema::axis(&entry.key) else {
                match schema::within_group(&entry.key) {
                    Some(one) => self.problems.add(entry.place, &joined(path, &entry.key), || {
                        format!("{} is a group of keys; vary one of them, as {one}", entry.key)
                    }),
                    None => meant.extend(self.unknown(entry, path, &names)),
                }
                continue;
            };
            meant.insert(entry.key.clone());
            let path = self.enter(entry, path);
            if let Some(value) = self.parameter(&entry.value, kind, &path) {
                map.insert(entry.key.clone(), value);
            }
        }
        let place = self.places.0.get(path).map_or(place, |(key, _)| *key);
        for (name, filler) in [("alpha", json!({"value": 1})), ("resolution", json!({"value": 224}))] {
            if !meant.contains(name) {
                self.problems.add(place, &joined(path, name), || {
                    format!(
                        "missing key \"{name}\" in {path}; one for all is written {name}: {{value: {}}}",
                        filler["value"]
                    )
                });
            }
            if !map.contains_key(name) {
                map.insert(name.to_owned(), filler);
            }
        }
        Value::Object(map)
    }

    /// One axis: values, a value or a range.
    fn parameter(&mut self, node: &Node, kind: &'static Kind, path: &str) -> Option<Value> {
        const FORMS: [&str; 5] = ["values", "value", "min", "max", "distribution"];
        let Content::Map(entries) = &node.content else {
            if !matches!(node.content, Content::Refused) {
                self.problems.add(node.place, path, || {
                    let found = node.content.shown();
                    format!("{path} must be {{values: [..]}}, {{value: ..}} or {{min: .., max: ..}}, not {found}")
                });
            }
            return None;
        };
        let mut whole = true;
        for entry in entries {
            if FORMS.contains(&entry.key.as_str()) {
                self.enter(entry, path);
            } else {
                self.unknown(entry, path, &FORMS);
                whole = false;
            }
        }
        let has = |name: &str| entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value);
        let range = has("min").or(has("max")).or(has("distribution"));
        match (has("values"), has("value"), range) {
            (Some(values), None, None) if whole => {
                let of = List { of: kind, lengths: (1, 100_000), distinct: true };
                let path = joined(path, "values");
                match &values.content {
                    Content::List(items) => {
                        let list = Kind::List(List { of: kind, ..of });
                        Some(json!({"values": self.list(items, &list, &of, &path, values.place)?}))
                    }
                    _ => self.wrong(values, &Kind::List(of), &path),
                }
            }
            (None, Some(value), None) if whole => {
                Some(json!({"value": self.value(value, kind, &joined(path, "value"))?}))
            }
            (None, None, Some(_)) if whole => self.range(entries, node.place, kind, path),
            _ => {
                if whole {
                    self.problems.add(node.place, path, || {
                        format!("{path} must have exactly one of values, value, or min and max")
                    });
                }
                None
            }
        }
    }

    /// `{min, max, distribution}`
    fn range(&mut self, entries: &[Entry], place: Place, kind: &Kind, path: &str) -> Option<Value> {
        const DISTRIBUTION: Kind = Kind::Word(&["uniform", "log_uniform", "int_uniform"]);
        let Some((bounds, whole_only)) = kind.drawn() else {
            self.problems.add(place, path, || {
                format!("{path} cannot be drawn from a range; it must be {}: use values", kind.expected())
            });
            return None;
        };
        let mut ends = [0.0, 0.0];
        let mut distribution = "uniform".to_owned();
        let mut fine = true;
        for (end, name) in ends.iter_mut().zip(["min", "max"]) {
            let (parent, path) = (path, joined(path, name));
            let Some(entry) = entries.iter().find(|entry| entry.key == name) else {
                self.problems.add(place, &path, || format!("missing key \"{name}\"{}", inside(parent)));
                fine = false;
                continue;
            };
            match entry.value.number().filter(|number| bounds.hold(*number)) {
                Some(number) => *end = number,
                None => {
                    self.wrong(&entry.value, &Kind::Number(bounds), &path);
                    fine = false;
                }
            }
        }
        if let Some(entry) = entries.iter().find(|entry| entry.key == "distribution") {
            match self.value(&entry.value, &DISTRIBUTION, &joined(path, "distribution")) {
                Some(Value::String(word)) => distribution = word,
                _ => fine = false,
            }
        }
        if !fine {
            return None;
        }
        let [min, max] = ends;
        let problem = if min >= max {
            Some("min must be below max")
        } else if whole_only && distribution != "int_uniform" {
            Some("only whole numbers are allowed here: write distribution: int_uniform")
        } else if distribution == "int_uniform" && (min.fract() != 0.0 || max.fract() != 0.0) {
            Some("min and max of int_uniform must be whole numbers")
        } else if distribution == "log_uniform" && min <= 0.0 {
            Some("min of log_uniform must be above 0")
        } else {
            None
        };
        if let Some(problem) = problem {
            self.problems.add(place, path, || format!("{path}: {problem}"));
            return None;
        }
        Some(json!({"min": min, "max": max, "distribution": distribution}))
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// ` in training.optimizer`; nothing for the file itself.
fn inside(parent: &str) -> String {
    if parent.is_empty() { String::new() } else { format!(" in {parent}") }
}

/// The full name of a key that exists in another mapping.
fn elsewhere(key: &str) -> Option<String> {
    let mut names = vec!["parameters.alpha".to_owned(), "parameters.resolution".to_owned()];
    schema::leaves(schema::SWEEP, "", &mut names);
    names.into_iter().find(|name| name == key || name.rsplit('.').next() == Some(key))
}

/// A single value as JSON, if it is of that kind.
fn accept(kind: &Kind, scalar: &Scalar) -> Option<Value> {
    match (kind, scalar) {
        (Kind::Text(longest), Scalar::Text(text)) => (text.chars().count() <= *longest
            && !text.chars().any(|c| c.is_control() && c != '\n'))
        .then(|| json!(text)),
        (Kind::Flag, Scalar::Flag(flag)) => Some(json!(flag)),
        (Kind::Whole(low, high), Scalar::Whole(whole)) => {
            u64::try_from(*whole).ok().filter(|whole| (low..=high).contains(&whole)).map(|whole| json!(whole))
        }
        (Kind::Number(bounds), Scalar::Number(number)) => bounds.hold(*number).then(|| json!(number)),
        #[expect(clippy::cast_precision_loss, reason = "only compared with bounds")]
        (Kind::Number(bounds), Scalar::Whole(whole)) => {
            if !bounds.hold(*whole as f64) {
                return None;
            }
            i64::try_from(*whole).ok().map(|whole| json!(whole))
        }
        (Kind::Word(words), Scalar::Text(text)) => words.contains(&text.as_str()).then(|| json!(text)),
        (Kind::Or(word, _), Scalar::Text(text)) if text == word => Some(json!(text)),
        (Kind::Or(_, kind) | Kind::Either(kind, _), scalar) => accept(kind, scalar),
        _ => None,
    }
}

/// JSON of the schema's own; a test parses them all.
fn constant(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}
