//! What a person can ask the coordinator for, each with a question before it.

use super::app::Screen;
use super::model::{Model, Standing, Trial};
use crate::format;
use proto::wire::{Action, WorkerStatus};

/// What the dashboard wants done by whoever holds the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The sweep's status, with these metrics of the best epoch, and the speed of the last one.
    Status {
        /// Their names.
        metrics: Vec<String>,
    },
    /// The workers.
    Workers,
    /// All there is of a trial, and its log as it comes; instead of the one before.
    Open(u64),
    /// Again what changes of it without an event.
    Refresh(u64),
    /// Pause, resume, cancel or retry the sweep, or one trial by its id.
    Control(Option<u64>, Action),
    /// Another `max_concurrent_trials`.
    Limit(Option<u32>),
    /// No more leases for this worker.
    Drain(u64),
    /// The end.
    Quit,
}

/// A line of the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Key, within the menu.
    pub(super) key: char,
    /// What it does.
    pub(super) label: String,
    /// What is asked before it is done; with a number to be typed if `None`.
    pub(super) question: Option<String>,
    pub(super) ask: Ask,
}

/// What makes sense now: of the trial or the worker that is under the cursor, then of the sweep.
pub(super) fn choices(
    model: &Model,
    screen: Screen,
    trial: Option<&Trial>,
    worker: Option<&WorkerStatus>,
) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut add = |key: char, label: String, consequence: &str, ask: Ask| {
        let question = Some(format!("{}{}? {consequence}", label[..1].to_uppercase(), &label[1..]));
        choices.push(Choice { key, label, question, ask });
    };
    if let Some(trial) = trial.filter(|_| screen != Screen::Workers && screen != Screen::Events) {
        let name = format!("trial {} ({}-{})", trial.number, format::alpha(trial.alpha), trial.resolution);
        let id = Some(trial.id);
        match trial.standing {
            Standing::Running | Standing::Pending => {
                add('p', format!("pause {name}"), "It saves a checkpoint first.", Ask::Control(id, Action::Pause));
            }
            Standing::Paused => add('r', format!("resume {name}"), "It goes on.", Ask::Control(id, Action::Resume)),
            Standing::Failed | Standing::Cancelled => {
                add('t', format!("retry {name}"), "It starts again.", Ask::Control(id, Action::Retry));
            }
            Standing::Completed => {}
        }
        if !trial.standing.is_over() {
            add('c', format!("cancel {name}"), "It ends without a result.", Ask::Control(id, Action::Cancel));
        }
    }
    if let Some(worker) = worker.filter(|worker| screen == Screen::Workers && worker.state == "attached") {
        let label = format!("drain {} ({:016x})", worker.host, worker.id);
        add('d', label, "It finishes what it trains and gets no more.", Ask::Drain(worker.id));
    }
    let name = &model.name;
    let running = model.count(Standing::Running);
    let open = model.trials.iter().filter(|trial| !trial.standing.is_over()).count();
    let lost = model.count(Standing::Failed) + model.count(Standing::Cancelled);
    if !model.paused && open > 0 {
        let consequence = format!("Its {running} running trials save checkpoints first.");
        add('P', format!("pause the sweep {name}"), &consequence, Ask::Control(None, Action::Pause));
    }
    if model.paused || model.count(Standing::Paused) > 0 {
        add('R', format!("resume the sweep {name}"), "Its paused trials go on.", Ask::Control(None, Action::Resume));
    }
    if open > 0 {
        let consequence = format!("{open} trials end without a result.");
        add('C', format!("cancel the sweep {name}"), &consequence, Ask::Control(None, Action::Cancel));
    }
    if lost > 0 {
        let consequence = format!("{lost} failed or cancelled trials start again.");
        add('T', format!("retry the sweep {name}"), &consequence, Ask::Control(None, Action::Retry));
    }
    if open > 0 {
        let now = model.concurrent_max.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
        let label = format!("change max_concurrent_trials (now {now})");
        choices.push(Choice { key: 'M', label, question: None, ask: Ask::Limit(None) });
    }
    choices
}

/// A number of trials, or none: what was typed for `max_concurrent_trials`.
pub(super) fn limit(typed: &str) -> Result<Option<u32>, &'static str> {
    match typed.trim() {
        "none" | "" => Ok(None),
        words => match words.parse() {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => Err("a number from 1, or none"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_or_none() {
        for (typed, expected) in [
            ("4", Ok(Some(4))),
            (" 12 ", Ok(Some(12))),
            ("", Ok(None)),
            ("none", Ok(None)),
            ("0", Err("a number from 1, or none")),
            ("-1", Err("a number from 1, or none")),
        ] {
            assert_eq!(limit(typed), expected, "{typed:?}");
        }
    }
}
