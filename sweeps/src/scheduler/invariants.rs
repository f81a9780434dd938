//! The whole state derived once more, from trials and workers alone. A new bug becomes a line here.
//!
//! An index is right when each thing has its entry there and there are as many entries as things: so nothing is built
//! anew for comparison, and millions of events can be checked.

use super::state::{Lease, Member, PENDING, RUNNING, state_index};
use super::{Scheduler, TrialState};
use crate::ids::{SlotId, Token};

impl Scheduler {
    /// Checks every cross-reference. For tests: it walks over everything, and panics with what is wrong.
    ///
    /// # Panics
    /// When the state contradicts itself.
    pub fn check_invariants(&self) {
        self.check_trials();
        self.check_sweeps();
        self.check_workers();
        self.check_fleet();
        self.check_replicas();
        let outbox = &self.outbox;
        let nothing_left = outbox.sweeps.is_empty()
            && outbox.touched.is_empty()
            && outbox.attempts.is_empty()
            && outbox.actions.is_empty();
        assert!(nothing_left, "commands left behind: {outbox:?}");
    }

    /// A running trial is what its slot trains, under the same token; all others are on no slot.
    fn check_trials(&self) {
        for (&id, entry) in &self.trials {
            let record = &entry.record;
            assert_eq!(record.trial.id, id, "a trial under a wrong id");
            assert_eq!(record.sweep, self.sweeps[entry.sweep].name, "trial {id} under a wrong sweep");
            assert!(record.epochs_done <= record.trial.epochs, "trial {id} did more epochs than it has");
            if let TrialState::Running { attempt, slot, .. } = record.state {
                assert_eq!(attempt, record.attempts, "trial {id} runs an attempt that is not its last");
                let lease = self.slot(slot).and_then(|slot| slot.lease.as_ref());
                let found = lease.and_then(|lease| lease.member(Token::chief(id, attempt)));
                assert!(found.is_some(), "trial {id} is not what {slot} trains");
            }
        }
    }

    fn check_sweeps(&self) {
        assert_eq!(self.sweeps.len(), self.sweep_by_name.len(), "a sweep without a name, or twice");
        let (mut counted, mut turns) = (0, 0);
        for (index, sweep) in self.sweeps.iter().enumerate() {
            assert_eq!(self.sweep_by_name.get(&sweep.name), Some(&index), "sweep {} is not found", sweep.name);
            let (mut work, mut begun) = (0, 0);
            for (state, trials) in sweep.by_state.iter().enumerate() {
                counted += trials.len();
                for id in trials {
                    let entry = self.trials.get(id);
                    let known = entry.map(|entry| state_index(&entry.record.state));
                    assert_eq!(known, Some(state), "trial {id} of sweep {} is unknown or in another state", sweep.name);
                    let Some(entry) = entry else { continue };
                    assert_eq!(entry.sweep, index, "trial {id} is counted in another sweep");
                    if state == PENDING {
                        assert!(sweep.queue.contains(entry), "trial {id} is pending and not queued");
                        work += u128::from(entry.work());
                        begun += usize::from(super::queue::begun(entry).is_some());
                    }
                }
            }
            assert_eq!(sweep.queue.len(), sweep.by_state[PENDING].len(), "queue of sweep {}", sweep.name);
            assert_eq!(sweep.queue.work(), work, "queued work of sweep {}", sweep.name);
            assert_eq!(sweep.queue.begun_count(), begun, "trials of sweep {} that can join others", sweep.name);
            assert_eq!(sweep.turn, self.turn_of(index), "turn of sweep {}", sweep.name);
            if let Some(turn) = &sweep.turn {
                turns += 1;
                assert!(self.turns.contains(turn), "sweep {} has a turn and is not among those that do", sweep.name);
            }
        }
        assert_eq!(counted, self.trials.len(), "a trial is in no state, or in two");
        assert_eq!(turns, self.turns.len(), "turns");
    }

    /// What a slot trains knows it; deadlines are those of the workers.
    fn check_workers(&self) {
        assert_eq!(self.workers.len(), self.deadlines.len(), "deadlines");
        let (mut leases, mut aside, mut moving) = (0, 0, 0);
        for (&worker, known) in &self.workers {
            assert!(self.deadlines.contains(&(known.deadline, worker)), "deadline of worker {worker}");
            if let Some(&(until, _)) = known.trust.aside.as_ref() {
                aside += 1;
                assert!(self.set_aside.contains(&(until, worker)), "worker {worker} is set aside, for ever");
            }
            assert!(!known.attached || known.session.is_some(), "worker {worker} is attached by no session");
            for (&index, slot) in &known.slots {
                let id = SlotId { worker, index };
                assert_eq!(slot.place, self.place_of(id), "place of {id}");
                let Some(lease) = &slot.lease else { continue };
                leases += lease.members.len();
                for member in &lease.members {
                    moving += usize::from(member.moves);
                    assert_eq!(self.current(member.token), Ok(id), "{id} trains what does not run there");
                }
                self.check_cohort(id, lease);
            }
        }
        assert_eq!(aside, self.set_aside.len(), "workers that are set aside");
        assert_eq!(moving, self.moving, "trials that move");
        let running: usize = self.sweeps.iter().map(|sweep| sweep.by_state[RUNNING].len()).sum();
        let replicas: usize = self.trials.values().map(|entry| entry.replicas.slots.len()).sum();
        assert_eq!(leases, running + replicas, "leases, running trials and replicas");
    }

    /// Those that train side by side may.
    fn check_cohort(&self, id: SlotId, lease: &Lease) {
        assert!(!lease.members.is_empty(), "{id} is leased to nobody");
        let [first, others @ ..] = &lease.members[..] else { return };
        let company_max = |member: &Member| self.trials.get(&member.token.trial).map(|entry| entry.company_max);
        let company_max = lease.members.iter().filter_map(company_max).min();
        let is_allowed = |max: u32| lease.members.len() <= usize::try_from(max).unwrap_or(usize::MAX);
        assert!(company_max.is_some_and(is_allowed), "{id} trains {lease:?}: one of them must have less company");
        for other in others {
            let of = |token: Token| {
                let entry = self.trials.get(&token.trial)?;
                Some((entry.sweep, entry.record.trial.stream?, token.replica))
            };
            let shared = of(first.token);
            assert!(shared.is_some() && shared == of(other.token), "{id} trains {first:?} and {other:?} side by side");
        }
    }

    fn check_fleet(&self) {
        let slots = self.workers.iter().flat_map(|(&worker, known)| {
            known.slots.iter().map(move |(&index, slot)| (SlotId { worker, index }, slot.place))
        });
        self.fleet.check(slots);
        if !self.fleet.has_free() && self.surplus.is_empty() {
            assert!(self.waits.is_empty(), "trials wait for a better slot while none can be had");
        }
        // Whoever could run waits for a reason, and the reason is looked at again.
        if self.held.is_none() && self.fleet.has_free() && !self.turns.is_empty() {
            assert!(self.assign_at.is_some(), "a slot is free, a trial is pending, and nobody will look again");
            let awaited = !self.fleet.busy.is_empty() || self.waits_for_moves();
            let due = self.assign_at.is_some_and(|at| at <= self.now);
            assert!(
                awaited || due || !self.has_room(),
                "a slot is free and a trial is pending, but no busy slot is worth waiting for"
            );
        }
    }
}
