//! The checkpoints that the members of a lease go on from, on their way here: one after another, again and again while
//! the coordinator is away.

use crate::backoff::Backoff;
use crate::transfers::{self, Client, DAMAGED_TRIES_MAX, TransferError};
use proto::wire;
use std::collections::VecDeque;
use std::path::PathBuf;
use sweeps::ids::Token;
use tokio::sync::mpsc;

/// Fetches checkpoints in the background.
pub(crate) struct Downloads {
    commands: mpsc::UnboundedSender<Command>,
}

enum Command {
    Add(Wanted),
    Forget(Token),
}

struct Wanted {
    token: Token,
    checkpoint: wire::Checkpoint,
    path: PathBuf,
}

/// A checkpoint is there, or will never be.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) token: Token,
    /// Where.
    pub(crate) result: Result<PathBuf, String>,
}

impl Downloads {
    /// Starts the background task; it ends when this is dropped.
    pub(crate) fn start(client: Client, seed: u64) -> (Self, mpsc::UnboundedReceiver<Fetched>) {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (done, results) = mpsc::unbounded_channel();
        let fetcher = Fetcher { client, done, backoff: Backoff::new(seed), waiting: VecDeque::new() };
        tokio::spawn(fetcher.run(inbox));
        (Self { commands }, results)
    }

    /// One more; answered by one [`Fetched`], unless it is forgotten.
    pub(crate) fn add(&self, token: Token, checkpoint: wire::Checkpoint, path: PathBuf) {
        // The task lives as long as this.
        let _ = self.commands.send(Command::Add(Wanted { token, checkpoint, path }));
    }

    /// That member is not to be trained any more.
    pub(crate) fn forget(&self, token: Token) {
        let _ = self.commands.send(Command::Forget(token));
    }
}

struct Fetcher {
    client: Client,
    done: mpsc::UnboundedSender<Fetched>,
    backoff: Backoff,
    waiting: VecDeque<Wanted>,
}

impl Fetcher {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let Some(next) = self.waiting.pop_front() else {
                match inbox.recv().await {
                    Some(command) => self.take(command),
                    None => return,
                }
                continue;
            };
            let token = next.token;
            let result = {
                let client = self.client.clone();
                let fetch = fetch(&client, &next, &mut self.backoff);
                tokio::pin!(fetch);
                loop {
                    tokio::select! {
                        result = &mut fetch => break Some(result),
                        command = inbox.recv() => match command {
                            Some(Command::Forget(unwanted)) if unwanted == token => break None,
                            Some(Command::Forget(unwanted)) => self.waiting.retain(|wanted| wanted.token != unwanted),
                            Some(Command::Add(wanted)) => self.waiting.push_back(wanted),
                            None => return,
                        },
                    }
                }
            };
            if let Some(result) = result {
                self.backoff.reset();
                // A lease that is gone does not listen.
                let _ = self.done.send(Fetched { token, result: result.map(|()| next.path) });
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Add(wanted) => self.waiting.push_back(wanted),
            Command::Forget(token) => self.waiting.retain(|wanted| wanted.token != token),
        }
    }
}

/// Until it is there or known never to come.
async fn fetch(client: &Client, wanted: &Wanted, backoff: &mut Backoff) -> Result<(), String> {
    let id = wanted.checkpoint.id;
    let (mut damaged, mut told) = (0, false);
    loop {
        match transfers::download(client, &wanted.checkpoint, &wanted.path).await {
            Ok(()) => return Ok(()),
            Err(TransferError::Never(why)) => return Err(why),
            Err(TransferError::Damaged(why)) => {
                damaged += 1;
                if damaged >= DAMAGED_TRIES_MAX {
                    return Err(why);
                }
            }
            Err(TransferError::TryAgain(why)) if !told => {
                told = true;
                tracing::warn!("checkpoint {id} is fetched again until it is there: {why}");
            }
            Err(TransferError::TryAgain(why)) => tracing::debug!("checkpoint {id} waits: {why}"),
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
