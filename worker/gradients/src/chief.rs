//! What the chief of a trial keeps and does: the parameters with their version, and whose samples are whose.
//!
//! A pure state machine: pushes and the time go in, verdicts come out. Threads and sockets are [`crate::shared`] and
//! [`crate::service`].

mod api;

pub use api::{Arrival, Counts, Finished, Master, Nonsense, Phase, Place, Settings, Tally, Verdict};

use crate::ranges::{Range, Ranges};
use crate::rmsprop::{Compensation, Slots, Step, norm};
use crate::values::Values;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use sweeps::spec::model::{GradientMode, Gradients, StalenessRate};

/// Gradients in a row that may be not finite before the trial fails.
pub const NOT_FINITE_MAX: u32 = 5;
/// Larger gradients count as not finite: their squares are not, as 32-bit floats.
const NORM_MAX: f64 = 1e18;
/// Updates between two points of `step_loss`.
pub const WINDOW_UPDATES: u64 = 100;

/// What is known of a replica that takes part.
#[derive(Debug, Default)]
struct Replica {
    /// Of its newest push, and what became of it.
    answered: Option<(u64, Verdict)>,
    /// Parameters that it was sent, newest last, for delay compensation: it computes at one of two.
    read: VecDeque<(u64, Vec<f32>)>,
}

/// What came for a step in which replicas wait for each other.
#[derive(Debug, Default)]
struct Round {
    /// Sum of gradients, each times its samples.
    sum: Vec<f32>,
    samples: u64,
    pushed: BTreeSet<u32>,
    /// What its gradients are of: not done before the step is made.
    ranges: Vec<Range>,
    /// Where the run was when it began.
    position: f64,
    tally: Tally,
}

/// The chief's state.
#[derive(Debug)]
pub struct Chief {
    settings: Settings,
    master: Master,
    version: u64,
    epoch: u32,
    ranges: Ranges,
    phase: Phase,
    replicas: BTreeMap<u32, Replica>,
    round: Round,
    /// Not yet moved to `epoch_tally` and `window`: sums of sums round differently, so they are moved when a trainer
    /// without replicas moves them.
    pending: Tally,
    epoch_tally: Tally,
    window: Tally,
    window_points: Vec<(u64, f64)>,
    counts: Counts,
    not_finite: u32,
    failure: Option<String>,
    arrivals: Option<Vec<Arrival>>,
}

impl Chief {
    /// A chief that goes on from `place`, with what was added up there of the epoch and of the window.
    #[must_use]
    pub fn new(settings: Settings, master: Master, place: &Place, epoch_tally: Tally, window: Tally) -> Self {
        let ranges = Ranges::new(settings.samples, settings.batch_size, place.next, &place.holes);
        let phase = if ranges.is_over() { Phase::Resting } else { Phase::Training };
        Self {
            settings,
            master,
            version: place.version,
            epoch: place.epoch,
            ranges,
            phase,
            replicas: BTreeMap::new(),
            round: Round::default(),
            pending: Tally::default(),
            epoch_tally,
            window,
            window_points: Vec::new(),
            counts: Counts::default(),
            not_finite: 0,
            failure: None,
            arrivals: None,
        }
    }

    /// From now on keeps every arrival, for [`Self::take_arrivals`].
    pub fn record(&mut self) {
        self.arrivals = Some(Vec::new());
    }

    /// What was recorded since the last time.
    pub fn take_arrivals(&mut self) -> Vec<Arrival> {
        self.arrivals.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// A replica takes part. Its number is never used twice in an attempt; one that joins again has lost its
    /// connection, and what it had in hand is handed out again.
    pub fn join(&mut self, replica: u32) {
        self.leave(replica);
        self.replicas.insert(replica, Replica::default());
    }

    /// A replica takes part no more.
    pub fn leave(&mut self, replica: u32) {
        self.replicas.remove(&replica);
        self.ranges.leave(replica);
        self.close_round_if_complete();
        self.rest_if_over();
    }

    /// A push: applies its gradient, if it may.
    ///
    /// # Errors
    /// When it makes no sense; nothing is changed then.
    pub fn push(
        &mut self,
        replica: u32,
        sequence: u64,
        finished: Option<&Finished<'_>>,
        now_ms: u64,
    ) -> Result<Verdict, Nonsense> {
        let known = self.replicas.get(&replica).ok_or(Nonsense::Unknown(replica))?;
        if let Some((newest, verdict)) = known.answered {
            if sequence == newest {
                return Ok(verdict);
            }
            if sequence < newest {
                return Err(Nonsense::OldSequence { replica, sequence, newest });
            }
        }
        let verdict = match finished {
            Some(finished) => {
                self.check(finished)?;
                self.take(replica, finished, now_ms)
            }
            None => Verdict::Nothing,
        };
        if let Some(known) = self.replicas.get_mut(&replica) {
            known.answered = Some((sequence, verdict));
        }
        self.close_round_if_complete();
        self.rest_if_over();
        Ok(verdict)
    }

    fn check(&self, finished: &Finished<'_>) -> Result<(), Nonsense> {
        if finished.version > self.version {
            return Err(Nonsense::FromTheFuture { version: finished.version, newest: self.version });
        }
        let expected = self.master.weights.len();
        if let Some(gradient) = finished.gradient
            && gradient.len() != expected
        {
            return Err(Nonsense::WrongSize { values: gradient.len(), expected });
        }
        if finished.ranges.is_empty() {
            return Err(Nonsense::BadRange("it names no samples"));
        }
        if finished.ranges.iter().any(|range| range.is_empty() || range.next > self.settings.samples) {
            return Err(Nonsense::BadRange("a range of samples is empty or beyond the epoch"));
        }
        let within: u64 = finished.ranges.iter().map(|range| range.len()).sum();
        let distinct: BTreeSet<Range> = finished.ranges.iter().copied().collect();
        if distinct.len() != finished.ranges.len() || finished.samples > within {
            return Err(Nonsense::BadRange("it counts more samples than its ranges hold"));
        }
        if finished.gradient.is_some() && finished.samples == 0 {
            return Err(Nonsense::BadRange("a gradient of no samples"));
        }
        Ok(())
    }

    fn take(&mut self, replica: u32, finished: &Finished<'_>, now_ms: u64) -> Verdict {
        // After an epoch's end all ranges have other owners or none: what comes late is nobody's.
        if !finished.ranges.iter().all(|range| self.ranges.holds(replica, *range)) {
            return Verdict::NotYours;
        }
        let staleness = self.version - finished.version;
        let Some(gradient) = finished.gradient else {
            finished.ranges.iter().for_each(|range| self.ranges.finish(*range, now_ms));
            return Verdict::Applied;
        };
        let is_sync = self.settings.gradients.mode == GradientMode::Sync;
        let allowed = if is_sync { Some(0) } else { self.settings.gradients.max_staleness };
        if allowed.is_some_and(|allowed| staleness > u64::from(allowed)) {
            finished.ranges.iter().for_each(|range| self.ranges.give_back(*range));
            self.counts.samples_refused += finished.samples;
            return Verdict::TooStale;
        }
        let norm = finished.norm.unwrap_or_else(|| norm(gradient));
        if !(self.can_be_squared(norm) && finished.loss.is_finite() && finished.right.is_finite()) {
            finished.ranges.iter().for_each(|range| self.ranges.finish(*range, now_ms));
            self.counts.samples_skipped += finished.samples;
            self.not_finite += 1;
            if self.not_finite >= NOT_FINITE_MAX {
                self.fail();
            }
            return Verdict::NotFinite;
        }
        self.not_finite = 0;
        *self.counts.pushes.entry(replica).or_default() += 1;
        if let Some(arrivals) = &mut self.arrivals {
            let ranges = finished.ranges.clone();
            arrivals.push(Arrival { replica, version: finished.version, ranges });
        }
        let tally = Tally { loss: finished.loss, right: finished.right, norm, samples: finished.samples, updates: 1 };
        if is_sync {
            self.add_to_round(replica, gradient, tally, &finished.ranges);
        } else {
            self.counts.staleness.add(staleness);
            let read = self.read_by(replica, finished.version).map(std::mem::take);
            self.update(gradient, tally, self.position(), staleness, read.as_deref());
            if let (Some(read), Some(place)) = (read, self.read_by(replica, finished.version)) {
                *place = read;
            }
        }
        // After the update: the learning rate is that of the samples before it.
        finished.ranges.iter().for_each(|range| self.ranges.finish(*range, now_ms));
        Verdict::Applied
    }

    /// Whether an update can be computed with a gradient of that norm: a square that is no float any more would stay in
    /// the mean of squares for good.
    fn can_be_squared(&self, norm: f64) -> bool {
        norm.is_finite() && self.settings.rule.clip_norm.map_or(norm, |clip| norm.min(clip)) < NORM_MAX
    }

    fn fail(&mut self) {
        self.failure = Some(format!(
            "{NOT_FINITE_MAX} gradients in a row were not finite, in epoch {} by step {}: try a lower \
             training.learning_rate, a longer schedule.warmup_epochs or gradient_clip_norm",
            self.epoch + 1,
            self.version
        ));
        self.phase = Phase::Done;
    }

    /// The parameters that a replica computed at, where delay compensation asks for them.
    fn read_by(&mut self, replica: u32, version: u64) -> Option<&mut Vec<f32>> {
        let read = &mut self.replicas.get_mut(&replica)?.read;
        read.iter_mut().find(|(known, _)| *known == version).map(|(_, weights)| weights)
    }

    fn update(&mut self, gradient: Values<'_>, tally: Tally, position: f64, staleness: u64, read: Option<&[f32]>) {
        let rate = (self.settings.learning_rate)(position);
        let rate = match self.settings.gradients.staleness_lr {
            StalenessRate::None => rate,
            StalenessRate::Inverse => rate / as_f64(staleness.max(1)),
        };
        let strength = self.settings.gradients.delay_compensation;
        let compensation = read.filter(|_| strength > 0.0).map(|read| Compensation { strength, read });
        let Master { weights, mean_square, momentum, average } = &mut self.master;
        let slots = Slots { weights, mean_square, momentum, average: average.as_deref_mut() };
        self.settings.rule.apply(slots, gradient, Step { rate, norm: tally.norm }, compensation);
        self.version += 1;
        self.pending.add(tally);
        if self.version.is_multiple_of(WINDOW_UPDATES) {
            self.settle();
            let window = std::mem::take(&mut self.window);
            self.window_points.push((self.version, window.loss / as_f64(window.samples.max(1))));
        }
    }

    fn add_to_round(&mut self, replica: u32, gradient: Values<'_>, tally: Tally, ranges: &[Range]) {
        if self.round.pushed.is_empty() {
            self.round.position = self.position();
        }
        self.round.ranges.extend(ranges);
        self.round.sum.resize(self.master.weights.len(), 0.0);
        #[expect(clippy::cast_precision_loss, reason = "samples of a batch")]
        gradient.add_to(&mut self.round.sum, tally.samples as f32);
        self.round.samples += tally.samples;
        self.round.pushed.insert(replica);
        self.round.tally.add(tally);
    }

    /// Makes the step once all replicas that have samples in hand have sent their gradients, but the slowest few.
    fn close_round_if_complete(&mut self) {
        let drop = usize::try_from(self.settings.gradients.drop_slowest).unwrap_or(usize::MAX);
        let waited_for = |replica: &&u32| !self.round.pushed.contains(replica) && self.ranges.held_by(**replica) > 0;
        if self.round.pushed.is_empty() || self.replicas.keys().filter(waited_for).count() > drop {
            return;
        }
        let Round { mut sum, samples, position, mut tally, .. } = std::mem::take(&mut self.round);
        #[expect(clippy::cast_precision_loss, reason = "samples of a step")]
        let share = 1.0 / samples as f32;
        sum.iter_mut().for_each(|value| *value *= share);
        tally.norm = norm(Values::F32(&sum));
        tally.updates = 1;
        self.counts.staleness.add(0);
        self.update(Values::F32(&sum), tally, position, 0, None);
    }

    fn rest_if_over(&mut self) {
        if self.phase == Phase::Training && self.ranges.is_over() && self.round.pushed.is_empty() {
            self.phase = Phase::Resting;
        }
    }

    /// Hands out samples until the replica has `wanted` ranges in hand. In `sync` mode one at a time.
    pub fn hand_out(&mut self, replica: u32, wanted: usize, now_ms: u64) -> Vec<Range> {
        if self.phase != Phase::Training || !self.replicas.contains_key(&replica) {
            return Vec::new();
        }
        self.ranges.give_back_overdue(now_ms);
        let mut ranges = Vec::new();
        while self.ranges.held_by(replica) < wanted.max(1) {
            let Some(range) = self.ranges.hand_out(replica, now_ms) else { break };
            ranges.push(range);
        }
        ranges
    }

    /// Whether the replica must wait for others before it is answered: its gradient is in a step not yet made.
    #[must_use]
    pub fn must_wait(&self, replica: u32) -> bool {
        self.round.pushed.contains(&replica)
    }

    /// Whether the replica has ranges in hand.
    #[must_use]
    pub fn has_in_hand(&self, replica: u32) -> bool {
        self.ranges.held_by(replica) > 0
    }

    /// Whether samples of the epoch wait to be handed out.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.phase == Phase::Training && self.ranges.has_more()
    }

    /// Notes that a replica is sent the parameters as they are now, where delay compensation will ask for them.
    pub fn note_read(&mut self, replica: u32) {
        if self.settings.gradients.delay_compensation <= 0.0 {
            return;
        }
        let Some(known) = self.replicas.get_mut(&replica) else { return };
        if known.read.iter().any(|(version, _)| *version == self.version) {
            return;
        }
        // It computes at the newest but one while the newest is on its way: two are kept.
        let oldest = if known.read.len() > 1 { known.read.pop_front() } else { None };
        let mut weights = oldest.map(|(_, weights)| weights).unwrap_or_default();
        weights.clone_from(&self.master.weights);
        known.read.push_back((self.version, weights));
    }

    /// Where the run is, in epochs: counts samples that are done.
    #[must_use]
    pub fn position(&self) -> f64 {
        f64::from(self.epoch) + as_f64(self.ranges.done()) / as_f64(self.settings.samples.max(1))
    }

    /// Ends the epoch's rest: what was added up and counted in it. The next epoch begins with
    /// [`Self::begin_epoch`].
    pub fn end_epoch(&mut self) -> (Tally, Counts) {
        self.settle();
        (std::mem::take(&mut self.epoch_tally), std::mem::take(&mut self.counts))
    }

    /// The next epoch begins, or all is done.
    pub fn begin_epoch(&mut self, epoch: u32, is_done: bool) {
        self.epoch = epoch;
        self.ranges = Ranges::new(self.settings.samples, self.settings.batch_size, 0, &[]);
        self.phase = if is_done { Phase::Done } else { Phase::Training };
        self.rest_if_over();
    }

    /// No more work is handed out.
    pub fn finish(&mut self) {
        self.phase = Phase::Done;
    }

    /// What was added up so far of the epoch and of the window, for a checkpoint.
    pub fn tallies(&mut self) -> (Tally, Tally) {
        self.settle();
        (self.epoch_tally, self.window)
    }

    /// Moves the sums where they belong.
    fn settle(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.epoch_tally.add(pending);
        self.window.add(pending);
    }

    /// Points of `step_loss` since the last time: step and value.
    pub fn take_points(&mut self) -> Vec<(u64, f64)> {
        std::mem::take(&mut self.window_points)
    }

    /// Where the run stands.
    #[must_use]
    pub fn place(&self) -> Place {
        let mut holes = self.ranges.holes();
        holes.extend(&self.round.ranges);
        holes.sort_unstable();
        Place { epoch: self.epoch, version: self.version, next: self.ranges.next(), holes }
    }

    /// Whether there is work.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Why the trial has failed, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Updates made.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Epochs finished.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The buffers.
    #[must_use]
    pub fn master(&self) -> &Master {
        &self.master
    }

    /// How gradients come together.
    #[must_use]
    pub fn gradients(&self) -> Gradients {
        self.settings.gradients
    }

    /// Replicas that take part.
    #[must_use]
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples stay far below 2^53")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
