//! Whether a trial can be repeated to the bit, and if not, why not.
//!
//! The promise: one replica on a CPU, the same instruction set and thread count gives the same bits, also when the
//! trial was stopped and resumed.

use crate::results::{Attempt, Results};
use sweeps::spec::model::Replicas;

/// What is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// The same command on the same kind of CPU gives the same bits.
    Exact,
    /// It need not, for these reasons.
    Not(Vec<String>),
    /// Nothing was trained yet, or the attempts are not known.
    Unknown,
}

impl Exactness {
    /// For tables.
    #[must_use]
    pub fn is_exact(&self) -> Option<bool> {
        match self {
            Self::Exact => Some(true),
            Self::Not(_) => Some(false),
            Self::Unknown => None,
        }
    }

    /// The reasons against it, in one line.
    #[must_use]
    pub fn reasons(&self) -> String {
        if let Self::Not(reasons) = self { reasons.join("; ") } else { String::new() }
    }
}

/// Of the trial with this number.
#[must_use]
pub fn of(results: &Results, trial: u32) -> Exactness {
    if results.view.trials.iter().any(|known| known.number == trial && known.scripted) {
        return Exactness::Unknown;
    }
    let attempts: Vec<&Attempt> = results.attempts_at(trial).filter(|attempt| attempt.threads > 0).collect();
    match of_attempts(&attempts) {
        Exactness::Unknown => Exactness::Unknown,
        known if !several_replicas(results, trial) => known,
        Exactness::Exact => Exactness::Not(vec![REPLICAS.to_owned()]),
        Exactness::Not(mut reasons) => {
            reasons.push(REPLICAS.to_owned());
            Exactness::Not(reasons)
        }
    }
}

const REPLICAS: &str = "several replicas may train it, whose order is not the same again; the promise is for one";

fn several_replicas(results: &Results, trial: u32) -> bool {
    let own = results.view.trials.iter().find(|known| known.number == trial);
    match own.and_then(|trial| trial.parameters.get("training.replicas")) {
        Some(replicas) => replicas.as_u64() != Some(1),
        None => results.spec.as_ref().is_some_and(|spec| spec.training.replicas != Replicas::Exactly(1)),
    }
}

/// Of attempts whose trainer ran, in their order.
fn of_attempts(attempts: &[&Attempt]) -> Exactness {
    // What came before an attempt that began anew is not in the result.
    let begin = attempts.iter().rposition(|attempt| attempt.resumed_epoch == 0).unwrap_or(0);
    let Some((first, later)) = attempts.get(begin..).and_then(<[&Attempt]>::split_first) else {
        return Exactness::Unknown;
    };
    let mut reasons = Vec::new();
    for attempt in attempts[begin..].iter().filter(|attempt| attempt.device != "cpu") {
        reasons.push(format!("attempt {} ran on {}; the promise is for CPUs", attempt.attempt, attempt.device));
    }
    for attempt in later {
        let mut changed = |what: &str, now: &str, before: &str| {
            if now != before {
                reasons.push(format!(
                    "attempt {} resumed after epoch {} on {what} {now}, before it was {before}",
                    attempt.attempt, attempt.resumed_epoch
                ));
            }
        };
        changed("device", family(&attempt.device), family(&first.device));
        changed("instruction set", &attempt.instruction_set, &first.instruction_set);
        changed("a thread count of", &attempt.threads.to_string(), &first.threads.to_string());
        changed("libtorch", &attempt.libtorch, &first.libtorch);
    }
    if reasons.is_empty() { Exactness::Exact } else { Exactness::Not(reasons) }
}

/// `cuda` of `cuda:1`: which of several equal devices it was makes no difference.
fn family(device: &str) -> &str {
    device.split(':').next().unwrap_or(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(number: u32, device: &str, threads: u32, set: &str, resumed_epoch: u32) -> Attempt {
        Attempt {
            attempt: number,
            device: device.into(),
            threads,
            instruction_set: set.into(),
            libtorch: "2.11.0".into(),
            resumed_epoch,
            ..Attempt::default()
        }
    }

    fn check(attempts: &[Attempt], expected: &Exactness) {
        assert_eq!(of_attempts(&attempts.iter().collect::<Vec<_>>()), *expected, "{attempts:?}");
    }

    #[test]
    fn the_same_machine_is_exact_and_others_say_why() {
        let not = |reason: &str| Exactness::Not(vec![reason.to_owned()]);
        check(&[], &Exactness::Unknown);
        check(&[attempt(1, "cpu", 1, "avx512", 0)], &Exactness::Exact);
        check(&[attempt(1, "cpu", 1, "avx512", 0), attempt(2, "cpu", 1, "avx512", 3)], &Exactness::Exact);
        check(
            &[attempt(1, "cpu", 1, "avx512", 0), attempt(2, "cpu", 1, "avx2", 3)],
            &not("attempt 2 resumed after epoch 3 on instruction set avx2, before it was avx512"),
        );
        check(
            &[attempt(1, "cpu", 2, "avx2", 0), attempt(2, "cpu", 4, "avx2", 1)],
            &not("attempt 2 resumed after epoch 1 on a thread count of 4, before it was 2"),
        );
        check(&[attempt(1, "cuda:0", 2, "avx2", 0)], &not("attempt 1 ran on cuda:0; the promise is for CPUs"));
        // It began anew: what another machine did before is not in the result.
        check(&[attempt(1, "cpu", 1, "avx512", 0), attempt(2, "cpu", 4, "avx2", 0)], &Exactness::Exact);
    }

    #[test]
    fn a_change_of_device_is_said_once() {
        let Exactness::Not(reasons) =
            of_attempts(&[&attempt(1, "cpu", 1, "avx2", 0), &attempt(2, "cuda:1", 1, "avx2", 4)])
        else {
            panic!("not exact")
        };
        assert_eq!(
            reasons,
            [
                "attempt 2 ran on cuda:1; the promise is for CPUs",
                "attempt 2 resumed after epoch 4 on device cuda, before it was cpu"
            ]
        );
    }
}
