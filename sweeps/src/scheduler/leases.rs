//! Workers that come, live, fall silent and leave; and with them the leases.

use super::attempts::Counts;
use super::state::{Slot, Worker};
use super::trust::Trust;
use super::{AttemptEnd, Command, Millis, Refusal, Scheduler, SlotOffer, StopReason};
use crate::ids::{SlotId, Token, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

impl Scheduler {
    /// A worker came or came back. Said twice under one session it changes nothing.
    pub(super) fn join(
        &mut self,
        worker: WorkerId,
        session: u64,
        host: String,
        offers: Vec<SlotOffer>,
        holding: &[(u32, Token)],
    ) -> Result<(), Refusal> {
        let known = self.workers.get(&worker).and_then(|known| known.session);
        match known {
            Some(current) if session < current => return Err(Refusal::StaleSession(worker)),
            Some(current) if session == current => return self.heartbeat(worker, session),
            Some(_) | None => {}
        }
        let listed: BTreeSet<(u32, Token)> = holding.iter().copied().collect();
        if let Some(known) = self.workers.get_mut(&worker) {
            // Nothing that follows may be told to its old stream.
            known.attached = false;
        }
        self.lose_unlisted(worker, offers.len(), &listed);
        self.attach(worker, session, host, offers);
        if self.workers.get(&worker).is_some_and(|known| known.draining) {
            // Without a stream it could not be told, or it was and its answer is on its way.
            self.outbox.actions.push(Command::Drain { worker, session });
        }
        // Of two on one slot the newer one trains, and the other's end is not yet acknowledged.
        for &(index, token) in listed.iter().rev().filter(|(_, token)| token.replica > 0) {
            self.adopt(SlotId { worker, index }, token);
        }
        for (index, token) in listed {
            let slot = SlotId { worker, index };
            let lease = self.slot(slot).and_then(|slot| slot.lease.as_ref());
            let reason = match lease.and_then(|lease| lease.member(token)) {
                Some(member) => self.stopping(token).or(member.moves.then_some(StopReason::Pause)),
                None => Some(StopReason::Superseded),
            };
            if let Some(reason) = reason {
                self.outbox.actions.push(Command::Stop { worker, session, token, reason });
            }
        }
        Ok(())
    }

    /// What the worker held and does not list, or has no slot for any more, is over.
    fn lose_unlisted(&mut self, worker: WorkerId, slots: usize, listed: &BTreeSet<(u32, Token)>) {
        let Some(known) = self.workers.get(&worker) else { return };
        let held = known.slots.iter().flat_map(|(&index, slot)| {
            let members = slot.lease.iter().flat_map(|lease| &lease.members);
            members.map(move |member| (index, member.token))
        });
        let has_place = |index: u32| usize::try_from(index).is_ok_and(|index| index < slots);
        let lost: Vec<(u32, Token)> = held.filter(|held| !(listed.contains(held) && has_place(held.0))).collect();
        for (index, token) in lost {
            let reason = format!("worker {worker} came back without it");
            self.end_member(SlotId { worker, index }, token, AttemptEnd::Lost { reason }, Counts::Yes);
        }
    }

    /// Takes the slots as offered now; leases and measured speeds of those that were there before stay.
    fn attach(&mut self, worker: WorkerId, session: u64, host: String, offers: Vec<SlotOffer>) {
        let deadline = self.now.saturating_add(self.config.lease_ms);
        let mut trust = Trust::default();
        let (mut old, draining) = match self.workers.remove(&worker) {
            Some(mut known) => {
                trust = std::mem::take(&mut known.trust);
                self.leave_host(worker, &known.host);
                self.deadlines.remove(&(known.deadline, worker));
                for (&index, slot) in &mut known.slots {
                    self.fleet.remove(SlotId { worker, index }, std::mem::take(&mut slot.place));
                }
                (known.slots, known.draining)
            }
            None => (BTreeMap::new(), false),
        };
        let mut slots = BTreeMap::new();
        for (index, offer) in (0u32..).zip(offers) {
            let mut slot = old.remove(&index).unwrap_or_default();
            if slot.device != offer.device {
                // Another device at this place, or the first we hear of it after a restart.
                *slot = Slot { device: offer.device, lease: slot.lease.take(), ..Slot::default() };
            }
            slots.insert(index, slot);
        }
        self.deadlines.insert((deadline, worker));
        self.hosts.insert((host.clone(), worker));
        let session = Some(session);
        self.workers.insert(worker, Worker { host, session, attached: true, draining, deadline, trust, slots });
        self.refresh_slots(worker);
    }

    pub(super) fn heartbeat(&mut self, worker: WorkerId, session: u64) -> Result<(), Refusal> {
        self.check_session(worker, session)?;
        if self.workers.get(&worker).is_some_and(|known| known.attached) {
            self.renew(worker);
            Ok(())
        } else {
            // Its stream has closed: no command can reach it, so it is not one to go on with.
            Err(Refusal::StaleSession(worker))
        }
    }

    /// A whole lease from now, if the worker is attached: a late report does not undo the grace.
    pub(super) fn renew(&mut self, worker: WorkerId) {
        if self.workers.get(&worker).is_some_and(|known| known.attached) {
            self.set_deadline(worker, self.now.saturating_add(self.config.lease_ms));
        }
    }

    fn set_deadline(&mut self, worker: WorkerId, deadline: Millis) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        self.deadlines.remove(&(known.deadline, worker));
        known.deadline = deadline;
        self.deadlines.insert((deadline, worker));
    }

    pub(super) fn disconnect(&mut self, worker: WorkerId, session: u64) -> Result<(), Refusal> {
        self.check_session(worker, session)?;
        let Some(known) = self.workers.get_mut(&worker) else { return Ok(()) };
        if known.attached {
            known.attached = false;
            let deadline = known.deadline.min(self.now.saturating_add(self.config.grace_ms));
            self.set_deadline(worker, deadline);
            self.refresh_slots(worker);
        }
        Ok(())
    }

    pub(super) fn drain(&mut self, worker: WorkerId, session: u64) -> Result<(), Refusal> {
        self.check_session(worker, session)?;
        self.renew(worker);
        if let Some(known) = self.workers.get_mut(&worker) {
            known.draining = true;
        }
        self.release_of_worker(worker, "its worker takes no more leases");
        self.refresh_slots(worker);
        Ok(())
    }

    /// As a person asks. Without a stream it is told when it comes back.
    pub(super) fn ask_to_drain(&mut self, worker: WorkerId) -> Result<(), Refusal> {
        let known = self.workers.get_mut(&worker).ok_or(Refusal::UnknownWorker(worker))?;
        if known.draining {
            return Ok(());
        }
        known.draining = true;
        if let Some(session) = known.live_session() {
            self.outbox.actions.push(Command::Drain { worker, session });
        }
        self.release_of_worker(worker, "its worker takes no more leases");
        self.refresh_slots(worker);
        Ok(())
    }

    /// What it held ends as lost, but is not counted: it gave its leases back while it could.
    pub(super) fn leave(&mut self, worker: WorkerId, session: u64) -> Result<(), Refusal> {
        self.check_session(worker, session)?;
        self.forget(worker, "left", Counts::No);
        Ok(())
    }

    /// Ends the leases of all workers whose time is over.
    pub(super) fn end_leases(&mut self) {
        let overdue = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= self.now);
        let overdue: Vec<WorkerId> = overdue.map(|&(_, worker)| worker).collect();
        let mut lost = Vec::with_capacity(overdue.len());
        for worker in overdue {
            let Some(known) = self.workers.get_mut(&worker) else { continue };
            // Of several, none is told any more what becomes of another's trials.
            let was_attached = std::mem::take(&mut known.attached);
            lost.push((worker, was_attached));
        }
        for (worker, was_attached) in lost {
            let (what, reason) = if was_attached {
                ("was lost: it said nothing for a whole lease", "it said nothing for a whole lease")
            } else {
                ("was lost: its stream closed and it did not come back", "its stream closed and it did not come back")
            };
            self.forget(worker, what, Counts::Yes);
            self.outbox.actions.push(Command::WorkerLost { worker, reason: reason.to_owned() });
        }
    }

    fn forget(&mut self, worker: WorkerId, what: &str, counts: Counts) {
        let Some(known) = self.workers.get_mut(&worker) else { return };
        // No lease of this batch may go to it any more.
        known.attached = false;
        self.deadlines.remove(&(known.deadline, worker));
        let name = if known.host.is_empty() { worker.to_string() } else { format!("{worker} on {}", known.host) };
        let slots: Vec<SlotId> = known.slots.keys().map(|&index| SlotId { worker, index }).collect();
        for &slot in &slots {
            let lease = self.slot(slot).and_then(|slot| slot.lease.as_ref());
            let tokens: Vec<Token> = lease.iter().flat_map(|lease| &lease.members).map(|member| member.token).collect();
            for token in tokens {
                self.end_member(slot, token, AttemptEnd::Lost { reason: format!("worker {name} {what}") }, counts);
            }
            self.refresh_slot(slot);
        }
        if let Some(known) = self.workers.remove(&worker) {
            if let Some((until, _)) = known.trust.aside {
                self.set_aside.remove(&(until, worker));
            }
            self.leave_host(worker, &known.host);
        }
    }

    fn leave_host(&mut self, worker: WorkerId, host: &str) {
        self.hosts.remove(&(host.to_owned(), worker));
    }

    fn check_session(&self, worker: WorkerId, session: u64) -> Result<(), Refusal> {
        match self.workers.get(&worker) {
            Some(known) if known.session == Some(session) => Ok(()),
            Some(_) | None => Err(Refusal::StaleSession(worker)),
        }
    }

    /// Why the trial of that token was asked to stop, if it was.
    fn stopping(&self, token: Token) -> Option<StopReason> {
        self.trial(token.trial)?.state.stopping()
    }
}
