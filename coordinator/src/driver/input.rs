//! What reaches the driver.

use crate::service::Place;
use crate::store::CheckpointRow;
use crate::tokens::TokenRow;
use proto::convert::{Registration, Saying};
use proto::wire;
use sweeps::ids::{Token, TrialId};
use sweeps::scheduler::{Event, ReplicaLimits, TrialRecord, Waiting};
use sweeps::spec::model::Sweep;
use tokio::sync::oneshot;
use tonic::Status;

/// The way back, after everything is on disk.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Status>>;
/// The way to a worker. Bounded: who does not read is cut off.
pub(crate) type ToWorker = futures::channel::mpsc::Sender<Result<wire::CoordinatorMessage, Status>>;

/// One thing that somebody wants or says.
#[derive(Debug)]
pub(crate) enum Input {
    Submit {
        submission: Box<Submission>,
        reply: Reply<wire::SubmitReply>,
    },
    Control {
        event: Event,
        reply: Reply<()>,
    },
    Explain {
        trial: TrialId,
        reply: oneshot::Sender<Option<Explained>>,
    },
    Workers {
        reply: oneshot::Sender<Vec<wire::WorkerStatus>>,
    },
    /// The numbers for operators are to say what is now.
    Scrape {
        reply: oneshot::Sender<()>,
    },
    /// The scheduler is to look at itself.
    CheckInvariants {
        reply: oneshot::Sender<()>,
    },
    Attach(Box<Attach>),
    Said {
        session: u64,
        sequence: u64,
        saying: Saying,
        /// Given back when it is taken.
        place: Place,
    },
    Detached {
        session: u64,
    },
    /// Whether a checkpoint of that token would be taken from somebody of that name; its sweep, for the file's name.
    MayUpload {
        token: Token,
        name: Option<String>,
        reply: Reply<String>,
    },
    /// Whether somebody of that name has a worker that trains the trial.
    MayDownload {
        trial: TrialId,
        name: Option<String>,
        reply: oneshot::Sender<bool>,
    },
    PutToken {
        token: Box<NewToken>,
        reply: Reply<wire::TokenStatus>,
    },
    RevokeTokens {
        name: String,
        reply: Reply<u32>,
    },
    /// A checkpoint was read and is not what was saved.
    Damaged {
        row: Box<CheckpointRow>,
        problem: String,
        reply: Reply<()>,
    },
    /// Its file is in its place.
    Uploaded {
        upload: Box<Uploaded>,
        reply: Reply<u64>,
    },
}

/// A worker's stream.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) session: u64,
    /// Of its first message.
    pub(crate) sequence: u64,
    pub(crate) registration: Registration,
    /// Who opened it, where callers must say so.
    pub(crate) name: Option<String>,
    pub(crate) to_worker: ToWorker,
    /// Dropped when the driver closes the session.
    pub(crate) open: oneshot::Sender<()>,
}

/// A token to put.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) row: TokenRow,
    /// The role is that of the token it replaces.
    pub(crate) keeps_role: bool,
    /// It takes the place of the one that its name has, which is good for so long still.
    pub(crate) replaced_after_ms: Option<u64>,
}

/// A sweep file, read and expanded.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) file_name: String,
    pub(crate) yaml: String,
    pub(crate) sweep: Sweep,
    pub(crate) trials: Vec<PricedTrial>,
    /// Should a sweep of that name have other settings, it is forgotten first.
    pub(crate) replace: bool,
}

/// A trial as the store keeps it, and what its network costs.
#[derive(Debug)]
pub(crate) struct PricedTrial {
    pub(crate) key: String,
    pub(crate) alpha: f64,
    pub(crate) resolution: u32,
    pub(crate) seed: u64,
    pub(crate) parameters_json: String,
    pub(crate) settings_json: String,
    pub(crate) epochs: u32,
    pub(crate) replicas: ReplicaLimits,
    pub(crate) stream: Option<u64>,
    pub(crate) work: u64,
    pub(crate) mult_adds: u64,
    pub(crate) params: u64,
    /// Of each that is kept.
    pub(crate) checkpoint_bytes: u64,
}

/// A checkpoint whose file is synced under its name.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) token: Token,
    pub(crate) epoch: u32,
    pub(crate) step: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) best: bool,
    pub(crate) file: String,
}

/// What the scheduler knows of a trial.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) record: TrialRecord,
    pub(crate) waiting: Waiting,
    /// Paused with its whole sweep.
    pub(crate) sweep_paused: bool,
    /// Number, host and device of each replica besides the chief.
    pub(crate) replicas: Vec<(u32, (String, String))>,
    /// Trials that train beside it, on the same slot.
    pub(crate) beside: usize,
}
