//! What a watcher is told. The store keeps each as JSON with a sequence number; a dashboard builds its
//! screens from them alone, live or long after.

use crate::ids::WorkerId;
use crate::metrics::Point;
use crate::scheduler::{AttemptEnd, TrialState};
use serde::{Deserialize, Serialize};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happening {
    /// A sweep was submitted, continued or extended.
    SweepSubmitted {
        /// Trials in all.
        trials: u64,
        /// Trials that are new.
        trials_new: u64,
    },
    /// A sweep was paused.
    SweepPaused,
    /// A sweep was resumed.
    SweepResumed,
    /// Another number of its trials may run at a time: a person asked, or a file with another limit was submitted.
    SweepLimited {
        /// The limit from now on; `None`: as many as there are slots.
        max_concurrent_trials: Option<u32>,
    },
    /// All its trials are over.
    SweepOver,
    /// A trial's state changed.
    TrialChanged {
        /// To this.
        state: TrialState,
    },
    /// An attempt began.
    AttemptStarted {
        /// Which, from 1.
        attempt: u32,
        /// Where.
        worker: WorkerId,
        /// For people.
        host: String,
        /// `cpu`, `cuda:0`, ..
        device: String,
    },
    /// An attempt ended.
    AttemptEnded {
        /// Which.
        attempt: u32,
        /// How.
        #[serde(flatten)]
        end: AttemptEnd,
    },
    /// A replica joined a running attempt; told again when a restarted coordinator finds it.
    ReplicaJoined {
        /// Of this attempt.
        attempt: u32,
        /// Which, from 1; never used twice in a trial.
        replica: u32,
        /// Where.
        worker: WorkerId,
        /// For people.
        host: String,
        /// `cpu`, `cuda:0`, ..
        device: String,
    },
    /// A replica takes part no more. All of them have left when the attempt ends.
    ReplicaLeft {
        /// Of this attempt.
        attempt: u32,
        /// Which.
        replica: u32,
        /// For people.
        host: String,
        /// `cpu`, `cuda:0`, ..
        device: String,
        /// Why.
        reason: String,
    },
    /// An epoch is done.
    EpochFinished {
        /// By this attempt.
        attempt: u32,
        /// Epochs done, from 1.
        epoch: u32,
        /// What was measured.
        points: Vec<Point>,
    },
    /// A checkpoint is in the artifact store.
    CheckpointSaved {
        /// By this attempt.
        attempt: u32,
        /// Epochs done in it.
        epoch: u32,
        /// Size.
        bytes: u64,
        /// The best so far.
        best: bool,
    },
    /// A checkpoint is missing, or not what was saved: it is not gone on from. One that is there is set aside, as
    /// `NAME.damaged`.
    CheckpointDamaged {
        /// Of this attempt.
        attempt: u32,
        /// Epochs done in it.
        epoch: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// A worker registered or came back.
    WorkerJoined {
        /// Which.
        worker: WorkerId,
        /// For people.
        host: String,
        /// Devices, slot by slot.
        devices: Vec<String>,
    },
    /// Its stream closed; its leases run on for a grace.
    WorkerDisconnected {
        /// Which.
        worker: WorkerId,
    },
    /// Its leases ran out.
    WorkerLost {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// It takes no more leases: a person asked, or it was told to leave.
    WorkerDraining {
        /// Which.
        worker: WorkerId,
    },
    /// It is given no leases for a while: everything fails there.
    WorkerSetAside {
        /// Which.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// No trial is begun from now on, or trials are begun again.
    LeasesHeld {
        /// Why none is; `None`: they are begun again.
        reason: Option<String>,
    },
    /// It said goodbye.
    WorkerLeft {
        /// Which.
        worker: WorkerId,
    },
    /// Something of a worker was refused because it was not current.
    ReportRefused {
        /// Why.
        reason: String,
    },
}
