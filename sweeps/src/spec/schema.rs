//! Every key of a sweep file as a table: its kind, its bounds, whether it must be given. The walk over the file
//! ([`super::shape`]) and the axes of `parameters` are checked by the same table; tests hold it against the
//! model's types and against the reference for users.

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) need: Need,
}

/// What happens where a key is absent.
#[derive(Debug)]
pub(super) enum Need {
    /// It is a problem. Checks go on with this value, as JSON, so that all other problems are found too.
    Must(&'static str),
    /// The model's own default holds.
    May,
}

/// What a value must be.
#[derive(Debug)]
pub(super) enum Kind {
    /// Words for people or a path; at most so many characters.
    Text(usize),
    Flag,
    /// From, to.
    Whole(u64, u64),
    Number(Bounds),
    /// One of these.
    Word(&'static [&'static str]),
    /// The word in place of a value of that kind.
    Or(&'static str, &'static Kind),
    /// Two numbers, the smaller first.
    Pair(Bounds),
    List(List),
    Map(&'static [Key]),
    /// A single value, or a mapping in its place.
    Either(&'static Kind, &'static [Key]),
    /// The axes.
    Parameters,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) of: &'static Kind,
    pub(super) lengths: (usize, usize),
    pub(super) distinct: bool,
}

/// Between two numbers; an end may be left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) low: f64,
    pub(super) low_open: bool,
    pub(super) high: f64,
    pub(super) high_open: bool,
}

impl Bounds {
    pub(super) fn hold(self, number: f64) -> bool {
        let above = if self.low_open { number > self.low } else { number >= self.low };
        let below = if self.high_open { number < self.high } else { number <= self.high };
        above && below
    }

    fn shown(self) -> String {
        let left = if self.low_open { '(' } else { '[' };
        let right = if self.high_open { ')' } else { ']' };
        format!("{left}{}, {}{right}", self.low, self.high)
    }
}

/// (low, high]
const fn above(low: f64, high: f64) -> Bounds {
    Bounds { low, low_open: true, high, high_open: false }
}
/// [low, high]
const fn within(low: f64, high: f64) -> Bounds {
    Bounds { low, low_open: false, high, high_open: false }
}
/// [low, high)
const fn below(low: f64, high: f64) -> Bounds {
    Bounds { low, low_open: false, high, high_open: true }
}
/// (low, high)
const fn inside(low: f64, high: f64) -> Bounds {
    Bounds { low, low_open: true, high, high_open: true }
}

const fn key(name: &'static str, kind: Kind, need: Need) -> Key {
    Key { name, kind, need }
}

/// Whole numbers up to here survive every reader of JSON.
const SEED_MAX: u64 = (1 << 53) - 1;
/// The most trials of a sweep, so also the longest list that means anything.
pub(super) const TRIALS_MAX: u64 = 100_000;
const LIST_MAX: usize = 100_000;
const PATH_MAX: usize = 1000;

use super::model::Format;
use Kind::{Either, Flag, Map, Number, Or, Pair, Parameters, Text, Whole, Word};
use Need::{May, Must};

/// α.
pub(super) const ALPHA: Kind = Number(above(0.0, 2.0));
/// ρ in pixels.
pub(super) const RESOLUTION: Kind = Whole(16, 1024);

/// The whole file.
pub(super) const SWEEP: &[Key] = &[
    key("name", Text(64), Must("\"sweep\"")),
    key("description", Text(1000), May),
    key("method", Word(&["grid", "random"]), May),
    key("trials", Whole(1, TRIALS_MAX), May),
    key("metrics", Kind::List(List { of: &Map(METRIC), lengths: (1, 16), distinct: false }), May),
    key("network", Word(&["mobilenet", "conv_mobilenet", "shallow_mobilenet"]), May),
    key("parameters", Parameters, Must(r#"{"alpha": {"value": 1}, "resolution": {"value": 224}}"#)),
    key("seeds", Kind::List(List { of: &Whole(0, SEED_MAX), lengths: (1, LIST_MAX), distinct: true }), May),
    key(
        "data",
        Map(DATA),
        Must(r#"{"format": "image_folder", "train": "data", "validation": "more", "classes": 1000}"#),
    ),
    key("training", Map(TRAINING), Must(r#"{"epochs": 1}"#)),
    key("resources", Map(RESOURCES), May),
    key("max_concurrent_trials", Or("none", &Whole(1, TRIALS_MAX)), May),
    key("max_restarts", Whole(0, 1000), May),
    key("max_losses", Whole(0, 1_000_000), May),
    key("checkpoint", Map(CHECKPOINT), May),
    key("script", Kind::List(List { of: &Map(SCRIPT_STEP), lengths: (0, 100), distinct: false }), May),
];

const METRIC: &[Key] =
    &[key("name", Text(64), Must("\"val_top1\"")), key("goal", Word(&["maximize", "minimize"]), Must("\"maximize\""))];

const DATA: &[Key] = &[
    key("format", Word(Format::WORDS), Must("\"image_folder\"")),
    key("train", Text(PATH_MAX), Must("\"data\"")),
    key(
        "validation",
        Either(&Text(PATH_MAX), &[key("fraction", Number(inside(0.0, 1.0)), Must("0.25"))]),
        Must("\"more\""),
    ),
    key("classes", Whole(2, 100_000), Must("1000")),
    key("seed", Whole(0, SEED_MAX), May),
    key("broken_images_max", Whole(0, 1_000_000_000), May),
    key("crop", Map(&[key("area", Pair(above(0.0, 1.0)), May), key("aspect", Pair(within(0.1, 10.0)), May)]), May),
    key("flip", Flag, May),
    key(
        "color",
        Map(&[key("brightness", Number(within(0.0, 1.0)), May), key("saturation", Pair(within(0.0, 10.0)), May)]),
        May,
    ),
    key("evaluation_crop", Number(above(0.0, 1.0)), May),
];

/// All that may be an axis by its dotted name.
pub(super) const TRAINING: &[Key] = &[
    key("epochs", Whole(1, 100_000), Must("1")),
    key("batch_size", Whole(1, 65_536), May),
    key(
        "optimizer",
        Map(&[
            key("name", Word(&["rmsprop"]), May),
            key("decay", Number(below(0.0, 1.0)), May),
            key("momentum", Number(below(0.0, 1.0)), May),
            key("epsilon", Number(above(0.0, 1e6)), May),
        ]),
        May,
    ),
    key("learning_rate", Number(above(0.0, 1000.0)), May),
    key(
        "schedule",
        Map(&[
            key("name", Word(&["exponential"]), May),
            key("decay", Number(above(0.0, 1.0)), May),
            key("every_epochs", Number(above(0.0, 100_000.0)), May),
            key("warmup_epochs", Number(within(0.0, 100_000.0)), May),
        ]),
        May,
    ),
    key("weight_decay", Number(within(0.0, 1.0)), May),
    key("weight_decay_depthwise", Number(within(0.0, 1.0)), May),
    key("gradient_clip_norm", Or("none", &Number(above(0.0, 1e9))), May),
    key("dropout", Number(below(0.0, 1.0)), May),
    key("label_smoothing", Number(below(0.0, 1.0)), May),
    key("weight_ema", Or("none", &Number(inside(0.0, 1.0))), May),
    key("activation", Word(&["relu6", "relu"]), May),
    key(
        "batch_norm",
        Map(&[
            key("epsilon", Number(above(0.0, 1.0)), May),
            key("decay", Or("auto", &Number(inside(0.0, 1.0))), May),
            key("reestimate_batches", Whole(0, 100_000), May),
        ]),
        May,
    ),
    key("init_std", Number(above(0.0, 10.0)), May),
    key("precision", Word(&["f32", "bf16"]), May),
    key(
        "replicas",
        Either(&Whole(1, 1024), &[key("min", Whole(1, 1024), Must("1")), key("max", Whole(1, 1024), Must("1"))]),
        May,
    ),
    key(
        "gradients",
        Map(&[
            key("mode", Word(&["async", "sync"]), May),
            key("max_staleness", Or("none", &Whole(0, 1_000_000)), May),
            key("staleness_lr", Word(&["none", "inverse"]), May),
            key("delay_compensation", Number(within(0.0, 1000.0)), May),
            key("push_every", Whole(1, 100_000), May),
            key("wire", Word(&["f32", "bf16"]), May),
            key("drop_slowest", Whole(0, 1023), May),
        ]),
        May,
    ),
];

const RESOURCES: &[Key] = &[
    key("slots", Whole(1, 1024), May),
    key("priority", Whole(0, 100), May),
    key("packing", Map(&[key("max_trials_per_slot", Or("auto", &Whole(1, 64)), May)]), May),
];

const CHECKPOINT: &[Key] = &[
    key("every_epochs", Whole(1, 100_000), May),
    key("every_minutes", Number(above(0.0, 100_000.0)), May),
    key("keep", Kind::List(List { of: &Word(&["best", "latest"]), lengths: (1, 2), distinct: true }), May),
];

const SCRIPT_STEP: &[Key] = &[
    key("do", Word(&["sleep", "report", "checkpoint", "crash", "hang", "fail"]), Must("\"checkpoint\"")),
    key(
        "when",
        Map(&[
            key("epoch", Whole(1, 100_000), May),
            key("attempt", Whole(1, 1_000_000), May),
            key("alpha", ALPHA, May),
            key("resolution", RESOLUTION, May),
        ]),
        May,
    ),
    key("ms", Whole(0, 86_400_000), May),
    key("name", Text(64), May),
    key("value", Number(within(-1e300, 1e300)), May),
    key("message", Text(200), May),
];

impl Kind {
    /// As a message asks for it.
    pub(super) fn expected(&self) -> String {
        match self {
            Text(longest) => format!("text of at most {longest} printable characters"),
            Flag => "true or false".to_owned(),
            Whole(low, high) => format!("a whole number from {low} to {high}"),
            Number(bounds) => format!("a number in {}", bounds.shown()),
            Word([only]) => format!("the word {only}"),
            Word(words) => format!("one of {}", words.join(", ")),
            Or(word, kind) => format!("{} or the word {word}", kind.expected()),
            Pair(bounds) => format!("[from, to], two numbers in {}, the smaller first", bounds.shown()),
            Kind::List(List { lengths: (shortest, longest), .. }) => {
                format!("a list [..] of {shortest} to {longest} items")
            }
            Map(keys) => format!("a mapping with keys as {}", names(keys)),
            Either(kind, keys) => format!("{}, or a mapping of {}", kind.expected(), names(keys)),
            Parameters => "a mapping of axes, as {alpha: {values: [1, 0.5]}, resolution: {value: 224}}".to_owned(),
        }
    }

    /// Whether whole numbers, any numbers, or no numbers at all can be drawn for it; with the bounds.
    pub(super) fn drawn(&self) -> Option<(Bounds, bool)> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "the table's bounds are below 2^53")]
            Whole(low, high) => Some((within(*low as f64, *high as f64), true)),
            Number(bounds) => Some((*bounds, false)),
            Or(_, kind) => kind.drawn(),
            Either(kind, _) => kind.drawn(),
            _ => None,
        }
    }
}

fn names(keys: &[Key]) -> String {
    keys.iter().take(4).map(|key| key.name).collect::<Vec<_>>().join(", ")
}

/// What an axis of that name may hold, if it may be one.
pub(super) fn axis(name: &str) -> Option<&'static Kind> {
    match name {
        "alpha" => Some(&ALPHA),
        "resolution" => Some(&RESOLUTION),
        _ => match find(TRAINING, name.strip_prefix("training.")?)? {
            Map(_) => None,
            kind => Some(kind),
        },
    }
}

fn find(keys: &'static [Key], path: &str) -> Option<&'static Kind> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let kind = &keys.iter().find(|key| key.name == first)?.kind;
    match (rest, kind) {
        (None, kind) => Some(kind),
        (Some(rest), Map(keys)) => find(keys, rest),
        (Some(_), _) => None,
    }
}

/// A key of the group of that name, if `name` is one: `training.optimizer.name` for `training.optimizer`.
pub(super) fn within_group(name: &str) -> Option<String> {
    match find(TRAINING, name.strip_prefix("training.")?)? {
        Map(keys) => keys.last().map(|key| format!("{name}.{}", key.name)),
        _ => None,
    }
}

/// Each key below `keys` by its dotted name; of mappings, their keys.
pub(super) fn leaves(keys: &'static [Key], prefix: &str, out: &mut Vec<String>) {
    for key in keys {
        let name = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        match &key.kind {
            Map(keys) => leaves(keys, &name, out),
            _ => out.push(name),
        }
    }
}
