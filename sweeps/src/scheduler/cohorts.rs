//! Trials that train side by side on one slot, over one stream of images.
//!
//! They are put together when a slot is leased: of one sweep, reading the same stream, with as many epochs done. One that
//! waits joins others that train already, if it is where they begin their next epoch, and no slot would finish it much
//! earlier. Who shares a slot is not stored beyond that: each trial has its own attempt, and ends on its own.

use super::fleet::{BusySlot, Welcome};
use super::state::{Entry, Lease, Worker};
use super::{Scheduler, TrialState};
use crate::ids::{SlotId, TrialId, WorkerId};

/// Of pending trials, so many a place in the cohort are looked at.
const LOOK_AHEAD: usize = 4;
/// Of cohorts that a trial can join, so many are looked at, those that end first.
const COHORTS_MAX: usize = 4;

impl Scheduler {
    /// Whether a pending trial may train side by side with those.
    pub(super) fn may_join_cohort(&self, cohort: &[TrialId], trial: TrialId) -> bool {
        let entry = |trial: &TrialId| self.trials.get(trial).map(Box::as_ref);
        let (Some(first), Some(other)) = (cohort.first().and_then(entry), entry(&trial)) else { return false };
        share_a_stream(first, other) && self.may_share_a_slot(cohort.iter().copied().chain([trial]))
    }

    /// Whether those are not too many.
    fn may_share_a_slot(&self, trials: impl Iterator<Item = TrialId>) -> bool {
        let (mut company, mut company_max) = (0, u32::MAX);
        for entry in trials.filter_map(|trial| self.trials.get(&trial)) {
            company += 1;
            company_max = company_max.min(entry.company_max).min(self.sweeps[entry.sweep].limits.max_trials_per_slot);
        }
        company <= company_max
    }

    /// Whom a running cohort takes in: those that are where its members begin their next epoch. None where all end
    /// before that, or while they tell of an epoch's end: who came then would be late. None either where something has
    /// just failed.
    pub(super) fn welcome(&self, worker: &Worker, lease: &Lease) -> Option<Welcome> {
        let first = self.trials.get(&lease.members.first()?.token.trial)?;
        let (stream, _) = first.meeting()?;
        let company = u32::try_from(lease.members.len()).unwrap_or(u32::MAX);
        let company_max = self.sweeps[first.sweep].limits.max_trials_per_slot;
        if company >= company_max || !worker.is_usable() || worker.trust.is_suspect() {
            return None;
        }
        // At most one look at each: this is asked after every report.
        let mut staying = Vec::with_capacity(lease.members.len());
        for member in &lease.members {
            let entry = self.trials.get(&member.token.trial)?;
            if company >= entry.company_max {
                return None;
            }
            if !member.moves && matches!(entry.record.state, TrialState::Running { stopping: None, .. }) {
                staying.push((entry.record.epochs_done, member.epoch, entry.record.trial.epochs));
            }
        }
        let next = staying.iter().map(|(done, ..)| *done).min()?.saturating_add(1);
        let mut goes_on = false;
        for (done, told, epochs) in staying {
            let waits_for_them = done == next && told == 0;
            if done >= next && !waits_for_them {
                return None;
            }
            goes_on |= epochs > next;
        }
        goes_on.then_some((first.sweep, (stream, next)))
    }

    /// The slots that take that pending trial in, beside what they train and what is `granted` to them.
    pub(super) fn cohorts_for<'a>(
        &'a self,
        trial: TrialId,
        granted: impl Fn(SlotId) -> &'a [TrialId],
    ) -> impl Iterator<Item = BusySlot> {
        let entry = self.trials.get(&trial);
        let wanted = entry.and_then(|entry| Some((entry.sweep, entry.meeting()?)));
        let from = wanted.map(|wanted| (wanted, 0, SlotId { worker: WorkerId(0), index: 0 }));
        let found = from.into_iter().flat_map(|from| self.fleet.welcoming.range(from..));
        let found = found.take_while(move |(welcome, ..)| Some(*welcome) == wanted).take(COHORTS_MAX);
        found.filter_map(move |&(_, free_at, id)| {
            let slot = self.slot(id)?;
            let company = trials_of(slot.lease.as_ref()?).chain(granted(id).iter().copied()).chain([trial]);
            let avoids = entry?.avoid == Some(id.worker);
            let may = !avoids && self.may_share_a_slot(company);
            may.then_some((free_at, slot.speed.millionths.unwrap_or(0), id))
        })
    }

    /// Whether a pending trial could join others. Few are pending.
    pub(super) fn may_join_others(&self) -> bool {
        let pending = self.turns.iter().flat_map(|turn| self.sweeps[turn.3].queue.begun());
        !self.fleet.welcoming.is_empty()
            && pending.into_iter().any(|trial| self.cohorts_for(trial, |_| &[]).next().is_some())
    }

    /// That pending trial and others, longest first, whose work together is at most `work_max`.
    pub(super) fn cohort_around(&self, trial: TrialId, work_max: u64) -> Vec<TrialId> {
        let mut cohort = vec![trial];
        let Some(entry) = self.trials.get(&trial) else { return cohort };
        let sweep = &self.sweeps[entry.sweep];
        let size_max = usize::try_from(sweep.limits.max_trials_per_slot).unwrap_or(usize::MAX).min(sweep.headroom());
        let mut left = work_max.saturating_sub(entry.work());
        if size_max < 2 || entry.record.trial.stream.is_none() {
            return cohort;
        }
        for (work, other) in sweep.queue.at_most(left).take(size_max.saturating_mul(LOOK_AHEAD)) {
            if cohort.len() >= size_max {
                break;
            }
            if other != trial && work <= left && self.may_join_cohort(&cohort, other) {
                left -= work;
                cohort.push(other);
            }
        }
        cohort
    }
}

/// Whether they read the same images in the same order from here on.
fn share_a_stream(one: &Entry, other: &Entry) -> bool {
    one.meeting().is_some() && (one.sweep, one.meeting()) == (other.sweep, other.meeting())
}

fn trials_of(lease: &Lease) -> impl Iterator<Item = TrialId> {
    lease.members.iter().map(|member| member.token.trial)
}
