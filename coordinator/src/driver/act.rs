//! What is done once a batch is on disk.

use super::{Driver, DriverError};
use crate::store::{GrantDetails, Outcome};
use proto::wire;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use sweeps::ids::{SlotId, Token, TrialId};
use sweeps::scheduler::Refusal;
use tokio::sync::oneshot;
use tonic::Status;

/// One act that waits for the disk.
pub(super) enum After {
    /// An answer.
    Reply(Box<dyn FnOnce(&Outcome) + Send>),
    /// To a session's worker.
    Send { session: u64, message: wire::coordinator_message::Body },
    /// A lease, or others who join one.
    Grant { session: u64, slot: SlotId, members: Vec<Token>, joins: bool },
    /// Cut a session off.
    Close { session: u64, status: Status },
}

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reply(_) => f.write_str("Reply"),
            Self::Send { session, message } => write!(f, "Send({session}, {message:?})"),
            Self::Grant { session, slot, members, joins } => {
                write!(f, "Grant({session}, {slot}, {members:?}, joins: {joins})")
            }
            Self::Close { session, status } => write!(f, "Close({session}, {status})"),
        }
    }
}

impl After {
    /// An answer that is known before.
    pub(super) fn reply<T: Send + 'static>(
        reply: oneshot::Sender<Result<T, Status>>,
        result: Result<T, Status>,
    ) -> Self {
        // Who asked may have gone.
        Self::Reply(Box::new(move |_| drop(reply.send(result))))
    }
}

impl Driver {
    /// Carries out what waited for the disk: first what frees room, then what workers and clients wait for.
    pub(super) async fn act(&mut self, outcome: Outcome) -> Result<(), DriverError> {
        if !outcome.files.is_empty() || !outcome.aside.is_empty() {
            let artifacts = Arc::clone(&self.artifacts);
            let (files, aside) = (outcome.files.clone(), outcome.aside.clone());
            let work = move || {
                artifacts.set_aside(&aside);
                artifacts.remove(&files);
            };
            // Waited for: a file of the same name may be sent again as soon as we go on.
            if let Err(error) = tokio::task::spawn_blocking(work).await {
                tracing::warn!(%error, "checkpoints could not be removed");
            }
        }
        let after = std::mem::take(&mut self.after);
        let granted = after.iter().flat_map(|after| match after {
            After::Grant { members, .. } => members.as_slice(),
            _ => &[],
        });
        let granted: Vec<TrialId> = granted.map(|token| token.trial).collect();
        let details = self.store.grant_details(&granted).await?;
        for after in after {
            match after {
                After::Reply(reply) => reply(&outcome),
                After::Send { session, message } => self.send(session, message),
                After::Grant { session, slot, members: tokens, joins } => {
                    let members = self.members(&tokens, &details);
                    if !members.is_empty() {
                        self.note_grant(slot.worker, &tokens);
                        let grant = wire::Grant { slot: slot.index, members, joins };
                        self.send(session, wire::coordinator_message::Body::Grant(grant));
                    }
                }
                After::Close { session, status } => self.close(session, status),
            }
        }
        for (session, sequence) in std::mem::take(&mut self.acks) {
            self.send(session, wire::coordinator_message::Body::Ack(wire::Ack { sequence }));
        }
        for session in std::mem::take(&mut self.ending) {
            self.sessions.remove(&session);
        }
        Ok(())
    }

    /// To a worker, if its session still is. One that does not read is cut off: it comes back, and is told again.
    fn send(&mut self, session: u64, body: wire::coordinator_message::Body) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        let message = wire::CoordinatorMessage { body: Some(body) };
        if known.to_worker.try_send(Ok(message)).is_err() {
            tracing::warn!(worker = %known.worker, "a worker does not read what it is sent; its stream is closed");
            self.sessions.remove(&session);
        }
    }

    fn close(&mut self, session: u64, status: Status) {
        if let Some(mut known) = self.sessions.remove(&session) {
            // Full or closed: the stream ends all the same.
            let _ = known.to_worker.try_send(Err(status));
        }
    }

    /// What a worker must know of those that it is granted.
    fn members(&mut self, tokens: &[Token], details: &BTreeMap<TrialId, GrantDetails>) -> Vec<wire::Member> {
        let mut members = Vec::with_capacity(tokens.len());
        for &token in tokens {
            let exchange = self.exchange(token);
            if token.replica > 0 && exchange.is_none() {
                // Its chief has ended in the same batch; it is told to stop as well.
                continue;
            }
            // It may have been cleared away in the same batch.
            let Some(details) = details.get(&token.trial) else { continue };
            let is_chief = token.replica == 0;
            let mut checkpoints = details.checkpoints.iter().filter(|_| is_chief);
            let resume = checkpoints.find(|row| self.is_there(row)).cloned();
            members.push(wire::Member {
                token: Some(token.into()),
                sweep: details.sweep.clone(),
                trial_json: details.settings_json.clone(),
                resume: resume.map(Into::into),
                threads: details.threads.filter(|_| is_chief).unwrap_or(0),
                exchange,
            });
        }
        members
    }

    /// How a replica meets the others of its trial, if there can be others.
    fn exchange(&self, token: Token) -> Option<wire::Exchange> {
        let record = self.scheduler.trial(token.trial).filter(|record| record.trial.replicas.max > 1)?;
        let chief = match token.replica {
            0 => None,
            _ => Some(self.scheduler.slot_of(token).and(record.chief_address.clone())?),
        };
        Some(wire::Exchange { secret: self.exchange_key.secret(token)?, chief })
    }
}

/// A refusal as a client sees it.
pub(super) fn status_of(refusal: &Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::UnknownSweep(_) | Refusal::UnknownTrial(_) | Refusal::UnknownWorker(_) => Status::not_found(text),
        Refusal::WrongState { .. } => Status::failed_precondition(text),
        Refusal::StaleToken(_) | Refusal::StaleSession(_) => Status::aborted(text),
    }
}
