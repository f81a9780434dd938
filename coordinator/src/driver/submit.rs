//! A sweep comes in: new, continued, extended, or in place of another.

use super::act::After;
use super::input::{PricedTrial, Reply, Submission};
use super::{Driver, DriverError, SweepFacts};
use crate::clock::unix_ms;
use crate::store::{StoredSweep, SweepRow, TrialRow, Write};
use proto::convert::to_json;
use proto::wire;
use std::collections::BTreeMap;
use sweeps::event::Happening;
use sweeps::ids::TrialId;
use sweeps::scheduler::{Event, NewTrial, SweepLimits};
use sweeps::spec::model::Sweep;
use tonic::Status;

/// Trials side by side on a slot, where the sweep says `auto`: as many as the usual grid has cells. Where memory
/// is too small for them the trainer dies, and they go on in smaller company.
const COHORT_MAX: u32 = 16;

impl Driver {
    /// Looks up what is stored, so the batch so far is put on disk first, and this one after.
    pub(super) async fn submit(
        &mut self,
        submission: Submission,
        reply: Reply<wire::SubmitReply>,
    ) -> Result<(), DriverError> {
        if !self.flush().await? {
            return Ok(());
        }
        let stored = self.store.sweep(&submission.sweep.name).await?;
        let fingerprint = submission.sweep.fingerprint();
        let (stored, replaced) = match stored {
            Some(stored) if stored.fingerprint != fingerprint && is_another(&submission.sweep, &stored) => {
                (None, Some(stored))
            }
            stored => (stored, None),
        };
        let refused = match &replaced {
            Some(replaced) if !submission.replace => Some(changed(&submission, replaced)),
            _ => self.too_large(&submission, stored.as_ref()),
        };
        if let Some(refused) = refused {
            self.after.push(After::reply(reply, Err(refused)));
            return Ok(());
        }
        if replaced.is_some() {
            tracing::info!(sweep = submission.sweep.name, "a sweep is replaced");
            let sweep = submission.sweep.name.clone();
            // Known: it is stored.
            let _ = self.tell_scheduler(Event::SweepCleared { sweep });
        }
        let answer = self.put(submission, stored);
        self.after.push(After::reply(reply, Ok(answer)));
        self.flush().await?;
        Ok(())
    }

    fn put(&mut self, submission: Submission, stored: Option<StoredSweep>) -> wire::SubmitReply {
        let Submission { file_name, yaml, sweep, trials, replace: _ } = submission;
        let (known, last_number) = stored.map_or((BTreeMap::new(), 0), |stored| (stored.keys, stored.last_number));
        let limits = limits(&sweep);
        let name = sweep.name.clone();
        self.pending.writes.push(Write::Sweep(Box::new(SweepRow {
            name: name.clone(),
            description: sweep.description.clone(),
            file_name,
            yaml,
            spec_json: to_json(&sweep),
            fingerprint: sweep.fingerprint(),
            limits_json: to_json(&limits),
            scripted: sweep.script.is_some(),
            submitted_ms: unix_ms(),
        })));
        let mut rows = Vec::new();
        let mut new = Vec::new();
        for trial in trials.into_iter().filter(|trial| !known.contains_key(&trial.key)) {
            self.last_trial += 1;
            let id = TrialId(self.last_trial);
            let PricedTrial { work, mult_adds, epochs, replicas, stream, .. } = trial;
            new.push(NewTrial { id, work, mult_adds, epochs, replicas, stream });
            self.fresh.insert(id);
            let number = last_number.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX));
            rows.push(TrialRow { id, number, trial });
        }
        let trials_new = new.len() as u64;
        let trials = known.len() as u64 + trials_new;
        self.pending.writes.push(Write::Trials { sweep: name.clone(), rows });
        self.sweeps.insert(name.clone(), SweepFacts::from(&sweep));
        tracing::info!(sweep = name, trials, trials_new, "a sweep was submitted");
        self.happened(&name, None, &Happening::SweepSubmitted { trials, trials_new });
        // Never refused.
        let _ = self.tell_scheduler(Event::SweepSubmitted { sweep: name.clone(), limits, trials: new });
        wire::SubmitReply { sweep: name, trials, trials_new }
    }
}

impl Driver {
    /// Whether what its new trials will keep does not fit on the disk.
    fn too_large(&self, submission: &Submission, stored: Option<&StoredSweep>) -> Option<Status> {
        let Submission { file_name, sweep, trials, .. } = submission;
        if sweep.script.is_some() {
            // Its checkpoints are a few bytes.
            return None;
        }
        let new = trials.iter().filter(|trial| stored.is_none_or(|stored| !stored.keys.contains_key(&trial.key)));
        let kept = sweep.checkpoint.keep.len() as u64;
        let one = |trial: &PricedTrial| trial.checkpoint_bytes.saturating_mul(kept);
        let bytes = new.map(one).fold(0, u64::saturating_add);
        let problem = self.room.refuse(self.artifacts.folder(), bytes)?;
        Some(Status::failed_precondition(format!(
            "{file_name}: the checkpoints of sweep {} have no room: {problem}. Make room, or give the coordinator another \
             folder (--artifacts), or keep fewer (checkpoint.keep)",
            sweep.name
        )))
    }
}

fn limits(sweep: &Sweep) -> SweepLimits {
    SweepLimits {
        priority: sweep.resources.priority,
        max_concurrent_trials: sweep.max_concurrent_trials,
        max_restarts: sweep.max_restarts,
        max_losses: sweep.max_losses,
        max_trials_per_slot: match sweep.resources.packing.max_trials_per_slot {
            Some(trials) => trials,
            // There are no images to share.
            None if sweep.script.is_some() => 1,
            None => COHORT_MAX,
        },
    }
}

/// Whether settings differ that count. The fingerprint of a store of before may be of more of them.
fn is_another(sweep: &Sweep, stored: &StoredSweep) -> bool {
    let old = serde_json::from_str::<Sweep>(&stored.spec_json);
    !old.is_ok_and(|old| sweep.changed_settings(&old).is_empty())
}

/// The sweep of that name is another one: what differs, and the ways out.
fn changed(submission: &Submission, stored: &StoredSweep) -> Status {
    let Submission { file_name, sweep, .. } = submission;
    let name = &sweep.name;
    let keys = match serde_json::from_str::<Sweep>(&stored.spec_json) {
        Ok(old) => sweep.changed_settings(&old).join(", "),
        Err(_) => String::new(),
    };
    let keys = if keys.is_empty() { "other settings".to_owned() } else { format!("another {keys}") };
    Status::failed_precondition(format!(
        "{file_name}: there is a sweep {name} with {keys}; a sweep's settings stay as they were first submitted. \
         Submit this one under a new name (--new-name NAME), or cancel and forget the old one with its results and \
         checkpoints (--replace), or change the file back"
    ))
}
