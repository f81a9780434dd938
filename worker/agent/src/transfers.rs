//! Checkpoints to the coordinator and from it.

use access::Connection;
use proto::wire;
use proto::wire::upload_message::Body;
use proto::wire::workers_client::WorkersClient;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Code, Status};

const CHUNK_BYTES: usize = 256 * 1024;

/// Calls the coordinator; connects by itself when there is something to call.
#[derive(Clone)]
pub(crate) struct Client {
    calls: WorkersClient<Connection>,
    /// How long a transfer may stand still.
    patience: Duration,
}

impl Client {
    /// Synced files and rows take longer than other answers.
    const PATIENCE_TIMES: u32 = 6;

    pub(crate) fn new(connection: Connection, patience: Duration) -> Self {
        Self { calls: WorkersClient::new(connection), patience: Self::PATIENCE_TIMES * patience }
    }

    /// On a connection that lives while nothing comes through.
    fn silent(&self) -> TransferError {
        TransferError::TryAgain(format!("nothing moved for {:.0?}", self.patience))
    }
}

/// A checkpoint file that a trainer saved, complete.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) token: wire::Token,
    pub(crate) path: PathBuf,
    pub(crate) epoch: u32,
    pub(crate) step: u64,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    pub(crate) best: bool,
}

/// How often a transfer that arrives damaged is tried.
pub(crate) const DAMAGED_TRIES_MAX: u32 = 3;

/// Why a transfer did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// The coordinator is away, or has no room now.
    #[error("{0}")]
    TryAgain(String),
    /// What arrived is not what was sent: worth another try, not many.
    #[error("{0}")]
    Damaged(String),
    /// It will never be taken, or never be there.
    #[error("{0}")]
    Never(String),
}

impl From<Status> for TransferError {
    fn from(status: Status) -> Self {
        let text = format!("{}: {}", status.code(), status.message());
        match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => Self::Never(text),
            Code::DataLoss => Self::Damaged(text),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::Unauthenticated => Self::TryAgain(text),
        }
    }
}

/// Sends a checkpoint. When it returns, file and row are on the coordinator's disk.
pub(crate) async fn upload(client: &Client, saved: &Saved) -> Result<(), TransferError> {
    let never = |error: std::io::Error| TransferError::Never(format!("{}: {error}", saved.path.display()));
    let file = File::open(&saved.path).await.map_err(never)?;
    let header = wire::UploadHeader {
        token: Some(saved.token),
        epoch: saved.epoch,
        step: saved.step,
        bytes: saved.bytes,
        sha256: saved.sha256.clone(),
        best: saved.best,
    };
    let (moves, mut moved) = watch::channel(());
    let sender = moves.clone();
    let messages = futures::stream::unfold((Some(header), file), move |(header, mut file)| {
        sender.send_replace(());
        async move {
            if let Some(header) = header {
                return Some((wire::UploadMessage { body: Some(Body::Header(header)) }, (None, file)));
            }
            let mut data = vec![0; CHUNK_BYTES];
            // A file that cannot be read to its end is too short, which the receiver sees.
            let read = file.read(&mut data).await.unwrap_or(0);
            data.truncate(read);
            (read > 0).then(|| (wire::UploadMessage { body: Some(Body::Data(data.into())) }, (None, file)))
        }
    });
    let mut calls = client.calls.clone();
    let call = calls.upload(messages);
    tokio::pin!(call);
    loop {
        tokio::select! {
            answered = &mut call => return answered.map(drop).map_err(Into::into),
            moved = timeout(client.patience, moved.changed()) => if moved.is_err() {
                return Err(client.silent());
            }
        }
    }
}

/// Fetches a checkpoint into a file, synced no more than it needs to be: it is only read once.
pub(crate) async fn download(client: &Client, wanted: &wire::Checkpoint, to: &Path) -> Result<(), TransferError> {
    let disk = |error: std::io::Error| TransferError::TryAgain(format!("{}: {error}", to.display()));
    let late = |_| client.silent();
    let mut calls = client.calls.clone();
    let call = calls.download(wire::FetchRequest { checkpoint: wanted.id });
    let mut chunks = timeout(client.patience, call).await.map_err(late)??.into_inner();
    let mut file = File::create(to).await.map_err(disk)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0_u64);
    while let Some(chunk) = timeout(client.patience, chunks.message()).await.map_err(late)?? {
        bytes += u64::try_from(chunk.data.len()).unwrap_or(u64::MAX);
        if bytes > wanted.bytes {
            break;
        }
        hash.update(&chunk.data);
        file.write_all(&chunk.data).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    let found = hex::encode(hash.finalize());
    if bytes != wanted.bytes || !found.eq_ignore_ascii_case(&wanted.sha256) {
        return Err(TransferError::Damaged(format!(
            "checkpoint {} (epoch {}) is damaged: {bytes} bytes with SHA-256 {found} came, {} bytes with {} were saved",
            wanted.id, wanted.epoch, wanted.bytes, wanted.sha256
        )));
    }
    Ok(())
}
