//! Tokens come and go, and workers are somebody's.
#![allow(clippy::result_large_err, reason = "tonic's own error type")]

use super::act::After;
use super::input::{NewToken, Reply};
use super::{Driver, workers::TOKENS_MAX};
use crate::clock::unix_ms;
use crate::store::Write;
use crate::tokens::Tokens;
use proto::wire;
use std::collections::BTreeMap;
use std::sync::Arc;
use sweeps::ids::{Token, TrialId, WorkerId};
use tonic::Status;

/// Tokens that a store has at most.
const ACCESS_TOKENS_MAX: usize = 100_000;

impl Driver {
    pub(super) fn put_token(&mut self, new: NewToken, reply: Reply<wire::TokenStatus>) {
        let result = self.add_token(new);
        self.publish(reply, result);
    }

    fn add_token(&mut self, new: NewToken) -> Result<wire::TokenStatus, Status> {
        let NewToken { mut row, keeps_role, replaced_after_ms } = new;
        let now_ms = unix_ms();
        let name = row.name.clone();
        let before: Vec<_> = self.tokens.of(&name).filter(|row| row.is_good(now_ms)).cloned().collect();
        let newest = before.iter().max_by_key(|row| row.created_ms);
        match (newest, replaced_after_ms) {
            (Some(_), None) => {
                return Err(Status::already_exists(format!(
                    "{name} has a token; `alpharho tokens rotate {name}` makes another in its place"
                )));
            }
            (None, Some(_)) => return Err(no_token(&name)),
            (Some(newest), Some(_)) if keeps_role => row.role = newest.role,
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.tokens.0.contains_key(&row.id) || self.tokens.0.len() >= ACCESS_TOKENS_MAX {
            return Err(Status::resource_exhausted("no more tokens can be kept, or one of that id is; try again"));
        }
        let mut tokens = BTreeMap::clone(&self.tokens.0);
        if let Some(after_ms) = replaced_after_ms {
            let ends_ms = now_ms.saturating_add(i64::try_from(after_ms).unwrap_or(i64::MAX));
            for old in &before {
                // One that ends sooner anyway does not live longer for it.
                let ends_ms = old.ends_ms.map_or(ends_ms, |already_ms| already_ms.min(ends_ms));
                self.pending.writes.push(Write::TokenEnds { id: old.id.clone(), ends_ms });
                if let Some(row) = tokens.get_mut(&old.id) {
                    row.ends_ms = Some(ends_ms);
                }
            }
        }
        tracing::info!(name, role = row.role.word(), id = row.id, "a token was made");
        let status = row.status();
        self.pending.writes.push(Write::Token(Box::new(row.clone())));
        tokens.insert(row.id.clone(), row);
        self.tokens = Tokens(Arc::new(tokens));
        Ok(status)
    }

    pub(super) fn revoke_tokens(&mut self, name: &str, reply: Reply<u32>) {
        let count = self.tokens.of(name).count();
        let result = if count == 0 { Err(no_token(name)) } else { Ok(u32::try_from(count).unwrap_or(u32::MAX)) };
        if result.is_ok() {
            tracing::info!(name, count, "tokens were revoked");
            let left = self.tokens.0.iter().filter(|(_, row)| row.name != name);
            self.tokens = Tokens(Arc::new(left.map(|(id, row)| (id.clone(), row.clone())).collect()));
            self.pending.writes.push(Write::TokensRevoked { name: name.to_owned() });
        }
        self.publish(reply, result);
    }

    /// Once it is on disk, those at the door go by what there is now; then who asked is answered.
    fn publish<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T, Status>) {
        let (door, tokens) = (Arc::clone(&self.tokens_shown), self.tokens.clone());
        self.after.push(After::Reply(Box::new(move |_| {
            door.send_replace(tokens);
            // Who asked may have gone.
            drop(reply.send(result));
        })));
    }

    /// Whether somebody of that name may speak for a worker; the first one owns it. `None`: nobody is asked for names.
    pub(super) fn claim(&mut self, worker: WorkerId, name: Option<&str>) -> Result<(), Status> {
        let Some(name) = name else { return Ok(()) };
        match self.owners.get(&worker) {
            Some(owner) if owner != name => {
                tracing::warn!(%worker, name, "a worker of somebody else was to be registered");
                Err(Status::permission_denied(format!("worker {worker} is not {name}'s")))
            }
            Some(_) | None => {
                self.owners.insert(worker, name.to_owned());
                let (name, at_ms) = (name.to_owned(), unix_ms());
                self.pending.writes.push(Write::WorkerOwner { worker, name, at_ms });
                Ok(())
            }
        }
    }

    /// The sweep of a lease, if a checkpoint of it would be taken from somebody of that name.
    pub(super) fn may_upload(&self, token: Token, name: Option<&str>) -> Result<String, Status> {
        let slot = self.chief_slot(token);
        let record = slot.and_then(|_| self.scheduler.trial(token.trial));
        let (Some(slot), Some(record)) = (slot, record) else {
            let text = format!("{token} is not current any more: its checkpoint is not wanted");
            return Err(Status::failed_precondition(text));
        };
        if !self.owns(slot.worker, name) {
            return Err(Status::permission_denied(format!("{token} is not a lease of a worker of yours")));
        }
        Ok(record.sweep.clone())
    }

    /// Whether somebody of that name has a worker that trains the trial.
    pub(super) fn may_download(&self, trial: TrialId, name: Option<&str>) -> bool {
        name.is_none()
            || self.scheduler.workers().any(|worker| {
                worker.slots.iter().any(|slot| slot.trials.contains(&trial)) && self.owns(worker.worker, name)
            })
    }

    fn owns(&self, worker: WorkerId, name: Option<&str>) -> bool {
        name.is_none_or(|name| self.owners.get(&worker).is_some_and(|owner| owner == name))
    }

    /// Last words of an attempt are taken from the worker that had it.
    pub(super) fn may_log(&self, worker: WorkerId, token: Token) -> bool {
        !self.is_guarded
            || self.scheduler.slot_of(token).is_some_and(|slot| slot.worker == worker)
            || self.granted.get(&token) == Some(&worker)
    }

    /// Remembers whose a lease is, for when it is over. The lowest, of the oldest trials, are forgotten first.
    pub(super) fn note_grant(&mut self, worker: WorkerId, tokens: &[Token]) {
        self.granted.extend(tokens.iter().map(|token| (*token, worker)));
        while self.granted.len() > TOKENS_MAX {
            self.granted.pop_first();
        }
    }
}

fn no_token(name: &str) -> Status {
    Status::not_found(format!("there is no token of {name}; `alpharho tokens list` shows all"))
}
