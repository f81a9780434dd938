//! What watchers read: workers, sweeps and counts, without walking over trials.

use super::fleet::SPEED_ONE;
use super::state::{CANCELLED, COMPLETED, FAILED, PAUSED, PENDING, RUNNING, Sweep, Worker};
use super::{AskedLimit, Scheduler, SweepLimits, TrialRecord};
use crate::ids::{TrialId, WorkerId};
use serde::{Deserialize, Serialize};

/// Whether a worker can be given leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// There, and taking leases.
    Attached,
    /// Its stream has closed, or it has not come back since a restart; its leases run out soon.
    Disconnected,
    /// There; finishes what it holds and takes no more.
    Draining,
    /// There, but given no leases for a while: everything fails there.
    #[serde(rename = "set aside")]
    SetAside,
}

/// One worker as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView<'a> {
    /// Which.
    pub worker: WorkerId,
    /// Empty for one that has not come back since a restart.
    pub host: &'a str,
    /// `None` for one that has not come back since a restart.
    pub session: Option<u64>,
    /// Whether it can be given leases.
    pub state: WorkerState,
    /// Whether it takes no more leases, there or not.
    pub draining: bool,
    /// Why it is set aside, if it is.
    pub set_aside: Option<&'a str>,
    /// Its slots, by index.
    pub slots: Vec<SlotView<'a>>,
}

/// One slot as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView<'a> {
    /// Its place in the worker's offer, from 0.
    pub index: u32,
    /// `cpu`, `cuda:0`, ..; empty if the worker has not come back since a restart.
    pub device: &'a str,
    /// What it trains: one trial, several side by side, or none.
    pub trials: Vec<TrialId>,
    /// As which of the trial's replicas; 0: its chief, or nothing.
    pub replica: u32,
    /// Measured, relative to the first slot ever measured, which began at 1.
    pub speed: Option<f64>,
}

/// How many trials of a sweep stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCounts {
    /// Wait for a slot.
    pub pending: u64,
    /// Leased.
    pub running: u64,
    /// Wait for a person.
    pub paused: u64,
    /// All epochs done.
    pub completed: u64,
    /// Over, without a result.
    pub failed: u64,
    /// Over, as asked.
    pub cancelled: u64,
}

impl StateCounts {
    /// All trials.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pending + self.running + self.paused + self.over()
    }

    /// Those to which nothing more will happen unless a person asks.
    #[must_use]
    pub fn over(&self) -> u64 {
        self.completed + self.failed + self.cancelled
    }
}

/// One sweep as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepView<'a> {
    /// Its name.
    pub sweep: &'a str,
    /// Its file's limits.
    pub limits: &'a SweepLimits,
    /// The limit that a person has asked for, in place of the file's.
    pub asked: Option<AskedLimit>,
    /// Paused by a person.
    pub paused: bool,
    /// Its trials, counted.
    pub counts: StateCounts,
}

impl SweepView<'_> {
    /// The limit that holds now; `None`: as many trials as there are slots.
    #[must_use]
    pub fn max_concurrent_trials(&self) -> Option<u32> {
        self.asked.map_or(self.limits.max_concurrent_trials, |asked| asked.max_concurrent_trials)
    }
}

impl Scheduler {
    /// All workers that hold leases or may be given some, by id.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView<'_>> {
        self.workers.iter().map(|(&id, worker)| view_worker(id, worker))
    }

    /// One worker; `None` when it is lost, has left or was never there.
    #[must_use]
    pub fn worker(&self, worker: WorkerId) -> Option<WorkerView<'_>> {
        self.workers.get(&worker).map(|known| view_worker(worker, known))
    }

    /// All sweeps, in the order in which they became known.
    pub fn sweeps(&self) -> impl Iterator<Item = SweepView<'_>> {
        self.sweeps.iter().map(view_sweep)
    }

    /// One sweep.
    #[must_use]
    pub fn sweep(&self, name: &str) -> Option<SweepView<'_>> {
        self.sweep_by_name.get(name).map(|&index| view_sweep(&self.sweeps[index]))
    }

    /// The trials of a sweep, by state in the order of [`StateCounts`], then by id; none if there is no such
    /// sweep. Walks over all of them: for a person's question, not for every event.
    pub fn trials_of(&self, sweep: &str) -> impl Iterator<Item = &TrialRecord> {
        let sweep = self.sweep_by_name.get(sweep).map(|&index| &self.sweeps[index]);
        let ids = sweep.into_iter().flat_map(|sweep| sweep.by_state.iter().flatten());
        ids.filter_map(|&trial| self.trial(trial))
    }
}

fn view_worker(id: WorkerId, worker: &Worker) -> WorkerView<'_> {
    let set_aside = worker.trust.aside.as_ref().map(|(_, reason)| reason.as_str());
    let state = match (worker.attached, worker.draining) {
        (false, _) => WorkerState::Disconnected,
        (true, true) => WorkerState::Draining,
        (true, false) if set_aside.is_some() => WorkerState::SetAside,
        (true, false) => WorkerState::Attached,
    };
    let slots = worker.slots.iter().map(|(&index, slot)| SlotView {
        index,
        device: &slot.device,
        trials: slot.lease.iter().flat_map(|lease| &lease.members).map(|member| member.token.trial).collect(),
        replica: slot.lease.as_ref().and_then(super::state::Lease::replica).map_or(0, |token| token.replica),
        speed: slot.speed.millionths.map(|speed| speed as f64 / SPEED_ONE as f64),
    });
    WorkerView {
        worker: id,
        host: &worker.host,
        session: worker.session,
        state,
        draining: worker.draining,
        set_aside,
        slots: slots.collect(),
    }
}

fn view_sweep(sweep: &Sweep) -> SweepView<'_> {
    let count = |state: usize| sweep.by_state[state].len() as u64;
    let counts = StateCounts {
        pending: count(PENDING),
        running: count(RUNNING),
        paused: count(PAUSED),
        completed: count(COMPLETED),
        failed: count(FAILED),
        cancelled: count(CANCELLED),
    };
    SweepView { sweep: &sweep.name, limits: &sweep.limits, asked: sweep.asked, paused: sweep.paused, counts }
}
