//! What goes into the scheduler and what comes out: events, commands, facts.

use crate::ids::{SlotId, Token, TrialId, WorkerId};
use serde::{Deserialize, Serialize};

/// Milliseconds of a clock that never jumps. Never stored: leases are given anew in full after a restart.
pub type Millis = u64;

/// Settings of the scheduler itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a worker says that it lives.
    pub heartbeat_ms: Millis,
    /// Silence after which its leases end; 6 heartbeats unless told otherwise.
    pub lease_ms: Millis,
    /// What is left of a lease once the worker's stream has closed.
    pub grace_ms: Millis,
}

impl Config {
    /// The usual multiples of a heartbeat: a lease of 6, a grace of 2.
    #[must_use]
    pub fn from_heartbeat(heartbeat_ms: Millis) -> Self {
        Self { heartbeat_ms, lease_ms: 6 * heartbeat_ms, grace_ms: 2 * heartbeat_ms }
    }
}

/// What the scheduler must know of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepLimits {
    /// Higher goes first.
    pub priority: u8,
    /// At most so many trials run at a time.
    pub max_concurrent_trials: Option<u32>,
    /// Own crashes and failures that a trial survives.
    pub max_restarts: u32,
    /// Lost workers in a row, without progress, that a trial survives.
    pub max_losses: u32,
    /// So many of its trials, at most, train side by side on one slot; at least 1.
    #[serde(default = "one")]
    pub max_trials_per_slot: u32,
}

fn one() -> u32 {
    1
}

/// What a person asked for while the sweep runs, in place of its file's `max_concurrent_trials`. It stays until
/// another limit is asked for, or a file with another `max_concurrent_trials` is submitted: the same file again
/// does not undo it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedLimit {
    /// At most so many trials run at a time; `None`: as many as there are slots.
    pub max_concurrent_trials: Option<u32>,
}

/// What the scheduler must know of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewTrial {
    /// Its id.
    pub id: TrialId,
    /// What training on one image costs ([`crate::network::Cost::work`]), known before anything ran.
    pub work: u64,
    /// Of one image, for people: how fast a slot is.
    pub mult_adds: u64,
    /// Epochs in all.
    pub epochs: u32,
    /// How many replicas train it.
    #[serde(default)]
    pub replicas: ReplicaLimits,
    /// Which stream of images it reads: trials of one sweep and one stream can train side by side
    /// ([`crate::trial::Trial::stream`]). `None`: it trains alone.
    #[serde(default)]
    pub stream: Option<u64>,
}

/// How many replicas train one trial, its chief included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaLimits {
    /// So many come before pending trials; at least 1.
    pub min: u32,
    /// Up to so many on slots that nothing else can use; at least `min`.
    pub max: u32,
}

impl ReplicaLimits {
    /// The chief alone.
    pub const ONE: Self = Self { min: 1, max: 1 };
}

impl Default for ReplicaLimits {
    fn default() -> Self {
        Self::ONE
    }
}

impl From<crate::spec::model::Replicas> for ReplicaLimits {
    fn from(replicas: crate::spec::model::Replicas) -> Self {
        Self { min: replicas.min(), max: replicas.max() }
    }
}

/// A slot that a worker offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotOffer {
    /// `cpu`, `cuda:0`, ..: for people and for the reason why a trial waits.
    pub device: String,
}

/// What happened. All that reaches the scheduler.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A sweep was submitted, or submitted again: known trials are left alone, new ones are added.
    SweepSubmitted {
        /// Its name.
        sweep: String,
        /// Its limits; of a known sweep they replace the old ones.
        limits: SweepLimits,
        /// All its trials.
        trials: Vec<NewTrial>,
    },
    /// All trials of a sweep are forgotten, as if they had never been: it is to be submitted anew with other
    /// settings. Running ones are told to stop. The sweep itself stays, not paused, without a trial, with its
    /// file's limit.
    SweepCleared {
        /// Its name.
        sweep: String,
    },
    /// A worker came, or came back. What it held under the same id and still runs goes on; what it held and
    /// does not list is over and counts as lost; what it lists and does not hold any more is stopped.
    WorkerJoined {
        /// Which.
        worker: WorkerId,
        /// Raised by whoever accepts connections; what an older session says is refused.
        session: u64,
        /// For people.
        host: String,
        /// In order: a slot's index is its place here.
        slots: Vec<SlotOffer>,
        /// What its trainers are training now, or have finished and not yet had acknowledged, by slot index.
        holding: Vec<(u32, Token)>,
    },
    /// It lives.
    Heartbeat {
        /// Which.
        worker: WorkerId,
        /// Its session.
        session: u64,
    },
    /// Its stream closed: the grace begins.
    WorkerDisconnected {
        /// Which.
        worker: WorkerId,
        /// The session that closed.
        session: u64,
    },
    /// It takes no more leases; what it holds it finishes.
    WorkerDraining {
        /// Which.
        worker: WorkerId,
        /// Its session.
        session: u64,
    },
    /// It said goodbye: nothing runs there any more.
    WorkerLeft {
        /// Which.
        worker: WorkerId,
        /// Its session.
        session: u64,
    },
    /// A trial finished an epoch. Resets its count of losses and measures the slot's speed.
    EpochFinished {
        /// Who says so.
        token: Token,
        /// Epochs finished in all, from 1.
        epoch: u32,
        /// How long it took.
        duration_ms: Millis,
    },
    /// Within an epoch: so much of it is done. Says sooner than the epoch's end how fast the slot is. Told twice, or late,
    /// it changes nothing.
    Progress {
        /// Who says so.
        token: Token,
        /// The epoch under way, from 1.
        epoch: u32,
        /// Of its images; 0 to 1.
        share: f64,
        /// How long that took.
        duration_ms: Millis,
    },
    /// The chief of an attempt serves its parameters: other replicas may join it. Told twice it changes nothing.
    ChiefListening {
        /// Who says so.
        token: Token,
        /// `HOST:PORT`; on loopback only workers of the same host can join.
        address: String,
    },
    /// An attempt, or one replica of it, is over and its trainer's process is gone.
    AttemptEnded {
        /// Who says so.
        token: Token,
        /// How.
        end: AttemptEnd,
    },
    /// It takes no more leases, as a person asked: what it holds it finishes, and then it leaves.
    WorkerDrainAsked {
        /// Which.
        worker: WorkerId,
    },
    /// No lease is granted from now on, whatever runs goes on; or leases are granted again. Not remembered: whoever
    /// says so says it again after a restart.
    LeasesHeld {
        /// For people; `None`: leases are granted again.
        reason: Option<String>,
    },
    /// At most so many of its trials run at a time from now on. More that run already go on.
    SweepLimited {
        /// Which.
        sweep: String,
        /// `None`: as many as there are slots.
        max_concurrent_trials: Option<u32>,
    },
    /// Run no trial of it: running ones are stopped with a checkpoint, and wait.
    SweepPaused {
        /// Which.
        sweep: String,
    },
    /// Paused trials of it may run again.
    SweepResumed {
        /// Which.
        sweep: String,
    },
    /// End all its trials that are not over.
    SweepCancelled {
        /// Which.
        sweep: String,
    },
    /// Pending again, attempts counted on: all trials of it that failed or were cancelled.
    SweepRetried {
        /// Which.
        sweep: String,
    },
    /// Like the sweep's, for one trial.
    TrialPaused {
        /// Which.
        trial: TrialId,
    },
    /// Like the sweep's, for one trial.
    TrialResumed {
        /// Which.
        trial: TrialId,
    },
    /// Like the sweep's, for one trial.
    TrialCancelled {
        /// Which.
        trial: TrialId,
    },
    /// Like the sweep's, for one trial.
    TrialRetried {
        /// Which.
        trial: TrialId,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum AttemptEnd {
    /// All epochs are done.
    Completed,
    /// The trainer said what was wrong with the trial: data missing, loss not finite. Trying again would end
    /// the same way: the trial fails at once.
    Failed {
        /// One sentence.
        reason: String,
    },
    /// The trainer's process died, or stopped responding. Counts against `max_restarts`.
    Crashed {
        /// What is known: signal, exit code, last words.
        reason: String,
    },
    /// The trainer's process died while it trained several trials: nobody knows which is to blame, so none is, and
    /// they go on in smaller company.
    CrashedTogether {
        /// What is known: signal, exit code, last words.
        reason: String,
        /// How many it trained.
        trials: u32,
    },
    /// Stopped as asked.
    Stopped,
    /// Its worker was lost or gave the lease back. Counts against `max_losses`.
    Lost {
        /// What is known.
        reason: String,
    },
}

impl AttemptEnd {
    /// The word shown to people and counted under: `completed`, `failed`, ..
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
            Self::Crashed { .. } => "crashed",
            Self::CrashedTogether { .. } => "crashed_together",
            Self::Stopped => "stopped",
            Self::Lost { .. } => "lost",
        }
    }

    /// Every [`Self::word`].
    pub const WORDS: [&str; 6] = ["completed", "failed", "crashed", "crashed_together", "stopped", "lost"];

    /// Why, where it did not end as wished.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason }
            | Self::Crashed { reason }
            | Self::CrashedTogether { reason, .. }
            | Self::Lost { reason } => Some(reason),
            Self::Completed | Self::Stopped => None,
        }
    }
}

/// Where a trial stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TrialState {
    /// Waits for a slot.
    Pending,
    /// Leased.
    Running {
        /// Of the current attempt.
        attempt: u32,
        /// Where.
        slot: SlotId,
        /// Asked to stop; the reason decides what comes after.
        stopping: Option<StopReason>,
    },
    /// Waits to be resumed by a person.
    Paused,
    /// All epochs done.
    Completed,
    /// Over, without a result.
    Failed {
        /// Why.
        reason: String,
    },
    /// Over, as asked.
    Cancelled,
}

impl TrialState {
    /// The word shown to people: `pending`, `running`, ..
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running { .. } => "running",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Why it was asked to stop, if it runs and was.
    #[must_use]
    pub fn stopping(&self) -> Option<StopReason> {
        match self {
            Self::Running { stopping, .. } => *stopping,
            Self::Pending | Self::Paused | Self::Completed | Self::Failed { .. } | Self::Cancelled => None,
        }
    }

    /// Whether nothing more will happen unless a person asks.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Completed | Self::Failed { .. } | Self::Cancelled => true,
            Self::Pending | Self::Running { .. } | Self::Paused => false,
        }
    }
}

/// Why a running trial is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Save a checkpoint, then stop; the trial waits.
    Pause,
    /// Stop; nothing of it is wanted.
    Cancel,
    /// Somebody else has it, or it is over: the sender's token is not current.
    Superseded,
}

/// Must be on disk before any other command of the same batch is carried out. Rows of the store, and all that
/// a restart needs: folding them gives the same state as living through the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A sweep is known, or its limits changed.
    SweepKnown {
        /// Its name.
        sweep: String,
        /// Its limits.
        limits: SweepLimits,
    },
    /// What a person asks of its limit has changed; see [`AskedLimit`].
    SweepLimited {
        /// Its name.
        sweep: String,
        /// `None`: its file's limit holds.
        asked: Option<AskedLimit>,
    },
    /// It was paused or resumed.
    SweepPaused {
        /// Its name.
        sweep: String,
        /// Which of both.
        paused: bool,
    },
    /// All its trials, attempts included, are forgotten; it is not paused, and has its file's limit.
    SweepCleared {
        /// Its name.
        sweep: String,
    },
    /// A trial changed. The whole row.
    Trial(TrialRecord),
    /// An attempt began.
    AttemptStarted {
        /// Its token.
        token: Token,
        /// Where.
        slot: SlotId,
    },
    /// An attempt ended.
    AttemptEnded {
        /// Its token.
        token: Token,
        /// How.
        end: AttemptEnd,
    },
    /// A replica joined a running attempt, or was found to train on after a restart. History alone: who helps whom
    /// is not restored, but learnt again from the workers.
    ReplicaJoined {
        /// Its token.
        token: Token,
        /// Where.
        slot: SlotId,
    },
    /// It does not take part any more.
    ReplicaLeft {
        /// Its token.
        token: Token,
        /// Where it was.
        slot: SlotId,
        /// Why.
        reason: String,
    },
}

/// All that the scheduler remembers of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// What it is.
    pub trial: NewTrial,
    /// Its sweep.
    pub sweep: String,
    /// Where it stands.
    pub state: TrialState,
    /// Attempts begun.
    pub attempts: u32,
    /// Crashes counted against `max_restarts`.
    pub restarts: u32,
    /// Losses in a row counted against `max_losses`.
    pub losses: u32,
    /// Epochs finished.
    pub epochs_done: u32,
    /// Replicas that ever joined it, over all attempts: the next one's number is one more, so that none is used twice.
    pub replicas_started: u32,
    /// While it runs: where its chief serves the parameters, once it does.
    pub chief_address: Option<String>,
}

/// All that the scheduler remembers of a sweep, as the store gives it back after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRecord {
    /// Its name.
    pub sweep: String,
    /// Its limits.
    pub limits: SweepLimits,
    /// The limit that a person has asked for, in place of the file's.
    pub asked: Option<AskedLimit>,
    /// Paused by a person.
    pub paused: bool,
    /// Its trials, by id.
    pub trials: Vec<TrialRecord>,
}

/// What is to be done. In order; all facts of a batch before anything else of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Write it down.
    Remember(Fact),
    /// Lease a slot: one trainer process trains all members side by side. Or let others join a lease.
    Grant {
        /// To whom.
        slot: SlotId,
        /// The session it must reach.
        session: u64,
        /// The trials: several share one stream of images.
        members: Vec<Token>,
        /// Beside those that the slot trains, from their next epoch on.
        joins: bool,
    },
    /// Tell a worker to stop a trial.
    Stop {
        /// Whom.
        worker: WorkerId,
        /// The session it must reach.
        session: u64,
        /// What to stop.
        token: Token,
        /// What happens to it then.
        reason: StopReason,
    },
    /// Tell a worker to finish what it holds and leave.
    Drain {
        /// Whom.
        worker: WorkerId,
        /// The session it must reach.
        session: u64,
    },
    /// A worker is given no leases for a while: everything fails there. Tell watchers.
    WorkerSetAside {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// A worker is lost: its lease ran out. Close its stream, tell watchers.
    WorkerLost {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
}

/// An event that changes nothing: said by somebody who is not current, or about something unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token is not the current one of its trial. Counted; the worker is told to stop.
    #[error("{0} is not current any more: the trial is over, or runs elsewhere")]
    StaleToken(Token),
    /// Said by a session that a newer one has replaced, or by a worker given up as lost.
    #[error("worker {0} is not registered under this session; register again")]
    StaleSession(WorkerId),
    /// No such sweep.
    #[error("there is no sweep called {0}")]
    UnknownSweep(String),
    /// No such worker.
    #[error("there is no worker {0}; it may have left or been lost")]
    UnknownWorker(WorkerId),
    /// No such trial.
    #[error("there is no trial {0}")]
    UnknownTrial(TrialId),
    /// It cannot be done in the state in which the trial is.
    #[error("trial {trial} is {state}: {problem}")]
    WrongState {
        /// Which.
        trial: TrialId,
        /// Its state's word.
        state: &'static str,
        /// What cannot be done.
        problem: &'static str,
    },
}

/// Why a trial does not run now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Waiting {
    /// It does run, or is over.
    NotWaiting,
    /// A person paused it or its sweep.
    Paused,
    /// No worker is there at all.
    NoWorkers,
    /// All workers that are there drain, are disconnected or are set aside.
    NoUsableWorkers,
    /// No trial is begun at the moment.
    Held {
        /// Why.
        reason: String,
    },
    /// All slots are taken, and others go first.
    NoFreeSlot {
        /// Trials that go before it.
        ahead: u64,
        /// Slots in all.
        slots: u64,
    },
    /// Its sweep runs as many trials as it may.
    ConcurrencyLimit {
        /// `max_concurrent_trials`.
        limit: u32,
    },
    /// A slot is free, but kept for replicas without which a trial that has just begun is not to train.
    SlotsForReplicas {
        /// Which.
        trial: TrialId,
    },
    /// A slot is free, but kept until trials that are to change their slots have stopped.
    SlotsForMoves {
        /// How many have not.
        trials: u64,
    },
    /// A slot is free, but a busy one would finish the trial earlier.
    BetterSlotSoon {
        /// Which.
        slot: SlotId,
    },
}
