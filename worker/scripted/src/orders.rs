//! What the agent asks after the start: a thread reads it, the actor looks here between and within its acts.

use proto::link::{Member, Order};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::scheduler::StopReason;

/// Who is asked to stop, and why.
#[derive(Clone, Default)]
pub(crate) struct Stops(Arc<(Mutex<BTreeMap<Token, StopReason>>, Condvar)>);

impl Stops {
    /// Why the member is to stop, if it is.
    pub(crate) fn of(&self, token: Token) -> Option<StopReason> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).get(&token).copied()
    }

    /// Waits, but no longer than until that member is to stop. Returns whether it is.
    pub(crate) fn sleep(&self, token: Token, how_long: Duration) -> bool {
        let until = Instant::now() + how_long;
        let mut stops = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !stops.contains_key(&token) {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            stops = self.0.1.wait_timeout(stops, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(crate) fn ask(&self, token: Token, reason: StopReason) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token, reason);
        self.0.1.notify_all();
    }
}

/// Who is to act too.
#[derive(Clone, Default)]
pub(crate) struct Joins(Arc<Mutex<Vec<Member>>>);

impl Joins {
    /// Those that came since.
    pub(crate) fn take(&self) -> Vec<Member> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, member: Member) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(member);
    }
}

/// Reads standard input in a thread. Its end means that the agent is gone: the process ends at once.
pub(crate) fn listen() -> (Stops, Joins) {
    let (stops, joins) = (Stops::default(), Joins::default());
    let (told, joining) = (stops.clone(), joins.clone());
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            match serde_json::from_str(&line) {
                Ok(Order::Stop { token, reason }) => told.ask(token, reason),
                Ok(Order::Join { member }) => joining.add(*member),
                Ok(Order::Start(_)) => eprintln!("alpharho-trainer-scripted: a second `start` is ignored"),
                Err(error) => eprintln!("alpharho-trainer-scripted: an order is not understood: {error}"),
            }
        }
        std::process::exit(1);
    });
    (stops, joins)
}
