//! The agent that a person starts on a node: registers with the coordinator, holds leases, supervises trainers.
//!
//! No libtorch here, so it always starts and can say what is missing. A trainer is a process of its own
//! ([`trainers`]); the agent relays what it says, uploads its checkpoints, and reports how it ended. While the
//! coordinator is away trainers train on, and everything not acknowledged is kept and sent again.

mod backoff;
pub mod config;
pub mod devices;
mod downloads;
mod gpu;
mod hub;
mod lease;
pub mod libtorch;
pub mod lines;
mod link;
mod log_limit;
pub mod metrics;
mod outbox;
mod process;
mod scratch;
pub mod sound;
#[cfg(test)]
mod testing;
pub mod trainers;
mod transfers;
mod unheard;
mod uploads;

pub use config::Config;
pub use hub::{LEAVE_PATIENCE, Leave, Left};

use lease::Tools;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Why an agent could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The coordinator cannot be called.
    #[error(transparent)]
    Address(#[from] access::AddressError),
    /// There is no place for checkpoints on their way.
    #[error("the folder {folder} cannot be used: {source}", folder = folder.display())]
    Folder {
        /// Which.
        folder: std::path::PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The operating system refuses something basic.
    #[error("the thread that starts trainers cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Serves the coordinator until told to leave, or idle for long enough.
///
/// # Errors
/// When it cannot begin. Once it has begun, it goes on whatever happens.
pub async fn run(config: Config, leave: mpsc::Receiver<Leave>) -> Result<Left, AgentError> {
    let (endpoint, bearer) = link::endpoint(&config)?;
    let (events, inbox) = mpsc::channel(1024);
    // A connection of its own, so that large checkpoints do not hold up heartbeats.
    let client = transfers::Client::new(bearer.on(endpoint.connect_lazy()), config.patience);
    let folder = config.folder.clone();
    let folder_shown = config.credentials.as_ref().map(|credentials| credentials.folder().to_owned());
    let scratch = scratch::Scratch::take(&folder).map_err(|source| AgentError::Folder { folder, source })?;
    let (seed, patience) = (config.worker.0, config.patience);
    let (spawner, unheard) = (process::Spawner::new()?, Arc::default());
    let tools = Arc::new(Tools { config, spawner, client, unheard, events: events.clone() });
    let keeper = tokio::spawn(link::keep(endpoint, bearer, folder_shown, patience, seed, events));
    let left = hub::Hub::new(tools).run(inbox, leave).await;
    keeper.abort();
    drop(scratch);
    Ok(left)
}
