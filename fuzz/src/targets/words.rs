//! What texts of messages say.

use crate::contract::Words;
use crate::dice::Dice;
use crate::spoil::spoil;
use crate::targets::files;

/// Things that are said in earnest, by field; and others.
pub(super) struct Vocabulary {
    yaml: Vec<Vec<u8>>,
    trials: Vec<Vec<u8>>,
}

/// Small sweeps, of which a coordinator can hold many.
const SWEEPS: [&str; 4] = [
    "name: a\nparameters:\n  alpha: {values: [1, 0.5]}\n  resolution: {values: [128, 96]}\ndata: {format: image_folder, \
     train: photos, validation: {fraction: 0.25}, classes: 10}\ntraining: {epochs: 3}\n",
    "name: b\nparameters:\n  alpha: {value: 0.25}\n  resolution: {value: 32}\n  training.batch_size: {values: [8, 16, 32]}\n\
     data: {format: idx, train: images, validation: {fraction: 0.5}, classes: 2}\ntraining: {epochs: 1, replicas: {min: 1, max: 3}}\n",
    "name: a\nparameters:\n  alpha: {values: [1]}\n  resolution: {values: [128]}\ndata: {format: csv, train: m.csv, \
     validation: v.csv, classes: 3}\ntraining: {epochs: 2}\nmax_concurrent_trials: 1\n",
    "name: c-3\nmethod: random\ntrials: 5\nparameters:\n  alpha: {min: 0.1, max: 1, distribution: uniform}\n  resolution: \
     {value: 64}\ndata: {format: cifar, train: c, validation: c, classes: 10}\ntraining: {epochs: 1}\n",
];
const ENDS: [&str; 6] = [
    r#"{"end":"completed"}"#,
    r#"{"end":"stopped"}"#,
    r#"{"end":"failed","reason":"broken"}"#,
    r#"{"end":"crashed","reason":"signal 9"}"#,
    r#"{"end":"lost","reason":"gone"}"#,
    r#"{"end":"completed","reason":[]}"#,
];
const POINTS: [&str; 6] = ["val_top1", "train_loss", "step_loss", "images_per_second", "replicas", "no_such_metric"];
const NAMES: [&str; 10] = ["a", "b", "c-3", "", "gpu1", "cpu", "cuda:0", "none", "2.11.0", "node7"];

impl Vocabulary {
    pub(super) fn new() -> Self {
        let yaml: Vec<Vec<u8>> = SWEEPS.iter().map(|text| text.as_bytes().to_vec()).collect();
        let trial = |text: &[u8]| {
            let sweep = sweeps::spec::parse("sweep.yaml", &String::from_utf8_lossy(text)).ok()?;
            Some(proto::convert::to_json(&sweep.expand().next()?).into_bytes())
        };
        let trials = yaml.iter().chain(&files("sweeps", "yaml")).filter_map(|text| trial(text)).collect();
        Self { yaml, trials }
    }

    fn usual(&self, field: &str, dice: &mut Dice) -> Vec<u8> {
        let one = |from: &[&str], dice: &mut Dice| dice.pick(from).as_bytes().to_vec();
        match field {
            "yaml" => dice.pick(&self.yaml).clone(),
            "trial_json" => dice.pick(&self.trials).clone(),
            "end_json" => one(&ENDS, dice),
            "reason" => one(&["pause", "cancel", "superseded", "disk"], dice),
            "role" => one(&["admin", "submit", "worker", "read", ""], dice),
            "address" | "chief" => one(&["10.0.0.5:4000", "[::1]:1", "gpu0:65535", "a:0", ":1", "a b:7"], dice),
            "id" => one(&["0123456789abcdef", "0123456789ABCDEF", "0"], dice),
            "hash" => {
                let count = if dice.one_in(4) { 31 } else { 32 };
                dice.bytes(count)
            }
            "sha256" => hex::encode(dice.bytes(32)).into_bytes(),
            "data" | "gradient" | "parameters" => {
                let count = dice.below(300);
                dice.bytes(count)
            }
            "names" | "metrics" | "metrics_last" => one(&POINTS, dice),
            "name" if dice.one_in(2) => one(&POINTS, dice),
            "lines" => one(&["epoch 1", "\u{1b}[2J\u{7}", "\t", "long", "é"], dice).repeat(1 + dice.below(3)),
            _ => one(&NAMES, dice),
        }
    }
}

impl Words for Vocabulary {
    fn text(&self, field: &str, dice: &mut Dice) -> Vec<u8> {
        let mut text = self.usual(field, dice);
        if dice.one_in(8) {
            spoil(
                &mut text,
                &self.usual(field, &mut dice.clone()),
                &[b"\0", b"\"", b"{", b"../", b"\xFF"],
                8_192,
                dice,
            );
        }
        if dice.one_in(400) {
            text = text.repeat(1 + dice.below(300_000) / text.len().max(1));
        }
        text
    }
}
