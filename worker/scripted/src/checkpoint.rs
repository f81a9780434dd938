//! A small file that pretends to hold weights.

use anyhow::Context;
use proto::link::Said;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use sweeps::ids::Token;

/// All that is needed to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// So that nobody takes it for weights.
    pub scripted: bool,
    /// Of which trial.
    pub key: String,
    /// Epochs done.
    pub epoch: u32,
    /// Of what the script sleeps in the next one, what is done.
    #[serde(default)]
    pub slept_ms: u64,
    /// Of the metric that `best` means.
    pub best: Option<f64>,
}

impl Checkpoint {
    /// Writes it to `folder`, synced, under a name never used before, and tells what to say of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, folder: &Path, token: Token, step: u64, best: bool) -> anyhow::Result<Said> {
        static SAVED: AtomicU64 = AtomicU64::new(1);
        let bytes = serde_json::to_vec(self)?;
        let number = SAVED.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("trial-{}-attempt-{}-{number}.json", token.trial, token.attempt));
        let part = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&part)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)?;
            File::open(folder)?.sync_all()
        };
        let written = write().inspect_err(|_| {
            // What is half written is of no use, and the first error is the one to tell.
            let _ = std::fs::remove_file(&part);
        });
        written.with_context(|| format!("the checkpoint {} cannot be written", path.display()))?;
        Ok(Said::CheckpointSaved {
            token,
            epoch: self.epoch,
            step,
            bytes: u64::try_from(bytes.len())?,
            sha256: hex::encode(Sha256::digest(&bytes)),
            best,
            path,
        })
    }

    /// Reads one of the trial with that key.
    ///
    /// # Errors
    /// When there is none, or it is of something else.
    pub fn load(path: &Path, key: &str) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("the checkpoint {} cannot be read", path.display()))?;
        let checkpoint: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("the checkpoint {} is not one of the scripted trainer", path.display()))?;
        anyhow::ensure!(checkpoint.key == key, "the checkpoint {} is of another trial", path.display());
        Ok(checkpoint)
    }
}
