//! What happened, as `alpharho watch --json` tells it.

use crate::process::Process;
use crate::wait_for;
use serde_json::Value;
use std::collections::BTreeMap;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// Its place among all events of the store.
    pub sequence: u64,
    /// Unix time, by the coordinator's clock.
    pub time_ms: i64,
    /// The trial's number in its sweep.
    pub trial: Option<u64>,
    /// `attempt_started`, `epoch_finished`, ..
    pub kind: String,
    /// All that was told of it.
    pub happening: Value,
}

impl Happened {
    /// From a line of JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn read(line: &str) -> Self {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let happening = event["happening"].clone();
        Self {
            sequence: event["sequence"].as_u64().unwrap(),
            time_ms: event["time_ms"].as_i64().unwrap_or(0),
            trial: event["trial"].as_u64(),
            kind: happening["kind"].as_str().unwrap_or_default().to_owned(),
            happening,
        }
    }

    /// Whether it is of that kind and trial.
    #[must_use]
    pub fn is(&self, kind: &str, trial: u64) -> bool {
        self.kind == kind && self.trial == Some(trial)
    }

    /// A number that was told of it; 0 if it was not.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.happening[name].as_u64().unwrap_or(0)
    }

    /// A word that was told of it; empty if it was not.
    #[must_use]
    pub fn word(&self, name: &str) -> &str {
        self.happening[name].as_str().unwrap_or("")
    }
}

/// How each attempt of a trial ended, in order: `completed`, `crashed`, ..
#[must_use]
pub fn attempts(events: &[Happened], trial: u64) -> Vec<String> {
    events.iter().filter(|event| event.is("attempt_ended", trial)).map(|event| event.word("end").to_owned()).collect()
}

/// The epochs that each attempt of a trial finished, in order.
#[must_use]
pub fn epochs_of(events: &[Happened], trial: u64) -> BTreeMap<u64, Vec<u64>> {
    let mut epochs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.is("epoch_finished", trial)) {
        epochs.entry(event.number("attempt")).or_default().push(event.number("epoch"));
    }
    epochs
}

/// `alpharho watch` in the background.
#[derive(Debug)]
pub struct Watcher {
    pub(crate) process: Process,
}

impl Watcher {
    /// All that it has told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Happened> {
        let written = self.process.written();
        // The last line may not be complete yet.
        let complete = written.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().filter(|line| line.starts_with('{')).map(Happened::read).collect()
    }

    /// Waits for an event; all that were told up to now.
    ///
    /// # Panics
    /// When it does not come in time.
    pub fn until(&self, what: &str, wanted: impl Fn(&Happened) -> bool) -> Vec<Happened> {
        wait_for(what, || {
            let told = self.told();
            told.iter().any(&wanted).then_some(told)
        })
    }
}
