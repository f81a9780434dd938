//! What goes into the chief and what comes out.

use crate::ranges::Range;
use crate::rmsprop::Rule;
use crate::staleness::Histogram;
use crate::values::Values;
use std::collections::BTreeMap;
use std::fmt;
use sweeps::spec::model::Gradients;

/// What does not change while the trial is trained.
pub struct Settings {
    /// The update.
    pub rule: Rule,
    /// How gradients come together.
    pub gradients: Gradients,
    /// The learning rate at a place in the run, in epochs.
    pub learning_rate: Box<dyn Fn(f64) -> f64 + Send>,
    /// Samples of an epoch.
    pub samples: u64,
    /// Samples of a range: a batch.
    pub batch_size: u64,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("rule", &self.rule).field("gradients", &self.gradients).finish_non_exhaustive()
    }
}

/// The buffers of a trial: all that its replicas share.
#[derive(Clone, Debug, PartialEq)]
pub struct Master {
    /// What is trained.
    pub weights: Vec<f32>,
    /// RMSprop's mean square.
    pub mean_square: Vec<f32>,
    /// RMSprop's momentum.
    pub momentum: Vec<f32>,
    /// The moving average of the weights, where there is one.
    pub average: Option<Vec<f32>>,
}

/// What is added up over batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Loss times samples.
    pub loss: f64,
    /// Samples classified right.
    pub right: f64,
    /// Norms of gradients.
    pub norm: f64,
    /// Samples.
    pub samples: u64,
    /// Updates.
    pub updates: u64,
}

/// Where the run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Epochs finished.
    pub epoch: u32,
    /// Updates made.
    pub version: u64,
    /// All samples of the epoch before this are done, but `holes`.
    pub next: u64,
    /// Not done, before `next`.
    pub holes: Vec<Range>,
}

/// A gradient and what it was computed from.
#[derive(Clone, Debug)]
pub struct Finished<'a> {
    /// Of the parameters.
    pub version: u64,
    /// All the samples, broken ones included.
    pub ranges: Vec<Range>,
    /// Samples in the gradient.
    pub samples: u64,
    /// Sum over the samples.
    pub loss: f64,
    /// Samples classified right.
    pub right: f64,
    /// Their mean gradient; none if no sample could be used.
    pub gradient: Option<Values<'a>>,
    /// Its norm, where it was measured already: as it came in.
    pub norm: Option<f64>,
}

/// What became of a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There was none.
    Nothing,
    /// It is in the parameters, or will be when the step's other gradients are there.
    Applied,
    /// Its parameters were too old; its samples are handed out again.
    TooStale,
    /// A value of it, or its square, was not finite; its samples are skipped.
    NotFinite,
    /// Its samples were somebody else's by then.
    NotYours,
}

/// Whether there is work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Samples are handed out.
    Training,
    /// The epoch is over and is evaluated.
    Resting,
    /// All is done.
    Done,
}

/// A push that makes no sense. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// It has not joined, or has left.
    #[error("replica {0} has not joined, or has left; join first")]
    Unknown(u32),
    /// Its number is older than one that was answered.
    #[error("push {sequence} of replica {replica} is older than {newest}, which was answered already")]
    OldSequence {
        /// Who.
        replica: u32,
        /// Its push.
        sequence: u64,
        /// The newest answered.
        newest: u64,
    },
    /// The version does not exist yet.
    #[error("the gradient is of version {version}; the parameters are at {newest}")]
    FromTheFuture {
        /// Of the gradient.
        version: u64,
        /// Of the parameters.
        newest: u64,
    },
    /// Not as long as the parameters.
    #[error("the gradient has {values} values; there are {expected} parameters")]
    WrongSize {
        /// Its values.
        values: usize,
        /// The parameters.
        expected: usize,
    },
    /// A range is empty, turned around or beyond the epoch; or sums are not finite; or there is no range at all.
    #[error("the push does not say what it is of: {0}")]
    BadRange(&'static str),
}

/// What was counted since the last epoch's end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// How old the applied gradients were.
    pub staleness: Histogram,
    /// Samples of gradients that were too old, and were handed out again.
    pub samples_refused: u64,
    /// Samples of gradients that were not finite, and were skipped.
    pub samples_skipped: u64,
    /// Gradients applied, by replica.
    pub pushes: BTreeMap<u32, u64>,
}

/// One applied gradient, as recorded: enough to compute the same again, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Whose.
    pub replica: u32,
    /// Of the parameters it was computed at.
    pub version: u64,
    /// Its samples.
    pub ranges: Vec<Range>,
}

impl Tally {
    pub(super) fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.right += other.right;
        self.norm += other.norm;
        self.samples += other.samples;
        self.updates += other.updates;
    }
}
