//! What trainers report: epochs, and how an attempt ended; and what follows for the trial.

use super::fleet::{SPEED_ONE, duration_ms};
use super::replicas::Replicas;
use super::state::{Entry, Member};
use super::{AttemptEnd, Command, Fact, Millis, Refusal, Scheduler, StopReason, TrialState};
use crate::ids::{SlotId, Token, TrialId};

/// Whether a loss counts against `max_losses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    No,
}

impl Scheduler {
    /// The slot on which that token is current.
    pub(super) fn current(&self, token: Token) -> Result<SlotId, Refusal> {
        let stale = Refusal::StaleToken(token);
        let Some(entry) = self.trials.get(&token.trial) else { return Err(stale) };
        match entry.record.state {
            TrialState::Running { attempt, slot, .. } if token == Token::chief(token.trial, attempt) => Ok(slot),
            TrialState::Running { attempt, .. } if attempt == token.attempt && token.incarnation == 1 => {
                entry.replicas.slots.get(&token.replica).copied().ok_or(stale)
            }
            TrialState::Running { .. }
            | TrialState::Pending
            | TrialState::Paused
            | TrialState::Completed
            | TrialState::Failed { .. }
            | TrialState::Cancelled => Err(stale),
        }
    }

    /// Progress: losses are forgiven, the slot is measured. An epoch told twice, or late, changes nothing.
    pub(super) fn epoch_finished(&mut self, token: Token, epoch: u32, took_ms: Millis) -> Result<(), Refusal> {
        let id = self.current(token)?;
        self.renew(id.worker);
        if token.replica > 0 {
            // Epochs are counted by the chief.
            return Ok(());
        }
        let Some(entry) = self.trials.get_mut(&token.trial) else { return Ok(()) };
        let record = &mut entry.record;
        let epoch = epoch.min(record.trial.epochs);
        if epoch > record.epochs_done {
            record.epochs_done = epoch;
            record.losses = 0;
            self.outbox.touched.insert(token.trial);
        }
        let work = record.trial.work;
        let slot = self.workers.get_mut(&id.worker).and_then(|worker| worker.slots.get_mut(&id.index));
        let Some(slot) = slot else { return Ok(()) };
        let lease = slot.lease.as_mut();
        let Some(member) = lease.and_then(|lease| lease.members.iter_mut().find(|member| member.token == token)) else {
            return Ok(());
        };
        if epoch <= member.epoch {
            return Ok(());
        }
        let is_first = member.epoch == 0;
        (member.epoch, member.begun) = (epoch, 0);
        entry.has_moved = false;
        // How fast the slot alone is cannot be told from what several did, nor from a part of an epoch: whoever goes on from
        // a checkpoint may have begun in the middle.
        let may_be_part = is_first && token.attempt > 1;
        if !entry.replicas.epoch_finished() && !may_be_part {
            self.measure(id, token.trial, work as f64, took_ms);
        }
        self.worked(id.worker);
        self.estimate(token.trial);
        Ok(())
    }

    /// Within an epoch. A slot that was never measured is: who trains where is to be mended early, and epochs may be long.
    pub(super) fn progressed(&mut self, token: Token, epoch: u32, share: f64, took_ms: Millis) -> Result<(), Refusal> {
        let id = self.current(token)?;
        self.renew(id.worker);
        let Some(entry) = self.trials.get(&token.trial) else { return Ok(()) };
        let (record, work) = (&entry.record, entry.record.trial.work);
        let may_tell =
            token.replica == 0 && record.epochs_done.checked_add(1) == Some(epoch) && epoch <= record.trial.epochs;
        if !may_tell || !(0.0..=1.0).contains(&share) || entry.replicas.share_epoch() {
            return Ok(());
        }
        let Some(slot) = self.slot_mut(id) else { return Ok(()) };
        let is_measured = slot.speed.millionths.is_some();
        let lease = slot.lease.as_mut();
        let member = lease.and_then(|lease| lease.members.iter_mut().find(|member| member.token == token));
        let Some(member) = member else { return Ok(()) };
        let done = work as f64 * share;
        member.begun = member.begun.max(done as u64);
        if !is_measured && done >= 1.0 {
            self.measure(id, token.trial, done, took_ms);
        }
        self.estimate(token.trial);
        Ok(())
    }

    /// The slot did that work of that trial.
    fn measure(&mut self, id: SlotId, trial: TrialId, work: f64, took_ms: Millis) {
        let mean_speed = self.fleet.mean_speed();
        let Some(sweep) = self.trials.get(&trial).map(|entry| entry.sweep) else { return };
        let slot = self.workers.get_mut(&id.worker).and_then(|worker| worker.slots.get_mut(&id.index));
        let Some(slot) = slot else { return };
        let (work, took_ms) = (work.max(1.0), took_ms.max(1) as f64);
        let speed = slot.speed.millionths.unwrap_or(mean_speed) as f64 / SPEED_ONE as f64;
        let work_per_ms = *self.sweeps[sweep].work_per_ms.get_or_insert(work / took_ms / speed);
        self.last_work_per_ms = work_per_ms;
        slot.speed.measure(work / work_per_ms, took_ms);
    }

    /// Says anew when the trial's slots will be free: what it and those beside it have left, at their speeds together.
    pub(super) fn estimate(&mut self, trial: TrialId) {
        let Some(entry) = self.trials.get(&trial) else { return };
        let TrialState::Running { slot, .. } = entry.record.state else { return };
        let speed = self.speed_together(entry);
        let members = self.slot(slot).and_then(|slot| slot.lease.as_ref()).map_or(&[][..], |lease| &lease.members);
        let work = members.iter().map(|member| self.work_left(member)).fold(0, u64::saturating_add);
        let expected_ms = self.sweeps[entry.sweep].expected_ms(work);
        let guess_ms = duration_ms(work as f64 / self.last_work_per_ms, speed);
        let free_at = expected_ms.map(|expected_ms| self.now.saturating_add(duration_ms(expected_ms, speed)));
        self.set_end(trial, free_at, free_at.unwrap_or(self.now.saturating_add(guess_ms)));
    }

    /// Of a trial that runs.
    pub(super) fn work_left(&self, member: &Member) -> u64 {
        self.trials.get(&member.token.trial).map_or(0, |entry| entry.work().saturating_sub(member.begun))
    }

    /// Begins the next attempts of pending trials, side by side: on a free slot, or beside those that the slot trains.
    pub(super) fn grant(&mut self, trials: &[TrialId], slot: SlotId) {
        let Some(session) = self.workers.get(&slot.worker).and_then(super::state::Worker::live_session) else { return };
        let mut tokens = Vec::with_capacity(trials.len());
        for &trial in trials {
            let Some(entry) = self.trials.get_mut(&trial) else { continue };
            entry.record.attempts += 1;
            entry.replicas = Replicas::default();
            let needs_replicas = entry.record.trial.replicas.min > 1;
            let attempt = entry.record.attempts;
            tokens.push(Token::chief(trial, attempt));
            self.set_state(trial, TrialState::Running { attempt, slot, stopping: None });
            if needs_replicas {
                self.starting.insert(trial, self.now.saturating_add(2 * self.config.lease_ms));
            }
        }
        let Some(first) = tokens.first().map(|token| token.trial) else { return };
        let now = self.now;
        let Some(place) = self.slot_mut(slot) else { return };
        let joins = place.lease.is_some();
        place.train(now, tokens.iter().copied());
        self.estimate(first);
        self.outbox.attempts.extend(tokens.iter().map(|&token| Fact::AttemptStarted { token, slot }));
        self.outbox.actions.push(Command::Grant { slot, session, members: tokens, joins });
    }

    pub(super) fn attempt_ended(&mut self, token: Token, end: AttemptEnd) -> Result<(), Refusal> {
        let slot = self.current(token)?;
        self.renew(slot.worker);
        self.end_member(slot, token, end, Counts::Yes);
        Ok(())
    }

    /// Ends one of those that the slot trains, and decides what becomes of its trial.
    pub(super) fn end_member(&mut self, id: SlotId, token: Token, end: AttemptEnd, counts: Counts) {
        if token.replica > 0 {
            self.replica_ended(token, end);
            return;
        }
        let lease = self.slot(id).and_then(|slot| slot.lease.as_ref());
        let Some(epoch) = lease.and_then(|lease| lease.member(token)).map(|member| member.epoch) else { return };
        self.vacate(id, token);
        let others = self.slot(id).and_then(|slot| Some(slot.lease.as_ref()?.members.first()?.token.trial));
        let Some(entry) = self.trials.get_mut(&token.trial) else { return };
        let limits = &self.sweeps[entry.sweep].limits;
        let next = after(entry, &end, counts, limits.max_restarts, limits.max_losses);
        match &end {
            AttemptEnd::CrashedTogether { trials, .. } => {
                entry.avoid = Some(id.worker);
                entry.company_max = entry.company_max.min(trials / 2).max(1);
            }
            AttemptEnd::Crashed { .. } | AttemptEnd::Lost { .. } => entry.avoid = Some(id.worker),
            AttemptEnd::Completed | AttemptEnd::Failed { .. } | AttemptEnd::Stopped => {}
        }
        // Replicas leave before.
        self.set_state(token.trial, next);
        match &end {
            AttemptEnd::Crashed { reason } | AttemptEnd::Failed { reason } if epoch == 0 => {
                self.failed_there(id.worker, token.trial, reason);
            }
            // Once for all that shared the trainer.
            AttemptEnd::CrashedTogether { reason, .. } if epoch == 0 && others.is_none() => {
                self.failed_there(id.worker, token.trial, reason);
            }
            _ => {}
        }
        if let Some(other) = others {
            self.estimate(other);
        }
        self.outbox.attempts.push(Fact::AttemptEnded { token, end });
    }

    /// That one is not trained there any more; with the last one the slot is free.
    pub(super) fn vacate(&mut self, id: SlotId, token: Token) {
        let Some(slot) = self.slot_mut(id) else { return };
        let Some(lease) = &mut slot.lease else { return };
        let moved = lease.member(token).is_some_and(|member| member.moves);
        lease.members.retain(|member| member.token != token);
        if lease.members.is_empty() {
            slot.lease = None;
        }
        self.moving -= usize::from(moved);
        // Others have waited for it.
        self.assign_due |= moved;
        self.refresh_slot(id);
    }
}

/// The state that follows the end of a running trial's attempt; counts what counts.
fn after(entry: &mut Entry, end: &AttemptEnd, counts: Counts, max_restarts: u32, max_losses: u32) -> TrialState {
    let record = &mut entry.record;
    match (end, record.state.stopping()) {
        (AttemptEnd::Completed, _) => {
            // Done is done, also when a stop crossed it.
            record.epochs_done = record.trial.epochs;
            record.losses = 0;
            TrialState::Completed
        }
        (_, Some(StopReason::Cancel)) => TrialState::Cancelled,
        (AttemptEnd::Failed { reason }, _) => TrialState::Failed { reason: reason.clone() },
        // However it stopped: it was to stop, and it did.
        (_, Some(StopReason::Pause)) => TrialState::Paused,
        (AttemptEnd::Stopped, None | Some(StopReason::Superseded)) => TrialState::Pending,
        (AttemptEnd::Crashed { reason }, None | Some(StopReason::Superseded)) => {
            record.restarts = record.restarts.saturating_add(1);
            let restarts = record.restarts;
            if restarts <= max_restarts {
                return TrialState::Pending;
            }
            let reason =
                format!("crashed {} (max_restarts is {max_restarts}); the last time: {reason}", times(restarts));
            TrialState::Failed { reason }
        }
        (AttemptEnd::Lost { reason }, None | Some(StopReason::Superseded)) => {
            lost_again(entry, "worker", reason, counts, max_losses)
        }
        (AttemptEnd::CrashedTogether { reason, .. }, None | Some(StopReason::Superseded)) => {
            lost_again(entry, "trainer", reason, counts, max_losses)
        }
    }
}

/// Pending again, unless it was lost too often.
fn lost_again(entry: &mut Entry, what: &str, reason: &str, counts: Counts, max_losses: u32) -> TrialState {
    if counts == Counts::No {
        return TrialState::Pending;
    }
    let losses = entry.record.losses.saturating_add(1);
    entry.record.losses = losses;
    if losses <= max_losses {
        return TrialState::Pending;
    }
    let reason = format!(
        "lost its {what} {} without finishing an epoch (max_losses is {max_losses}); the last time: {reason}",
        times(losses)
    );
    TrialState::Failed { reason }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
