//! People who ask for things at random.

use crate::world::{World, draw_trials};
use rand::RngExt;
use sweeps::scheduler::{Event, Refusal, SweepLimits, TrialState};

/// The sweeps of a world, and what they may do.
pub(crate) struct Orders {
    pub(crate) sweeps: Vec<(String, SweepLimits)>,
    pub(crate) next_trial: u64,
    pub(crate) epochs_max: u32,
    pub(crate) replicas_max: u32,
}

impl Orders {
    pub(crate) fn submit(&mut self, world: &mut World, sweep: usize, count: u64) {
        let trials = draw_trials(&mut world.rng, self.next_trial, count, self.epochs_max, self.replicas_max);
        self.next_trial += count;
        let (sweep, limits) = self.sweeps[sweep].clone();
        assert_eq!(world.tell(Event::SweepSubmitted { sweep, limits, trials }), Ok(()));
    }

    /// One order, any.
    pub(crate) fn give(&mut self, world: &mut World) {
        let place = world.rng.random_range(0..self.sweeps.len());
        let sweep = self.sweeps[place].0.clone();
        let Some(trial) = world.some_trial() else { return };
        let before = world.scheduler.trial(trial).map(|record| record.state.clone());
        let restarts = world.restarts;
        let event = match world.rng.random_range(0..16) {
            0 => Event::SweepPaused { sweep },
            1 | 2 => Event::SweepResumed { sweep },
            3 if world.rng.random_range(0..4) == 0 => Event::SweepCancelled { sweep },
            3 if world.rng.random_range(0..4) == 0 => {
                // Replaced by one with other trials.
                let cleared = world.tell(Event::SweepCleared { sweep });
                let known = cleared.is_ok() || world.restarts > 0;
                assert!(known, "{cleared:?}");
                return self.submit(world, place, 5);
            }
            4 => Event::SweepRetried { sweep },
            5 => Event::TrialPaused { trial },
            6 => Event::TrialResumed { trial },
            7 => Event::TrialCancelled { trial },
            8 => Event::TrialRetried { trial },
            9 | 10 => {
                let limit = world.rng.random_range(1..6);
                Event::SweepLimited { sweep, max_concurrent_trials: (limit < 5).then_some(limit) }
            }
            11 => match world.some_worker() {
                Some(worker) => Event::WorkerDrainAsked { worker },
                None => return,
            },
            12 => Event::LeasesHeld { reason: Some("no room".into()) },
            13 | 14 => Event::LeasesHeld { reason: None },
            _ => {
                let limit = world.rng.random_range(1..6);
                self.sweeps[place].1.max_concurrent_trials = (limit < 5).then_some(limit);
                let count = world.rng.random_range(0..3);
                return self.submit(world, place, count);
            }
        };
        let result = world.tell(event.clone());
        if restarts != world.restarts {
            return;
        }
        match result {
            Ok(()) => {
                let settled = world.scheduler.trial(trial).cloned();
                // Asked twice, the second time changes nothing for the trial, unless it was just granted a slot.
                if matches!(event, Event::TrialPaused { .. } | Event::TrialCancelled { .. }) {
                    assert_eq!(world.tell(event), Ok(()));
                    if restarts == world.restarts {
                        assert_eq!(world.scheduler.trial(trial).cloned(), settled);
                    }
                }
            }
            Err(Refusal::WrongState { state, .. }) => {
                let before = before.expect("a known trial");
                assert_eq!(before.word(), state);
                assert_eq!(Some(before), world.scheduler.trial(trial).map(|record| record.state.clone()));
            }
            // It has just left.
            Err(Refusal::UnknownWorker(_)) => {}
            // Its submission died with the coordinator.
            Err(Refusal::UnknownSweep(_)) if world.restarts > 0 => {}
            Err(other) => panic!("{event:?}: {other}"),
        }
    }

    /// Everything that was paused goes on; with `retry`, what failed or was cancelled too.
    pub(crate) fn release(&self, world: &mut World, retry: bool) {
        assert_eq!(world.tell(Event::LeasesHeld { reason: None }), Ok(()));
        for (sweep, limits) in &self.sweeps {
            let (sweep, limits) = (sweep.clone(), limits.clone());
            let submitted = Event::SweepSubmitted { sweep: sweep.clone(), limits, trials: Vec::new() };
            assert_eq!(world.tell(submitted), Ok(()));
            assert_eq!(world.tell(Event::SweepResumed { sweep: sweep.clone() }), Ok(()));
            if retry {
                assert_eq!(world.tell(Event::SweepRetried { sweep }), Ok(()));
            }
        }
        let stuck: Vec<_> = world.ledger.open().filter(|record| record.state == TrialState::Paused).collect();
        assert!(stuck.is_empty(), "paused after resuming all: {stuck:?}");
    }
}
