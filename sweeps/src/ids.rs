//! Names of things. Every id is given from outside; nothing here draws one.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A trial: one point of a sweep. The row number in the store, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrialId(pub u64);

/// A worker: one start of one agent. Drawn at random by the agent, so that an agent which re-attaches to a
/// restarted coordinator is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub u64);

/// One slot of a worker: a GPU, or a share of its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlotId {
    /// The worker it belongs to.
    pub worker: WorkerId,
    /// Its place in the list that the worker offered, from 0.
    pub index: u32,
}

/// What everything that a worker says of a trial carries. What is not current is refused, so a worker that
/// comes back from the dead can do no harm and every report can safely be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token {
    /// The trial.
    pub trial: TrialId,
    /// Which try at the trial, from 1.
    pub attempt: u32,
    /// Which of the processes training it; 0 is the chief.
    pub replica: u32,
    /// Which start of this replica within the attempt, from 1.
    pub incarnation: u32,
}

impl Token {
    /// The token of the chief of an attempt.
    #[must_use]
    pub fn chief(trial: TrialId, attempt: u32) -> Self {
        Self { trial, attempt, replica: 0, incarnation: 1 }
    }

    /// The token of another replica of an attempt; `replica` from 1.
    #[must_use]
    pub fn replica(trial: TrialId, attempt: u32, replica: u32) -> Self {
        Self { trial, attempt, replica, incarnation: 1 }
    }
}

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Sixteen hexadecimal digits, as an agent prints itself.
impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.worker, self.index)
    }
}

/// `trial 7, attempt 2`, of others than the chief `trial 7, attempt 2, replica 3`: the form used in messages.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "trial {}, attempt {}", self.trial, self.attempt)?;
        if self.replica > 0 {
            write!(f, ", replica {}", self.replica)?;
        }
        Ok(())
    }
}
