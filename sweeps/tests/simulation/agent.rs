//! A simulated agent with its trainers: trains, reports, is told to stop, forgets, comes back.

use std::collections::{BTreeMap, BTreeSet};
use sweeps::ids::{Token, WorkerId};
use sweeps::scheduler::{AttemptEnd, Millis};

pub(crate) struct Agent {
    pub(crate) id: WorkerId,
    /// Raised by every start: what was scheduled for an older one is void.
    pub(crate) generation: u32,
    pub(crate) up: bool,
    /// The whole node hangs until then; what reaches it waits.
    pub(crate) frozen_until: Millis,
    /// Tells the answer to its last join from answers to older ones.
    pub(crate) nonce: u64,
    pub(crate) session: Option<u64>,
    pub(crate) last_heard: Millis,
    pub(crate) draining: bool,
    pub(crate) slots: Vec<Slot>,
    /// Ends not yet acknowledged, by token: slot and end.
    pub(crate) unacked: BTreeMap<Token, (u32, AttemptEnd)>,
    /// Every lease ever taken: a grant that comes twice is taken once.
    pub(crate) seen: BTreeSet<Token>,
}

pub(crate) struct Slot {
    /// Mult-Adds × images per millisecond.
    pub(crate) speed: f64,
    pub(crate) training: Option<Training>,
}

pub(crate) struct Training {
    pub(crate) token: Token,
    pub(crate) epoch: u32,
    pub(crate) epochs: u32,
    pub(crate) mult_adds: u64,
    pub(crate) hangs: bool,
}

impl Agent {
    pub(crate) fn holding(&self) -> Vec<(u32, Token)> {
        let training =
            (0u32..).zip(&self.slots).filter_map(|(index, slot)| Some((index, slot.training.as_ref()?.token)));
        training.chain(self.unacked.iter().map(|(&token, &(index, _))| (index, token))).collect()
    }

    pub(crate) fn slot_training(&mut self, token: Token) -> Option<(u32, &mut Slot)> {
        (0u32..)
            .zip(&mut self.slots)
            .find(|(_, slot)| slot.training.as_ref().is_some_and(|training| training.token == token))
    }

    /// Nothing of that token is wanted any more.
    pub(crate) fn drop_token(&mut self, token: Token) {
        self.unacked.remove(&token);
        if let Some((_, slot)) = self.slot_training(token) {
            slot.training = None;
        }
    }

    /// Its process died, and everything in it.
    pub(crate) fn die(&mut self) {
        self.up = false;
        self.generation += 1;
        self.session = None;
        self.draining = false;
        self.unacked.clear();
        self.seen.clear();
        for slot in &mut self.slots {
            slot.training = None;
        }
    }
}
