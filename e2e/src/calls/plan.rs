//! What goes wrong with which call and message: a seed chooses, and first what was not met before.

use crate::Random;
use std::collections::BTreeMap;
use std::time::Duration;

/// What can happen to a call, or to one message of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It never arrives. A message: nor does anything after it, as the stream breaks there.
    LostBefore,
    /// It arrives, and its answer does not. A message: the stream breaks behind it.
    LostAfter,
    /// It arrives twice.
    Doubled,
    /// It arrives late, and is overtaken.
    Delayed,
    /// From some moment on nothing of it gets to the coordinator; what the coordinator says does. Then it breaks.
    SilentIn,
    /// The other way round.
    SilentOut,
    /// It breaks in the middle.
    Cut,
    /// It is swallowed, and never answered, while the connection lives.
    Swallowed,
}

impl Fault {
    /// Those that chance brings. One that is swallowed costs its caller's whole patience: it is asked for.
    const ALL: [Self; 7] =
        [Self::LostBefore, Self::LostAfter, Self::Doubled, Self::Delayed, Self::SilentIn, Self::SilentOut, Self::Cut];

    /// For reports that hold other faults too.
    #[must_use]
    pub const fn of_a_call(self) -> &'static str {
        match self {
            Self::LostBefore => "call or message lost before",
            Self::LostAfter => "call or message lost after",
            Self::Doubled => "call or message doubled",
            Self::Delayed => "call or message delayed",
            Self::SilentIn => "call silent to coordinator",
            Self::SilentOut => "call silent to worker",
            Self::Cut => "call cut within",
            Self::Swallowed => "call swallowed",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::LostBefore => "lost before",
            Self::LostAfter => "lost after",
            Self::Doubled => "doubled",
            Self::Delayed => "delayed",
            Self::SilentIn => "silent in",
            Self::SilentOut => "silent out",
            Self::Cut => "cut within",
            Self::Swallowed => "swallowed",
        }
    }
}

/// The calls of the agents' service. A session is cut within by the faults of its messages.
const CALLS: [(&str, &[Fault]); 3] = [
    (
        "Session",
        &[Fault::LostBefore, Fault::LostAfter, Fault::Doubled, Fault::Delayed, Fault::SilentIn, Fault::SilentOut],
    ),
    ("Upload", &Fault::ALL),
    ("Download", &Fault::ALL),
];

/// The messages of sessions. Points and log lines are met where trainers write them.
const MESSAGES: [&str; 15] = [
    "> register",
    "> heartbeat",
    "> started",
    "> points",
    "> epoch finished",
    "> ended",
    "> log",
    "> listening",
    "> draining",
    "> goodbye",
    "< registered",
    "< ack",
    "< grant",
    "< stop",
    "< leave when done",
];

const OF_MESSAGES: [Fault; 4] = [Fault::LostBefore, Fault::LostAfter, Fault::Doubled, Fault::Delayed];

/// Of a kind that has met everything one call in so many is hit, and one message in so many.
const CALLS_BETWEEN: u64 = 6;
const MESSAGES_BETWEEN: u64 = 60;

/// How often each fault happened to each kind of call or message.
pub type Met = BTreeMap<(&'static str, Fault), u64>;

#[derive(Debug)]
pub(super) struct Plan {
    random: Random,
    pub(super) met: Met,
    /// Nothing goes wrong any more, but for what was asked for.
    pub(super) is_calm: bool,
    /// What is to happen next, by name of the call.
    pub(super) asked: Option<(String, Fault)>,
}

impl Plan {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Random::new(seed), met: Met::new(), is_calm: false, asked: None }
    }

    /// What is to happen to the next call of that name, or the next message of that kind.
    pub(super) fn choose(&mut self, what: &str) -> Option<Fault> {
        if let Some((_, fault)) = self.asked.take_if(|(asked, _)| asked == what) {
            return Some(fault);
        }
        let (&(what, faults), between) = match kinds().iter().find(|(known, _)| *known == what) {
            _ if self.is_calm => return None,
            Some(kind) if is_message(kind.0) => (kind, MESSAGES_BETWEEN),
            Some(kind) => (kind, CALLS_BETWEEN),
            None => return None,
        };
        let unmet: Vec<Fault> =
            faults.iter().copied().filter(|fault| !self.met.contains_key(&(what, *fault))).collect();
        let (from, between) = if unmet.is_empty() { (faults.to_vec(), between) } else { (unmet, 2) };
        (self.random.between(1, between) == 1).then(|| self.random.pick(&from))
    }

    /// It has happened.
    pub(super) fn met(&mut self, what: &str, fault: Fault) {
        if let Some((known, _)) = kinds().iter().find(|(known, _)| *known == what) {
            *self.met.entry((*known, fault)).or_default() += 1;
        }
    }

    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.random.between(low, high)
    }

    pub(super) fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.random.between(low, high))
    }
}

fn is_message(what: &str) -> bool {
    what.starts_with(['<', '>'])
}

/// All kinds of calls and messages, with what can happen to each.
fn kinds() -> &'static [(&'static str, &'static [Fault])] {
    const KINDS: [(&str, &[Fault]); CALLS.len() + MESSAGES.len()] = {
        let mut kinds: [(&str, &[Fault]); CALLS.len() + MESSAGES.len()] = [("", &[]); _];
        let mut place = 0;
        while place < kinds.len() {
            kinds[place] =
                if place < CALLS.len() { CALLS[place] } else { (MESSAGES[place - CALLS.len()], &OF_MESSAGES) };
            place += 1;
        }
        kinds
    };
    &KINDS
}

/// What has not happened yet.
#[must_use]
pub fn unmet(met: &Met) -> Vec<String> {
    let pairs = kinds().iter().flat_map(|(what, faults)| faults.iter().map(move |fault| (*what, *fault)));
    let unmet = pairs.filter(|pair| !met.contains_key(pair));
    unmet.map(|(what, fault)| format!("{what}: {}", fault.words())).collect()
}

/// In Markdown: a row for each kind of call or message.
#[must_use]
pub fn table(met: &Met) -> String {
    let mut text = String::from("| call, or message of a session |");
    for fault in Fault::ALL {
        text += &format!(" {} |", fault.words());
    }
    text += "\n|---|---|---|---|---|---|---|---|\n";
    for (what, faults) in kinds() {
        text += &if is_message(what) { format!("| `{what}` |") } else { format!("| {what} |") };
        for fault in Fault::ALL {
            let times = met.get(&(*what, fault)).copied().unwrap_or(0);
            text += &if faults.contains(&fault) { format!(" {times} |") } else { " |".to_owned() };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_met_and_the_same_seed_chooses_the_same() {
        let run = |seed| {
            let mut plan = Plan::new(seed);
            let mut chosen = Vec::new();
            for _ in 0..60 {
                for (what, _) in kinds() {
                    let fault = plan.choose(what);
                    fault.into_iter().for_each(|fault| plan.met(what, fault));
                    chosen.push(fault);
                }
            }
            (chosen, plan)
        };
        let (chosen, mut plan) = run(7);
        assert_eq!(unmet(&plan.met), [""; 0]);
        assert_eq!(chosen, run(7).0);
        assert_ne!(chosen, run(8).0);
        assert_eq!(table(&plan.met).lines().count(), 2 + CALLS.len() + MESSAGES.len());
        plan.is_calm = true;
        assert!((0..1_000).all(|_| plan.choose("Upload").is_none()));
        assert_eq!(unmet(&Met::new()).len(), 6 + 7 + 7 + 4 * MESSAGES.len());
    }
}
