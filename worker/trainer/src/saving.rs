//! Checkpoints of a cohort's members.

use crate::checkpoint;
use crate::member::Member;
use crate::speech::Speech;
use anyhow::{Error, Result};
use proto::link::{self, Said};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use sweeps::ids::Token;

/// Checkpoints that are written at a time.
const AT_A_TIME: usize = 3;

/// Saves those members that are named, and says whether it is their best epoch. Several at a time: one is hashed while
/// another one's file is on its way to the disk. Gives what went wrong.
pub(crate) fn save_each(
    members: &mut [Member],
    due: &BTreeMap<Token, bool>,
    folder: &Path,
    speech: &Speech,
) -> BTreeMap<Token, Error> {
    let queue = Mutex::new(members.iter_mut());
    let failed = Mutex::new(BTreeMap::new());
    let save_all = || {
        loop {
            let Some(member) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
            let Some(best) = due.get(&member.token) else { continue };
            if let Err(error) = member.lane().run(|| save(member, folder, *best, speech)).flatten() {
                failed.lock().unwrap_or_else(PoisonError::into_inner).insert(member.token, error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..AT_A_TIME.min(due.len()) {
            scope.spawn(save_all);
        }
        save_all();
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a member's checkpoint, and says where.
///
/// # Errors
/// When the file cannot be written; where there is no room, that is waited for.
pub(crate) fn save(member: &mut Member, folder: &Path, best: bool, speech: &Speech) -> Result<()> {
    let Member { token, progress, .. } = member;
    let name = format!("trial-{}-attempt-{}-step-{}.safetensors", token.trial, token.attempt, progress.step);
    let path = folder.join(name);
    let saved = speech.alive_while(|| save_when_there_is_room(member, &path, speech))?;
    speech.say(&Said::CheckpointSaved {
        token: member.token,
        path,
        epoch: member.progress.epochs_done,
        step: member.progress.step,
        bytes: saved.bytes,
        sha256: saved.sha256,
        best,
    });
    Ok(())
}

/// A full disk is waited for: nothing is lost, and the trial is not to blame.
fn save_when_there_is_room(member: &Member, path: &Path, speech: &Speech) -> Result<checkpoint::Saved> {
    let mut told = false;
    loop {
        let error = match checkpoint::save(path, &member.model, &member.trial, &member.progress) {
            Ok(saved) => return Ok(saved),
            Err(error) => error,
        };
        if !error.chain().filter_map(|cause| cause.downcast_ref()).any(link::is_full) {
            return Err(error);
        }
        if !told {
            let text = format!("the disk is full, and training waits until there is room: {error:#}");
            speech.say(&Said::Log { token: Some(member.token), text });
            told = true;
        }
        std::thread::sleep(link::FULL_PAUSE);
    }
}
