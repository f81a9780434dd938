//! Sentences for people.

use crate::driver::Explained;
use crate::store::TrialPlace;
use proto::wire;
use serde_json::json;
use sweeps::scheduler::{StopReason, TrialState, Waiting};

/// Names farther off are not suggested.
const SUGGESTIONS_MAX: usize = 3;

/// There is no sweep of that name: which ones there are.
pub(super) fn no_sweep(name: &str, names: &[String]) -> String {
    if names.is_empty() {
        return format!("there is no sweep {name}; no sweep was submitted to this store yet");
    }
    let allowed = (name.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &String)> = names
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= allowed || known.starts_with(name))
        .collect();
    near.sort();
    near.truncate(SUGGESTIONS_MAX);
    match near.as_slice() {
        [] => format!("there is no sweep {name}; `alpharho list` shows those there are"),
        near => {
            let near: Vec<&str> = near.iter().map(|(_, name)| name.as_str()).collect();
            format!("there is no sweep {name}; did you mean {}?", near.join(" or "))
        }
    }
}

/// Why a trial waits, or what it does.
pub(super) fn explain(
    explained: &Explained,
    place: &TrialPlace,
    attempts: Vec<wire::AttemptStatus>,
) -> wire::ExplainReply {
    let Explained { record, waiting, sweep_paused, replicas, beside } = explained;
    let TrialPlace { number, alpha, resolution, host, device, started_ms } = place;
    let what = format!(
        "Trial {} (number {number} of {}, alpha {alpha}, resolution {resolution})",
        record.trial.id, record.sweep
    );
    let epochs = format!("{} of {} epochs are done", record.epochs_done, record.trial.epochs);
    let retry = format!("`alpharho retry {} --trial {number}` starts it again", record.sweep);
    let rest = match &record.state {
        TrialState::Pending | TrialState::Paused => {
            format!("{}; {epochs}", waits(waiting, &record.sweep, *number, *sweep_paused))
        }
        TrialState::Running { attempt, slot, stopping } => {
            let host = host.as_deref().filter(|host| !host.is_empty()).unwrap_or("an unnamed host");
            let device = device.as_deref().unwrap_or_default();
            let attempt = if *attempt == 1 { String::new() } else { format!(", attempt {attempt}") };
            let ending = match stopping {
                None => "",
                Some(StopReason::Pause) => "; it is being paused, which waits for a checkpoint",
                Some(StopReason::Cancel) => "; it is being cancelled",
                Some(StopReason::Superseded) => "; it is being stopped",
            };
            let helped = match replicas.as_slice() {
                [] => String::new(),
                others => {
                    let others: Vec<String> = others
                        .iter()
                        .map(|(number, (host, device))| format!("replica {number} on {host}, {device}"))
                        .collect();
                    format!("; it is helped by {}", others.join("; "))
                }
            };
            let beside = match beside {
                0 => String::new(),
                1 => ", beside another trial".to_owned(),
                others => format!(", beside {others} other trials"),
            };
            format!("runs on {host}, {device} (worker {}){beside}{attempt}{helped}; {epochs}{ending}", slot.worker)
        }
        TrialState::Completed => format!("is completed; {epochs}"),
        TrialState::Failed { reason } => {
            format!("has failed after {epochs}: {reason}; {retry}")
        }
        TrialState::Cancelled => format!("was cancelled; {epochs}; {retry}"),
    };
    let json = json!({
        "trial": record.trial.id,
        "sweep": record.sweep,
        "number": number,
        "alpha": alpha,
        "resolution": resolution,
        "state": record.state,
        "waiting": waiting,
        "sweep_paused": sweep_paused,
        "attempts": record.attempts,
        "restarts": record.restarts,
        "losses": record.losses,
        "epochs": record.trial.epochs,
        "epochs_done": record.epochs_done,
        "host": host,
        "device": device,
        "attempt_started_ms": started_ms,
        "chief_address": record.chief_address,
        "beside": beside,
        "replicas": replicas.iter().map(|(number, (host, device))| {
            json!({"replica": number, "host": host, "device": device})
        }).collect::<Vec<_>>(),
    });
    wire::ExplainReply {
        state: record.state.word().to_owned(),
        text: format!("{what} {rest}."),
        json: json.to_string(),
        attempts,
    }
}

fn waits(waiting: &Waiting, sweep: &str, number: u32, sweep_paused: bool) -> String {
    match waiting {
        Waiting::NotWaiting => "is about to run".to_owned(),
        Waiting::Paused if sweep_paused => {
            format!("waits because its sweep is paused (`alpharho resume {sweep}` goes on)")
        }
        Waiting::Paused => format!("waits because it is paused (`alpharho resume {sweep} --trial {number}` goes on)"),
        Waiting::NoWorkers => {
            "waits because no worker is there; start alpharho-worker on a machine that can train".to_owned()
        }
        Waiting::NoUsableWorkers => {
            "waits because all workers are draining or disconnected, or set aside (`alpharho workers` says which); start \
             another one, or wait for them"
                .to_owned()
        }
        Waiting::Held { reason } => format!("waits because no trial is begun now: {reason}"),
        Waiting::NoFreeSlot { ahead, slots } => {
            let slots = if *slots == 1 { "the only slot is".to_owned() } else { format!("all {slots} slots are") };
            let ahead = match ahead {
                0 => "it is next".to_owned(),
                1 => "one trial goes before it".to_owned(),
                ahead => format!("{ahead} trials go before it"),
            };
            format!("waits because {slots} busy; {ahead}")
        }
        Waiting::ConcurrencyLimit { limit } => {
            format!("waits because its sweep runs at most {limit} trials at a time (max_concurrent_trials)")
        }
        Waiting::SlotsForReplicas { trial } => format!(
            "waits although a slot is free: it is kept for trial {trial}, which has just begun and must have several \
             replicas (training.replicas)"
        ),
        Waiting::SlotsForMoves { trials } => {
            let trials = if *trials == 1 { "one trial saves".to_owned() } else { format!("{trials} trials save") };
            format!("waits a moment although a slot is free: {trials} a checkpoint, to go on where all is done earlier")
        }
        Waiting::BetterSlotSoon { slot } => {
            format!(
                "waits although a slot is free: slot {} of worker {} would finish it earlier",
                slot.index, slot.worker
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sweeps::ids::{SlotId, TrialId, WorkerId};
    use sweeps::scheduler::{NewTrial, ReplicaLimits, TrialRecord};

    #[test]
    fn names_that_are_close_are_suggested() {
        let names = ["fashion-mnist", "elpv-grid", "elpv-grid-2"].map(str::to_owned);
        for (name, expected) in [
            ("elpv-gird", "did you mean elpv-grid or elpv-grid-2?"),
            ("fashion", "did you mean fashion-mnist?"),
            ("zzz", "`alpharho list` shows those there are"),
        ] {
            let text = no_sweep(name, &names);
            assert!(text.ends_with(expected), "{text}");
        }
        assert!(no_sweep("a", &[]).ends_with("no sweep was submitted to this store yet"));
    }

    #[test]
    fn a_sentence_for_each_reason() {
        let slot = SlotId { worker: WorkerId(10), index: 0 };
        let running = TrialState::Running { attempt: 2, slot, stopping: Some(StopReason::Pause) };
        let failed = TrialState::Failed { reason: "loss is NaN".to_owned() };
        let limit = Waiting::ConcurrencyLimit { limit: 4 };
        let held = Waiting::Held { reason: "little room".to_owned() };
        for (state, waiting, expected) in [
            (TrialState::Pending, Waiting::NoWorkers, "waits because no worker is there; start alpharho-worker"),
            (
                TrialState::Pending,
                Waiting::NoFreeSlot { ahead: 1, slots: 2 },
                "all 2 slots are busy; one trial goes before it; 3 of 10",
            ),
            (TrialState::Pending, limit, "at most 4 trials at a time"),
            (TrialState::Pending, held, "waits because no trial is begun now: little room"),
            (TrialState::Paused, Waiting::Paused, "`alpharho resume s --trial 2` goes on"),
            (
                running,
                Waiting::NotWaiting,
                "runs on gpu1, cuda:0 (worker 000000000000000a), beside 3 other trials, attempt 2; it is helped by replica 3 on gpu2, cuda:1; \
                 3 of 10 epochs are done; it is being paused",
            ),
            (failed, Waiting::NotWaiting, "has failed after 3 of 10 epochs are done: loss is NaN"),
        ] {
            let record = TrialRecord {
                trial: NewTrial {
                    id: TrialId(7),
                    work: 1,
                    mult_adds: 1,
                    epochs: 10,
                    replicas: ReplicaLimits { min: 1, max: 2 },
                    stream: None,
                },
                sweep: "s".to_owned(),
                state,
                attempts: 2,
                restarts: 0,
                losses: 0,
                epochs_done: 3,
                replicas_started: 0,
                chief_address: None,
            };
            let replicas = vec![(3, ("gpu2".to_owned(), "cuda:1".to_owned()))];
            let explained = Explained { record, waiting, sweep_paused: false, replicas, beside: 3 };
            let place = TrialPlace {
                number: 2,
                alpha: 0.5,
                resolution: 160,
                host: Some("gpu1".to_owned()),
                device: Some("cuda:0".to_owned()),
                started_ms: None,
            };
            let reply = explain(&explained, &place, Vec::new());
            assert!(reply.text.starts_with("Trial 7 (number 2 of s, alpha 0.5, resolution 160) "), "{}", reply.text);
            assert!(reply.text.contains(expected), "{}", reply.text);
            assert_eq!(reply.state, explained.record.state.word());
        }
    }
}
