//! What an agent and its trainer say to each other: one JSON value a line.
//!
//! The agent writes [`Order`]s to the trainer's standard input; the first is [`Order::Start`], and the end of
//! the file means "your agent is gone: end at once". The trainer writes [`Said`] to its standard output.
//! What it writes to standard error is its log. A line of standard output that is not such a value is a log
//! line too: libraries print.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use sweeps::ids::Token;
use sweeps::metrics::Point;
use sweeps::scheduler::StopReason;
use sweeps::trial::Trial;

/// Exit code of a trainer that has said [`Said::Ended`] for every member that it began.
pub const EXIT_DONE: i32 = 0;
/// Exit code of a trainer that could not understand its orders.
pub const EXIT_ORDERS: i32 = 2;

/// From the agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Train these.
    Start(Start),
    /// Stop a member: for `pause` after a checkpoint, otherwise at once. Answered by [`Said::Ended`].
    Stop {
        /// Which.
        token: Token,
        /// Why.
        reason: StopReason,
    },
    /// Train one more, beside the others from their next epoch's start on. Answered by [`Said::Started`]; a trainer that
    /// ends well without that has not begun it, and it begins in another one.
    Join {
        /// The one.
        member: Box<Member>,
    },
}

/// The first order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Trained side by side over one stream of images.
    pub members: Vec<Member>,
    /// `cpu`, or `cuda:N`.
    pub device: String,
    /// CPU threads of the slot, for all members together; 0: choose.
    pub threads: u32,
    /// Slots of its worker, which share the memory that images may be kept in.
    #[serde(default = "one")]
    pub slots: u32,
    /// A folder of its own, there already, for checkpoints before they are uploaded.
    pub folder: PathBuf,
    /// Names of data sets and where they lie; see [`DataPlaces`].
    pub data: DataPlaces,
}

fn one() -> u32 {
    1
}

/// One trial of a cohort.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// What it says of this trial carries this.
    pub token: Token,
    /// The settings.
    pub trial: Trial,
    /// A checkpoint to go on from.
    pub resume: Option<PathBuf>,
    /// CPU threads that its first attempt computed with; 0: choose.
    #[serde(default)]
    pub threads: u32,
    /// How it meets the other replicas of its trial; none where `training.replicas` allows one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
}

/// How the replicas of a trial meet.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Known to the replicas of this attempt alone: 64 hexadecimal digits. Never printed.
    pub secret: String,
    /// A folder with certificate, key and authority, to speak TLS with replicas of other hosts. Without it, or on
    /// loopback, what is said is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// On which side of the exchange it stands.
    #[serde(flatten)]
    pub role: ExchangeRole,
}

impl Exchange {
    /// What to show at that address, `HOST:PORT`: nothing on this machine.
    #[must_use]
    pub fn credentials_at(&self, address: &str) -> Option<&Path> {
        self.credentials.as_deref().filter(|_| !is_loopback(address))
    }
}

fn is_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => address.rsplit_once(':').is_some_and(|(host, _)| host == "localhost"),
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("role", &self.role).finish_non_exhaustive()
    }
}

/// On which side of the exchange of gradients a replica stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum ExchangeRole {
    /// It keeps the parameters, and says [`Said::Listening`] once others may come.
    Chief {
        /// `127.0.0.1:0`: where to listen.
        listen: String,
    },
    /// It sends its gradients to the chief. It resumes from no checkpoint, saves none and reports no epochs. It ends
    /// as completed when the chief says that all is done, and as stopped when asked to, or when the chief is gone.
    Replica {
        /// `127.0.0.1:43121`: where the chief listens.
        chief: String,
    },
}

/// Where data sets lie on this worker.
///
/// A path of a sweep is found so: absolute as it is; its first part a name of `names`: below that place;
/// there below `folder`: that; else as it is, from the working folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataPlaces {
    /// From `--data NAME=PATH`.
    pub names: std::collections::BTreeMap<String, PathBuf>,
    /// From `--data-folder`.
    pub folder: Option<PathBuf>,
}

impl DataPlaces {
    /// Where a path of a sweep file lies here.
    #[must_use]
    pub fn find(&self, path: &str) -> PathBuf {
        let plain = PathBuf::from(path);
        if plain.is_absolute() {
            return plain;
        }
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        if let Some(place) = self.names.get(first) {
            return if rest.is_empty() { place.clone() } else { place.join(rest) };
        }
        match &self.folder {
            Some(folder) if folder.join(&plain).exists() => folder.join(&plain),
            // Braces stand for several files: `shards/train-{000..127}.tar`. Their folder decides.
            Some(folder) if braces_folder(path).is_some_and(|below| folder.join(below).is_dir()) => folder.join(&plain),
            _ => plain,
        }
    }
}

/// The folder that braces are in; none without braces.
fn braces_folder(path: &str) -> Option<&str> {
    let (before, _) = path.split_once('{')?;
    Some(before.rsplit_once('/').map_or("", |(folder, _)| folder))
}

/// From the trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// It runs, and these facts will not change.
    Started {
        /// Which member.
        token: Token,
        /// `cpu`, or `cuda:0 NVIDIA H100`.
        device: String,
        /// CPU threads it computes with.
        threads: u32,
        /// Of the CPU: `avx512`, `avx2`, ..
        instruction_set: String,
        /// `2.11.0`; `none` for the scripted trainer.
        libtorch: String,
        /// Epochs done in the checkpoint it resumed; 0 if none.
        resumed_epoch: u32,
    },
    /// A chief's service for gradients listens: replicas may come.
    Listening {
        /// Which member.
        token: Token,
        /// `127.0.0.1:43121`: where others reach it.
        address: String,
    },
    /// It lives: at least every 10 seconds while nothing else is said.
    Alive,
    /// Points within an epoch.
    Points {
        /// Which member.
        token: Token,
        /// On the step axis.
        points: Vec<Point>,
    },
    /// Part of an epoch is trained: said at ever longer intervals, so that how fast it goes is known early.
    Progress {
        /// Which member.
        token: Token,
        /// The epoch under way, from 1.
        epoch: u32,
        /// Of its images; 0 to 1.
        share: f64,
        /// What that took; where several trials shared the time, this one's part, by Mult-Adds.
        duration_ms: u64,
    },
    /// An epoch is trained and evaluated.
    EpochFinished {
        /// Which member.
        token: Token,
        /// Epochs done, from 1.
        epoch: u32,
        /// From the epoch's start in this attempt, evaluation included; where several trials shared it, this one's part,
        /// by Mult-Adds.
        duration_ms: u64,
        /// On the epoch axis.
        points: Vec<Point>,
    },
    /// A file is complete. The agent uploads it and then removes it.
    CheckpointSaved {
        /// Which member.
        token: Token,
        /// Where.
        path: PathBuf,
        /// Epochs done.
        epoch: u32,
        /// Optimizer steps done.
        step: u64,
        /// Size.
        bytes: u64,
        /// Hexadecimal SHA-256 of the file.
        sha256: String,
        /// The best epoch so far.
        best: bool,
    },
    /// Worth a line in the trial's log.
    Log {
        /// Which member; all, if absent.
        token: Option<Token>,
        /// One line.
        text: String,
    },
    /// The member is done: completed, failed or stopped. Never crashed or lost, which only others can see.
    Ended {
        /// Which member.
        token: Token,
        /// How.
        end: sweeps::scheduler::AttemptEnd,
    },
}

/// After how long a trainer first says how much of an epoch is done; then whenever it has taken twice as long.
pub const FIRST_PROGRESS: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a trainer waits before it tries again to write to a disk that is full.
pub const FULL_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether a file could not be written for want of room, which may come: what is to be saved waits for it.
#[must_use]
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// The widest vector instructions that libtorch's kernels may use here. Part of the promise of exactness.
#[must_use]
pub fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    std::env::consts::ARCH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_found_by_name_then_below_the_folder_then_as_it_is() {
        let here = std::env::current_dir().unwrap();
        let places = DataPlaces {
            names: [("imagenet".to_owned(), PathBuf::from("/mnt/imagenet"))].into(),
            folder: Some(here.clone()),
        };
        assert_eq!(places.find("/data/x"), PathBuf::from("/data/x"));
        assert_eq!(places.find("imagenet"), PathBuf::from("/mnt/imagenet"));
        assert_eq!(places.find("imagenet/train"), PathBuf::from("/mnt/imagenet/train"));
        assert_eq!(places.find("src/link.rs"), here.join("src/link.rs"));
        assert_eq!(places.find("src/a-{0..9}.tar"), here.join("src/a-{0..9}.tar"));
        assert_eq!(places.find("nowhere/a-{0..9}.tar"), PathBuf::from("nowhere/a-{0..9}.tar"));
        assert_eq!(places.find("nowhere/at-all"), PathBuf::from("nowhere/at-all"));
    }

    #[test]
    fn a_line_comes_back_as_it_went() {
        let token = Token::chief(sweeps::ids::TrialId(7), 2);
        let order = Order::Stop { token, reason: StopReason::Pause };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(
            line,
            r#"{"order":"stop","token":{"trial":7,"attempt":2,"replica":0,"incarnation":1},"reason":"pause"}"#
        );
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
    }

    #[test]
    fn one_that_joins_comes_as_it_would_at_the_start() {
        let trial: Trial = serde_json::from_value(serde_json::json!({
            "key": "0".repeat(32), "parameters": {}, "network": "mobilenet", "alpha": 0.5, "resolution": 128, "seed": 1,
            "data": {"format": "idx", "train": "x", "validation": "y", "classes": 10},
            "training": {"epochs": 3}, "checkpoint": {}, "best": {"name": "val_top1", "goal": "maximize"},
        }))
        .unwrap();
        let token = Token::chief(sweeps::ids::TrialId(7), 2);
        let member = Member { token, trial, resume: Some("/x/y".into()), threads: 2, exchange: None };
        let alone = serde_json::to_string(&member).unwrap();
        let order = Order::Join { member: Box::new(member) };
        let line = serde_json::to_string(&order).unwrap();
        assert_eq!(line, format!(r#"{{"order":"join","member":{alone}}}"#));
        assert_eq!(serde_json::from_str::<Order>(&line).unwrap(), order);
    }

    #[test]
    fn credentials_are_shown_to_other_hosts_alone() {
        let role = ExchangeRole::Chief { listen: "0.0.0.0:0".to_owned() };
        let exchange = Exchange { secret: String::new(), credentials: Some("node7".into()), role };
        for (address, expected) in [
            ("127.0.0.1:7", false),
            ("[::1]:7", false),
            ("localhost:7", false),
            ("0.0.0.0:0", true),
            ("10.0.0.5:7", true),
            ("gpu0:7", true),
            ("127.evil.example:7", true),
        ] {
            assert_eq!(exchange.credentials_at(address).is_some(), expected, "{address}");
        }
    }

    #[test]
    fn an_exchange_comes_back_as_it_went_and_its_secret_is_not_printed() {
        let chief = ExchangeRole::Chief { listen: "127.0.0.1:0".to_owned() };
        let replica = ExchangeRole::Replica { chief: "127.0.0.1:43121".to_owned() };
        for (role, expected) in [
            (chief, r#"{"secret":"c0ffee","role":"chief","listen":"127.0.0.1:0"}"#),
            (replica, r#"{"secret":"c0ffee","role":"replica","chief":"127.0.0.1:43121"}"#),
        ] {
            let exchange = Exchange { secret: "c0ffee".to_owned(), credentials: None, role };
            assert_eq!(serde_json::to_string(&exchange).unwrap(), expected);
            assert_eq!(serde_json::from_str::<Exchange>(expected).unwrap(), exchange);
            assert!(!format!("{exchange:?}").contains("c0ffee"));
        }
    }
}
