//! What an agent is started with.

use crate::metrics::Metrics;
use crate::trainers::Trainers;
use access::Credentials;
use proto::link::DataPlaces;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;
use sweeps::ids::WorkerId;

pub use crate::devices::SlotPlan;

/// Long enough for a coordinator that is busy.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Everything that is decided before an agent starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// `http://HOST:PORT` of the coordinator, or `https://`.
    pub coordinator: String,
    /// What it is shown over `https://`.
    pub credentials: Option<Credentials>,
    /// Who this is; see [`new_worker_id`].
    pub worker: WorkerId,
    /// For people: the name of this machine.
    pub host: String,
    /// What it offers to train on.
    pub slots: Vec<SlotPlan>,
    /// Where data sets lie.
    pub data: DataPlaces,
    /// A folder of its own for checkpoints on their way; made when needed, removed at the end.
    pub folder: PathBuf,
    /// The programs that train.
    pub trainers: Trainers,
    /// `127.0.0.1:0`: where chiefs listen for the gradients of other replicas.
    pub gradients_listen: String,
    /// The folder of what replicas on different hosts show each other over TLS; without it their traffic is in the clear.
    pub gradients_credentials: Option<PathBuf>,
    /// A trainer that says nothing for so long is killed.
    pub silence: Duration,
    /// How long the coordinator may take to answer, and a session may be silent where leases are shorter; six times as
    /// long a checkpoint on its way. Then the call is given up and made again.
    pub patience: Duration,
    /// Where it counts what it does.
    pub metrics: Metrics,
    /// Leave when there was nothing to do for so long; `None`: stay.
    pub leave_when_idle: Option<Duration>,
}

/// A worker id: drawn anew at each start of an agent.
#[must_use]
pub fn new_worker_id() -> WorkerId {
    let mut bytes = [0; 8];
    let drawn = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if drawn.is_err() {
        // Time and process number tell agents apart as well, only less surely.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mixed = now.as_nanos() ^ (u128::from(std::process::id()) << 40);
        bytes.copy_from_slice(&mixed.to_le_bytes()[..8]);
    }
    WorkerId(u64::from_le_bytes(bytes))
}

/// The name of this machine.
#[must_use]
pub fn host_name() -> String {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname"));
    match name.map(|name| name.trim().to_owned()) {
        Ok(name) if !name.is_empty() => name,
        _ => "localhost".to_owned(),
    }
}
