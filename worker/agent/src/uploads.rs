//! The checkpoints of one lease on their way to the coordinator: one after another, in the order saved, each behind the
//! report of its epoch, again and again while it is away.

use crate::backoff::Backoff;
use crate::metrics::Metrics;
use crate::transfers::{self, Client, DAMAGED_TRIES_MAX, Saved, TransferError};
use crate::unheard::Unheard;
use proto::wire::Token;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// Takes checkpoints and sends them in the background.
pub(crate) struct Uploads {
    commands: mpsc::UnboundedSender<Command>,
}

enum Command {
    Add(Saved),
    Forget(Token),
}

/// A checkpoint need not be waited for any more: it is stored, was overtaken by a newer one, or will never be taken.
#[derive(Debug)]
pub(crate) struct Uploaded {
    pub(crate) token: Token,
    pub(crate) result: Result<(), String>,
}

impl Uploads {
    /// Starts the background task; it ends when this is dropped.
    pub(crate) fn start(
        client: Client,
        unheard: Arc<Unheard>,
        seed: u64,
        metrics: Metrics,
    ) -> (Self, mpsc::UnboundedReceiver<Uploaded>) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (done, results) = mpsc::unbounded_channel();
        tokio::spawn(
            Sender {
                client,
                unheard,
                metrics,
                done,
                backoff: Backoff::new(seed),
                waiting: VecDeque::new(),
                damaged: 0,
            }
            .run(inbox),
        );
        (Self { commands }, results)
    }

    /// One more; answered by one [`Uploaded`].
    pub(crate) fn add(&self, saved: Saved) {
        // The task lives as long as this.
        let _ = self.commands.send(Command::Add(saved));
    }

    /// Nobody wants the checkpoints of that member any more.
    pub(crate) fn forget(&self, token: Token) {
        let _ = self.commands.send(Command::Forget(token));
    }
}

struct Sender {
    client: Client,
    unheard: Arc<Unheard>,
    metrics: Metrics,
    done: mpsc::UnboundedSender<Uploaded>,
    backoff: Backoff,
    waiting: VecDeque<Saved>,
    /// How often the first of them arrived damaged.
    damaged: u32,
}

impl Sender {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let Some(next) = self.waiting.front().cloned() else {
                match inbox.recv().await {
                    Some(command) => self.take(command),
                    None => return,
                }
                continue;
            };
            if self.unheard.has_before(&next) {
                let unheard = Arc::clone(&self.unheard);
                tokio::select! {
                    () = unheard.none_before(&next) => {}
                    command = inbox.recv() => match command {
                        Some(command) => self.take(command),
                        None => return,
                    },
                }
                prune(&mut self.waiting, &self.done);
                continue;
            }
            let begun = Instant::now();
            let client = self.client.clone();
            let transfer = transfers::upload(&client, &next);
            let mut transfer = Box::pin(transfer);
            let result = loop {
                tokio::select! {
                    result = &mut transfer => break Some(result),
                    command = inbox.recv() => match command {
                        Some(Command::Forget(token)) if token == next.token => {
                            forget(&mut self.waiting, &self.done, token);
                            break None;
                        }
                        Some(Command::Forget(token)) => forget(&mut self.waiting, &self.done, token),
                        Some(Command::Add(saved)) => self.waiting.push_back(saved),
                        None => return,
                    },
                }
            };
            drop(transfer);
            if let Some(result) = &result {
                self.count(result, next.bytes, begun);
            }
            match result {
                None => {}
                Some(Ok(())) => {
                    self.backoff.reset();
                    self.damaged = 0;
                    self.waiting.pop_front();
                    settle(&self.done, &next, Ok(()));
                }
                Some(Err(TransferError::Never(why))) => {
                    self.waiting.pop_front();
                    settle(&self.done, &next, Err(why));
                }
                Some(Err(TransferError::Damaged(why))) if self.damaged + 1 >= DAMAGED_TRIES_MAX => {
                    self.damaged = 0;
                    self.waiting.pop_front();
                    settle(&self.done, &next, Err(why));
                }
                Some(Err(error @ (TransferError::TryAgain(_) | TransferError::Damaged(_)))) => {
                    self.damaged += u32::from(matches!(error, TransferError::Damaged(_)));
                    let why = error.to_string();
                    tracing::debug!("the checkpoint of epoch {} waits: {why}", next.epoch);
                    let again_at = tokio::time::Instant::now() + self.backoff.next();
                    while let Ok(command) = tokio::time::timeout_at(again_at, inbox.recv()).await {
                        match command {
                            Some(command) => self.take(command),
                            None => return,
                        }
                    }
                }
            }
            prune(&mut self.waiting, &self.done);
        }
    }

    fn count(&self, result: &Result<(), TransferError>, bytes: u64, begun: Instant) {
        let word = match result {
            Ok(()) => {
                self.metrics.upload_bytes.inc_by(bytes);
                self.metrics.upload_seconds.observe(begun.elapsed().as_secs_f64());
                "stored"
            }
            Err(TransferError::Never(_)) => "refused",
            Err(TransferError::TryAgain(_) | TransferError::Damaged(_)) => "again",
        };
        self.metrics.uploads.with_label_values(&[word]).inc();
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Add(saved) => self.waiting.push_back(saved),
            Command::Forget(token) => forget(&mut self.waiting, &self.done, token),
        }
    }
}

/// Drops what newer ones made needless: of each member only its newest and its newest best are wanted.
fn prune(waiting: &mut VecDeque<Saved>, done: &mpsc::UnboundedSender<Uploaded>) {
    for place in (0..waiting.len()).rev() {
        let overtaken = waiting.get(place).is_some_and(|saved| {
            let newer: Vec<&Saved> =
                waiting.iter().skip(place + 1).filter(|newer| newer.token == saved.token).collect();
            !newer.is_empty() && (!saved.best || newer.iter().any(|newer| newer.best))
        });
        if overtaken && let Some(saved) = waiting.remove(place) {
            settle(done, &saved, Ok(()));
        }
    }
}

fn forget(waiting: &mut VecDeque<Saved>, done: &mpsc::UnboundedSender<Uploaded>, token: Token) {
    waiting.retain(|saved| {
        let unwanted = saved.token == token;
        if unwanted {
            settle(done, saved, Ok(()));
        }
        !unwanted
    });
}

fn settle(done: &mpsc::UnboundedSender<Uploaded>, saved: &Saved, result: Result<(), String>) {
    // A file that cannot be removed goes with the lease's folder; a lease that is gone does not listen.
    let _ = std::fs::remove_file(&saved.path);
    let _ = done.send(Uploaded { token: saved.token, result });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(trial: u64, epoch: u32, best: bool) -> Saved {
        Saved {
            token: Token { trial, attempt: 1, replica: 0, incarnation: 1 },
            path: format!("/nowhere/{trial}-{epoch}").into(),
            epoch,
            step: 0,
            bytes: 0,
            sha256: String::new(),
            best,
        }
    }

    #[test]
    fn only_the_newest_and_the_newest_best_of_each_member_wait() {
        let check = |input: &[(u64, u32, bool)], expected: &[(u64, u32)]| {
            let (done, mut settled) = mpsc::unbounded_channel();
            let mut waiting = input.iter().map(|(trial, epoch, best)| saved(*trial, *epoch, *best)).collect();
            prune(&mut waiting, &done);
            let kept: Vec<(u64, u32)> = waiting.iter().map(|saved| (saved.token.trial, saved.epoch)).collect();
            assert_eq!(kept, expected, "{input:?}");
            let mut dropped = 0;
            while settled.try_recv().is_ok() {
                dropped += 1;
            }
            assert_eq!(dropped + kept.len(), input.len(), "each is answered");
        };
        check(&[], &[]);
        check(&[(7, 1, true)], &[(7, 1)]);
        check(&[(7, 1, true), (7, 2, true)], &[(7, 2)]);
        check(&[(7, 1, true), (7, 2, false), (7, 3, false)], &[(7, 1), (7, 3)]);
        check(&[(7, 1, true), (8, 1, true), (7, 2, true), (8, 2, false)], &[(8, 1), (7, 2), (8, 2)]);
    }
}
