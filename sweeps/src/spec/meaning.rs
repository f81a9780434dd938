//! The second check: what only makes sense together. Runs on a file that has the right shape, or on what is
//! left of one that has not; says nothing of keys that are already known to be wrong.

use super::expand;
use super::model::{
    Act, Data, GradientMode, Gradients, Method, Parameter, ScriptStep, Single, StalenessRate, Sweep, Training,
    Validation, Values,
};
use super::problems::Problems;
use super::schema::TRIALS_MAX;
use super::shape::Places;
use super::suggest::{clause, nearest};
use crate::canonical;
use crate::metrics::{self, Axis, Goal, METRICS};
use std::collections::BTreeSet;

/// Steps of a script times trials: each trial carries its script.
const SCRIPTED_STEPS_MAX: u64 = 1_000_000;

/// Checks a sweep.
pub(super) fn check(sweep: &Sweep, places: &Places, problems: &mut Problems) {
    let mut check = Check { places, problems };
    check.name(sweep);
    check.metrics(sweep);
    check.data(&sweep.data);
    check.training(sweep);
    check.replicas(sweep);
    check.support(sweep);
    check.script(sweep);
    check.parameters(sweep);
}

struct Check<'a> {
    places: &'a Places,
    problems: &'a mut Problems,
}

impl Check<'_> {
    /// A problem with the value of that path.
    fn wrong(&mut self, path: &str, message: impl FnOnce() -> String) {
        if !self.problems.touch(path) {
            self.problems.add(self.places.value(path), path, message);
        }
    }

    fn name(&mut self, Sweep { name, .. }: &Sweep) {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || !name.chars().all(allowed) || name.starts_with('-') {
            self.wrong("name", || {
                format!(
                    "name must be made of a-z, 0-9 and -, and not begin with -; it is the sweep's identity: {name:?}"
                )
            });
        }
    }

    fn metrics(&mut self, sweep: &Sweep) {
        let mut seen = BTreeSet::new();
        for (index, asked) in sweep.metrics.iter().enumerate() {
            let (name, path) = (&asked.name, format!("metrics[{index}]"));
            let Some(metric) = metrics::find(name) else {
                let near = nearest(name, METRICS.iter().map(|metric| metric.name));
                self.wrong(&format!("{path}.name"), || format!("there is no metric \"{name}\"{}", clause(near)));
                continue;
            };
            if !seen.insert(name) {
                self.wrong(&format!("{path}.name"), || format!("the metric {name} stands twice"));
            }
            match metric.goal {
                None => self.wrong(&path, || format!("neither more nor less of {name} is better: it cannot be a goal")),
                Some(goal) if goal != asked.goal => {
                    let word = match goal {
                        Goal::Maximize => "maximize",
                        Goal::Minimize => "minimize",
                    };
                    self.wrong(&format!("{path}.goal"), || format!("the goal of {name} is {word}"));
                }
                Some(_) => {}
            }
            if index == 0 && metric.axis != Axis::Epoch {
                self.wrong(&path, || {
                    format!("the first metric says which checkpoint is best, so it must be one of each epoch, as val_top1; {name} is not")
                });
            }
            if name == "val_top5" && sweep.data.classes < 6 {
                self.wrong(&path, || "val_top5 is not measured under 6 classes".to_owned());
            }
        }
    }

    fn data(&mut self, data: &Data) {
        let mut paths = vec![("data.train", &data.train)];
        if let Validation::Path(path) = &data.validation {
            paths.push(("data.validation", path));
        }
        for (key, path) in paths {
            if path.trim().is_empty() {
                self.wrong(key, || format!("{key} must be a path on the worker, or a name that it maps"));
            }
        }
        if matches!(&data.validation, Validation::Path(path) if *path == data.train) {
            self.wrong("data.validation", || {
                "data.validation is the same as data.train; to split one set write validation: {fraction: 0.25}"
                    .to_owned()
            });
        }
    }

    fn training(&mut self, sweep: &Sweep) {
        let Training { epochs, schedule, .. } = &sweep.training;
        let axis = |name: &str| sweep.parameters.contains_key(name);
        if schedule.warmup_epochs >= f64::from(*epochs)
            && !axis("training.epochs")
            && !axis("training.schedule.warmup_epochs")
            && !self.problems.touch("training.epochs")
        {
            self.wrong("training.schedule.warmup_epochs", || {
                format!("the warm-up would not end: it must be shorter than training.epochs, which is {epochs}")
            });
        }
    }

    fn replicas(&mut self, sweep: &Sweep) {
        let Training { replicas, gradients, .. } = &sweep.training;
        if replicas.min() > replicas.max() {
            let (min, max) = (replicas.min(), replicas.max());
            self.wrong("training.replicas", || {
                format!("training.replicas: min is {min} and max is {max}; min must not be above max")
            });
        }
        let Gradients { mode, max_staleness, staleness_lr, delay_compensation, drop_slowest, .. } = gradients;
        let by_axis = sweep.parameters.contains_key("training.gradients.mode");
        let without_meaning = [
            ("max_staleness", GradientMode::Sync, max_staleness.is_some()),
            ("staleness_lr", GradientMode::Sync, *staleness_lr != StalenessRate::None),
            ("delay_compensation", GradientMode::Sync, *delay_compensation != 0.0),
            ("drop_slowest", GradientMode::Async, *drop_slowest != 0),
        ];
        for (key, in_mode, given) in without_meaning {
            if !given || in_mode != *mode || by_axis || self.problems.touch("training.gradients.mode") {
                continue;
            }
            self.wrong(&format!("training.gradients.{key}"), || match in_mode {
                GradientMode::Sync => {
                    format!("{key} has no meaning for mode: sync, where no gradient is stale; remove it, or write mode: async")
                }
                GradientMode::Async => {
                    format!("{key} has no meaning for mode: async, where nobody is waited for; remove it, or write mode: sync")
                }
            });
        }
        self.drop_slowest(sweep);
    }

    /// Somebody must be left to wait for, in each trial.
    fn drop_slowest(&mut self, sweep: &Sweep) {
        let path = "training.gradients.drop_slowest";
        let (dropped, dropped_at) = match whole_values(sweep, path) {
            Some(values) => (values.into_iter().max().unwrap_or(0), format!("parameters.{path}")),
            None => (sweep.training.gradients.drop_slowest.into(), path.to_owned()),
        };
        let replicas = match whole_values(sweep, "training.replicas") {
            Some(values) => values.into_iter().min().unwrap_or(1),
            None if self.problems.touch("training.replicas") => return,
            None => sweep.training.replicas.max().into(),
        };
        if dropped > 0 && dropped >= replicas {
            self.wrong(&dropped_at, || {
                format!("drop_slowest is {dropped} of {replicas} replicas: at least one must be waited for")
            });
        }
    }

    /// What the format has a place for and this version cannot do.
    fn support(&mut self, sweep: &Sweep) {
        if sweep.resources.slots != 1 {
            self.wrong("resources.slots", || {
                "this version does not support trials on several slots yet; write slots: 1".to_owned()
            });
        }
    }

    fn script(&mut self, sweep: &Sweep) {
        for (index, step) in sweep.script.iter().flatten().enumerate() {
            let ScriptStep { act, ms, name, value, message, .. } = step;
            let asked: &[&str] = match act {
                Act::Sleep => &["ms"],
                Act::Report => &["name", "value"],
                Act::Fail => &["message"],
                Act::Checkpoint | Act::Crash | Act::Hang => &[],
            };
            let word = serde_json::to_value(act).unwrap_or_default();
            let given = [
                ("ms", ms.is_some()),
                ("name", name.is_some()),
                ("value", value.is_some()),
                ("message", message.is_some()),
            ];
            for (key, given) in given {
                let path = format!("script[{index}].{key}");
                match (given, asked.contains(&key)) {
                    (false, true) => {
                        self.wrong(&path, || format!("missing key \"{key}\": do: {} needs it", bare(&word)))
                    }
                    (true, false) => self.wrong(&path, || format!("{key} has no meaning for do: {}", bare(&word))),
                    _ => {}
                }
            }
            if let (Act::Report, Some(name)) = (act, name)
                && metrics::find(name).is_none_or(|metric| metric.axis == Axis::Constant)
            {
                let reported = METRICS.iter().filter(|metric| metric.axis != Axis::Constant).map(|metric| metric.name);
                let hint = clause(nearest(name, reported));
                self.wrong(&format!("script[{index}].name"), || format!("no metric \"{name}\" can be reported{hint}"));
            }
        }
    }

    fn parameters(&mut self, sweep: &Sweep) {
        match (sweep.method, sweep.trials) {
            (Method::Grid, Some(_)) => {
                self.wrong("trials", || "trials is for method: random; a grid trains every combination".to_owned())
            }
            (Method::Random, None) if !self.problems.touch("trials") => {
                self.wrong("method", || "method: random needs trials: how many to draw".to_owned());
            }
            (Method::Grid, None) | (Method::Random, _) => {}
        }
        for (name, parameter) in &sweep.parameters {
            let path = format!("parameters.{name}");
            if sweep.method == Method::Grid && matches!(parameter, Parameter::Range(_)) {
                self.wrong(&path, || format!("{path} is a range, which needs method: random; a grid takes values"));
            }
            if let Parameter::Values(list) = parameter {
                self.distinct(&path, &list.values);
            }
        }
        if self.problems.is_empty() {
            self.count(sweep);
        }
    }

    /// Alike in meaning, however written.
    fn distinct(&mut self, path: &str, values: &[serde_json::Value]) {
        let mut seen = BTreeSet::new();
        for (index, value) in values.iter().enumerate() {
            if !seen.insert(canonical::text(value)) {
                self.wrong(&format!("{path}.values[{index}]"), || format!("{} stands twice in this list", bare(value)));
            }
        }
    }

    /// How many trials there will be.
    fn count(&mut self, sweep: &Sweep) {
        let trials = expand::count(sweep);
        if trials > TRIALS_MAX.into() {
            let path = if sweep.method == Method::Random { "trials" } else { "parameters" };
            let shown = if trials < 1_000_000_000_000 { trials.to_string() } else { "over 10^12".to_owned() };
            self.wrong(path, || format!("the sweep has {shown} trials; at most {TRIALS_MAX} are allowed"));
            return;
        }
        let steps = sweep.script.as_ref().map_or(0, Vec::len) as u128;
        if steps * trials > SCRIPTED_STEPS_MAX.into() {
            self.wrong("script", || {
                format!("{steps} steps for each of {trials} trials; at most {SCRIPTED_STEPS_MAX} in all are allowed")
            });
        }
        if let (Method::Random, Some(asked)) = (sweep.method, sweep.trials) {
            let found = expand::points(sweep).len();
            if found < asked as usize {
                self.wrong("trials", || {
                    format!("{asked} different trials are asked for, and the parameters have only {found}")
                });
            }
        }
    }
}

/// The whole numbers that an axis has, if there is one of that name; the least and the most of a range.
fn whole_values(sweep: &Sweep, axis: &str) -> Option<Vec<u64>> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and not negative")]
    match sweep.parameters.get(axis)? {
        Parameter::Values(Values { values }) => Some(values.iter().filter_map(serde_json::Value::as_u64).collect()),
        Parameter::Value(Single { value }) => Some(value.as_u64().into_iter().collect()),
        Parameter::Range(range) => Some(vec![range.min as u64, range.max as u64]),
    }
}

fn bare(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
