//! The chief among threads: its service and its own trainer.

use crate::chief::{Chief, Finished, Nonsense, Phase, Verdict};
use crate::ranges::Range;
use crate::rmsprop::norm;
use crate::values::Values;
use crate::{Assignment, Exchange, ExchangeError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use sweeps::spec::model::GradientMode;
use tokio::sync::watch;

/// How long a replica without work waits before it is answered all the same.
pub(crate) const IDLE: Duration = Duration::from_secs(1);

/// The number of the chief's own replica.
pub const OWN: u32 = 0;

/// A chief and whoever waits for it.
#[derive(Debug)]
pub struct Shared {
    chief: Mutex<Chief>,
    changed: Condvar,
    /// The same for those who wait without a thread.
    changes: watch::Sender<u64>,
    started: Instant,
}

impl Shared {
    /// Makes a chief reachable.
    #[must_use]
    pub fn new(chief: Chief) -> Arc<Self> {
        let chief = Mutex::new(chief);
        Arc::new(Self { chief, changed: Condvar::new(), changes: watch::Sender::new(0), started: Instant::now() })
    }

    /// Does something with the chief, and wakes all who wait for it to change.
    pub fn with<T>(&self, work: impl FnOnce(&mut Chief) -> T) -> T {
        let result = work(&mut self.lock());
        self.changed.notify_all();
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Looks at the chief.
    pub fn look<T>(&self, work: impl FnOnce(&Chief) -> T) -> T {
        work(&self.lock())
    }

    /// Changes the chief in a way that nobody waits for: handing out samples.
    pub(crate) fn look_mut<T>(&self, work: impl FnOnce(&mut Chief) -> T) -> T {
        work(&mut self.lock())
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A thread that panicked while it held the chief has left it between two statements at worst, and its panic is
    /// reported where it happened.
    fn lock(&self) -> MutexGuard<'_, Chief> {
        self.chief.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done` says so of the chief, or for [`IDLE`].
    fn wait(&self, done: impl Fn(&Chief) -> bool) {
        // A poisoned lock: as in `lock`.
        drop(self.changed.wait_timeout_while(self.lock(), IDLE, |chief| !done(chief)));
    }
}

/// What a chief says to a push, before parameters are copied.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    pub(crate) phase: Phase,
    pub(crate) epoch: u32,
    pub(crate) ranges: Vec<Range>,
}

/// The next work of a replica, or that there is none for now because the epoch is over; nothing if it has to wait: for
/// the other replicas of a step, or for samples that others have in hand.
pub(crate) fn next_work(
    chief: &mut Chief,
    replica: u32,
    wanted: usize,
    verdict: Verdict,
    now_ms: u64,
) -> Option<Answer> {
    if chief.must_wait(replica) {
        return None;
    }
    let wanted = if chief.gradients().mode == GradientMode::Sync { 1 } else { wanted };
    let ranges = chief.hand_out(replica, wanted, now_ms);
    let is_idle = ranges.is_empty() && !chief.has_in_hand(replica) && chief.phase() == Phase::Training;
    (!is_idle).then(|| Answer { verdict, phase: chief.phase(), epoch: chief.epoch(), ranges })
}

/// The chief's own replica.
#[derive(Debug)]
pub struct Local {
    shared: Arc<Shared>,
    sequence: u64,
}

impl Local {
    /// Joins.
    #[must_use]
    pub fn join(shared: &Arc<Shared>) -> Self {
        shared.with(|chief| chief.join(OWN));
        Self { shared: Arc::clone(shared), sequence: 0 }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.shared.with(|chief| chief.leave(OWN));
    }
}

impl Exchange for Local {
    fn exchange(
        &mut self,
        finished: Option<&Finished<'_>>,
        wanted: usize,
        weights: &mut [f32],
    ) -> Result<Assignment, ExchangeError> {
        self.sequence += 1;
        let now_ms = self.shared.now_ms();
        // Measured before the others are kept waiting.
        let finished = finished.map(|finished| Finished { norm: finished.gradient.map(norm), ..finished.clone() });
        let pushed = self.shared.with(|chief| chief.push(OWN, self.sequence, finished.as_ref(), now_ms));
        let verdict = pushed.map_err(|nonsense: Nonsense| ExchangeError::Refused(nonsense.to_string()))?;
        let mut take = |idle_is_answer: bool| {
            self.shared.with(|chief| {
                let answer = next_work(chief, OWN, wanted, verdict, now_ms);
                let answer = answer.or_else(|| {
                    let (phase, epoch) = (chief.phase(), chief.epoch());
                    idle_is_answer.then_some(Answer { verdict, phase, epoch, ranges: Vec::new() })
                })?;
                // Nothing comes between, so that this is what the next gradient is of.
                Values::F32(&chief.master().weights).copy_to(weights);
                chief.note_read(OWN);
                Some((answer, chief.version()))
            })
        };
        let taken = match take(false) {
            Some(taken) => Some(taken),
            None => {
                self.shared
                    .wait(|chief| !chief.must_wait(OWN) && (chief.phase() != Phase::Training || chief.has_work()));
                take(true)
            }
        };
        let (Answer { verdict, phase, epoch, ranges }, version) =
            taken.ok_or_else(|| ExchangeError::BadAnswer("it gave none".to_owned()))?;
        if let Some(failure) = self.shared.look(|chief| chief.failure().map(str::to_owned)) {
            return Err(ExchangeError::Failed(failure));
        }
        Ok(Assignment { verdict, phase, epoch, version, ranges, is_fresh: false })
    }
}
