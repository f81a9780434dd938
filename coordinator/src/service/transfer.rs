//! Checkpoints: in, hashed while they are written; out, in chunks.

use super::{Answers, SLOW_MAX, Service, answers, cannot_read};
use crate::artifacts::{self, CHECKPOINT_BYTES_MAX, Upload};
use crate::driver::{Input, Uploaded};
use crate::store::CheckpointRow;
use crate::tokens::Caller;
use proto::wire;
use proto::wire::upload_message::Body;
use sha2::{Digest, Sha256};
use std::io;
use sweeps::ids::{Token, TrialId};
use tokio::io::AsyncReadExt;
use tonic::{Response, Status, Streaming};

const CHUNK_BYTES: usize = 256 << 10;

/// Takes a checkpoint. When it returns, file and row are on disk. Sent twice, it has one row.
pub(super) async fn receive(
    service: &Service,
    mut stream: Streaming<wire::UploadMessage>,
    name: Option<String>,
) -> Result<Response<wire::UploadReceipt>, Status> {
    let Some(wire::UploadMessage { body: Some(Body::Header(header)) }) = next(&mut stream).await? else {
        return Err(Status::invalid_argument("a checkpoint's first message must be its header"));
    };
    let token = proto::convert::token(header.token)?;
    check_header(&header)?;
    let sweep = service.ask(|reply| Input::MayUpload { token, name, reply }).await??;
    let mut upload = service.shared.artifacts.begin().await.map_err(cannot_write)?;
    take(&mut stream, &mut upload, &header).await?;
    // On its own: a sender that goes away now does not leave a file without a row.
    let service = service.clone();
    let kept = tokio::spawn(async move { keep(&service, upload, &sweep, token, &header).await });
    let checkpoint =
        kept.await.map_err(|error| Status::internal(format!("keeping the checkpoint failed: {error}")))??;
    Ok(Response::new(wire::UploadReceipt { checkpoint }))
}

async fn keep(
    service: &Service,
    upload: Upload,
    sweep: &str,
    token: Token,
    header: &wire::UploadHeader,
) -> Result<u64, Status> {
    let artifacts = &service.shared.artifacts;
    let wire::UploadHeader { token: _, epoch, step, bytes, sha256, best } = header;
    let (epoch, step, bytes, best) = (*epoch, *step, *bytes, *best);
    let file = artifacts::file_name(sweep, token.trial.0, epoch, step, sha256);
    let existed = artifacts.keep(upload, &file).await.map_err(cannot_write)?;
    let uploaded = Uploaded { token, epoch, step, bytes, sha256: sha256.clone(), best, file: file.clone() };
    let kept = service.ask(|reply| Input::Uploaded { upload: Box::new(uploaded), reply }).await?;
    if kept.is_err() && !existed && !service.shared.reader.has_file(&file).await.map_err(cannot_read)? {
        // No longer wanted since it began. A file that was there before may have a row, and so may this one: of another
        // copy of the same upload, which was stored meanwhile.
        artifacts.remove(&[file]);
    }
    kept
}

fn check_header(header: &wire::UploadHeader) -> Result<(), Status> {
    let wire::UploadHeader { bytes, sha256, .. } = header;
    if *bytes == 0 || *bytes > CHECKPOINT_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "a checkpoint of {bytes} bytes; 1 to {CHECKPOINT_BYTES_MAX} are taken"
        )));
    }
    let is_hash = sha256.len() == 64 && sha256.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hash {
        return Err(Status::invalid_argument("sha256 must be 64 lower-case hexadecimal digits"));
    }
    Ok(())
}

async fn take(
    stream: &mut Streaming<wire::UploadMessage>,
    upload: &mut Upload,
    header: &wire::UploadHeader,
) -> Result<(), Status> {
    let wire::UploadHeader { bytes, sha256, .. } = header;
    while let Some(message) = next(stream).await? {
        let Some(Body::Data(data)) = message.body else {
            return Err(Status::invalid_argument("after its header a checkpoint's messages must be data"));
        };
        if upload.bytes + data.len() as u64 > *bytes {
            return Err(Status::invalid_argument(format!("the checkpoint is longer than the {bytes} bytes announced")));
        }
        upload.write(&data).await.map_err(cannot_write)?;
    }
    if upload.bytes != *bytes {
        let got = upload.bytes;
        return Err(Status::data_loss(format!(
            "{got} bytes of the checkpoint arrived, {bytes} were announced; send it again"
        )));
    }
    let got = upload.sha256();
    if got != *sha256 {
        return Err(Status::data_loss(format!(
            "the checkpoint's SHA-256 is {got}, {sha256} was announced; send it again"
        )));
    }
    Ok(())
}

/// The next message; a sender that is slower than slow does not hold a file open for ever.
async fn next(stream: &mut Streaming<wire::UploadMessage>) -> Result<Option<wire::UploadMessage>, Status> {
    let late = |_| Status::deadline_exceeded("the next piece of the checkpoint took too long; send it again");
    tokio::time::timeout(SLOW_MAX, stream.message()).await.map_err(late)?
}

/// Sends a checkpoint's bytes to somebody whose worker trains its trial.
pub(super) async fn send(
    service: &Service,
    request: wire::FetchRequest,
    caller: Option<Caller>,
) -> Result<Response<Answers<wire::Chunk>>, Status> {
    let row = find(service, request).await?;
    if let Some(caller) = &caller {
        let (trial, name) = (TrialId(crate::store::unsigned(row.trial)), Some(caller.name.clone()));
        if !service.ask(|reply| Input::MayDownload { trial, name, reply }).await? {
            let text = format!("trial {trial} is not leased to a worker of {}", caller.name);
            return Err(Status::permission_denied(text));
        }
    }
    stream(service, row, caller).await
}

/// Sends a checkpoint's bytes to somebody who may look at everything.
pub(super) async fn fetch(
    service: &Service,
    request: wire::FetchRequest,
    caller: Option<Caller>,
) -> Result<Response<Answers<wire::Chunk>>, Status> {
    let row = find(service, request).await?;
    stream(service, row, caller).await
}

async fn find(service: &Service, request: wire::FetchRequest) -> Result<CheckpointRow, Status> {
    let wire::FetchRequest { checkpoint } = request;
    let row = service.shared.reader.checkpoint(checkpoint).await.map_err(cannot_read)?;
    row.ok_or_else(|| {
        Status::not_found(format!("there is no checkpoint {checkpoint}; it may have been replaced by a newer one"))
    })
}

async fn stream(
    service: &Service,
    row: CheckpointRow,
    caller: Option<Caller>,
) -> Result<Response<Answers<wire::Chunk>>, Status> {
    let path = service.shared.artifacts.path(&row.file);
    let opened = service.shared.artifacts.open_file(&row.file).await;
    let mut file = opened.map_err(|error| Status::data_loss(format!("{}: {error}", path.display())))?;
    let length =
        file.metadata().await.map_err(|error| Status::data_loss(format!("{}: {error}", path.display())))?.len();
    if i64::try_from(length) != Ok(row.bytes) {
        let problem = format!("{} has {length} bytes, {} were saved", row.file, row.bytes);
        return Err(damaged(service, row, problem).await);
    }
    let service = service.clone();
    Ok(Response::new(answers(service.reader_max, caller, |to| async move {
        let mut hash = Sha256::new();
        loop {
            let mut data = vec![0; CHUNK_BYTES];
            let read = file.read(&mut data).await;
            let read = read.map_err(|error| Status::data_loss(format!("{}: {error}", path.display())))?;
            data.truncate(read);
            hash.update(&data);
            if read == 0 {
                break;
            }
            if !to.tell(wire::Chunk { data: data.into() }).await {
                return Ok(());
            }
        }
        let found = hex::encode(hash.finalize());
        if found == row.sha256 {
            return Ok(());
        }
        let problem = format!("{} has the SHA-256 {found}, {} was saved", row.file, row.sha256);
        Err(damaged(&service, row, problem).await)
    })))
}

/// When it returns, nobody is sent there any more.
async fn damaged(service: &Service, row: CheckpointRow, problem: String) -> Status {
    let text = format!("{problem}: it is damaged, and set aside");
    match service.ask(|reply| Input::Damaged { row: Box::new(row), problem, reply }).await {
        Ok(Ok(())) => Status::data_loss(text),
        Ok(Err(status)) | Err(status) => status,
    }
}

fn cannot_write(error: io::Error) -> Status {
    tracing::error!(%error, "a checkpoint cannot be written");
    Status::unavailable(format!("the checkpoint cannot be written: {error}; is the disk full?"))
}
