//! One lease: a slot, its members, and the one trainer process that trains them.

pub(crate) mod cohort;
mod training;

use crate::config::{Config, SlotPlan};
use crate::downloads::{Downloads, Fetched};
use crate::hub::Event;
use crate::process::Spawner;
use crate::transfers::Client;
use crate::unheard::Unheard;
use crate::uploads::{Uploaded, Uploads};
use cohort::{Cohort, Why};
use proto::wire::report::Body;
use proto::{link, wire};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::scheduler::{AttemptEnd, StopReason};
use tokio::sync::mpsc;

/// What all leases of an agent use.
pub(crate) struct Tools {
    pub(crate) config: Config,
    pub(crate) spawner: Spawner,
    pub(crate) client: Client,
    pub(crate) unheard: Arc<Unheard>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// From the hub to a lease.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// The coordinator wants a member to stop.
    Stop(Token, StopReason),
    /// The agent leaves: save, stop, give back; after `until` without the uploads.
    Drain { why: String, until: Instant },
    /// The slot was leased anew: nothing of this is wanted.
    Replace,
    /// They are to be trained too, beside the others.
    Join(Vec<Granted>),
}

/// A granted trial, understood.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) member: link::Member,
    pub(crate) resume: Option<wire::Checkpoint>,
}

/// Runs a lease from the grant to the last report; then tells the hub that the slot is free, and who came too late to
/// join.
pub(crate) async fn run(
    tools: Arc<Tools>,
    slot: u32,
    plan: SlotPlan,
    members: Vec<Granted>,
    orders: mpsc::UnboundedReceiver<Order>,
) {
    let name = members.first().map_or_else(String::new, |first| {
        let token = first.member.token;
        let replica = if token.replica > 0 { format!("-replica-{}", token.replica) } else { String::new() };
        format!("slot-{slot}/trial-{}-attempt-{}{replica}", token.trial, token.attempt)
    });
    let seed = members.first().map_or(0, |first| first.member.token.trial.0);
    let seed = seed ^ tools.config.worker.0;
    let (uploads, uploaded) =
        Uploads::start(tools.client.clone(), Arc::clone(&tools.unheard), seed, tools.config.metrics.clone());
    let folder = tools.config.folder.join(name);
    let events = tools.events.clone();
    let (downloads, fetched) = Downloads::start(tools.client.clone(), seed);
    let cohort = Cohort::new(members);
    let mut lease = Lease {
        tools,
        slot,
        device: plan.device,
        threads: plan.threads,
        cohort,
        orders,
        uploads,
        uploaded,
        downloads,
        fetched,
        folder,
        leave_at: None,
    };
    while !lease.cohort.is_over() {
        lease.prepare().await;
        if lease.cohort.live().next().is_some() {
            lease.train().await;
        }
        lease.finish().await;
    }
    let late = lease.close();
    // What is left of it is scratch; the agent removes the whole when it leaves.
    let _ = tokio::fs::remove_dir_all(&lease.folder).await;
    drop(lease);
    // The hub lives as long as its leases, or the process ends.
    let _ = events.send(Event::Released { slot, late }).await;
}

struct Lease {
    tools: Arc<Tools>,
    slot: u32,
    device: String,
    threads: u32,
    cohort: Cohort,
    orders: mpsc::UnboundedReceiver<Order>,
    uploads: Uploads,
    uploaded: mpsc::UnboundedReceiver<Uploaded>,
    downloads: Downloads,
    fetched: mpsc::UnboundedReceiver<Fetched>,
    folder: PathBuf,
    /// When the agent leaves with or without the uploads.
    leave_at: Option<Instant>,
}

impl Lease {
    /// Makes the folder and waits for the checkpoints to go on from.
    async fn prepare(&mut self) {
        while let Err(error) = tokio::fs::create_dir_all(&self.folder).await {
            let reason = format!("the folder {} cannot be made: {error}", self.folder.display());
            if !link::is_full(&error) {
                self.end_all(&AttemptEnd::Crashed { reason });
                break;
            }
            tracing::warn!("{reason}; it is tried again until there is room");
            if let Ok(Some(order)) = tokio::time::timeout(link::FULL_PAUSE, self.orders.recv()).await {
                self.obey(order);
            }
            if self.cohort.live().next().is_none() {
                break;
            }
        }
        // The trainer may change its working folder.
        if let Ok(folder) = self.folder.canonicalize() {
            self.folder = folder;
        }
        loop {
            self.fetch();
            if !self.cohort.is_fetching() {
                break;
            }
            tokio::select! {
                Some(fetched) = self.fetched.recv() => self.fetched(fetched).await,
                Some(order) = self.orders.recv() => {
                    self.obey(order);
                }
                Some(uploaded) = self.uploaded.recv() => self.uploaded(uploaded).await,
            }
        }
        self.report_ends().await;
    }

    /// Asks for the checkpoints of those that have come.
    fn fetch(&mut self) {
        for (token, checkpoint) in self.cohort.fetch() {
            let path = self.folder.join(format!("resume-{}-attempt-{}", token.trial, token.attempt));
            self.downloads.add(token, checkpoint, path);
        }
    }

    async fn fetched(&mut self, fetched: Fetched) {
        let Fetched { token, result } = fetched;
        match result {
            Ok(path) => self.cohort.fetched(token, path),
            Err(reason) => {
                self.log(token, vec![reason.clone()]).await;
                // No fault of the trial: it goes on from an older one, which the coordinator will name.
                self.cohort.ended(token, AttemptEnd::Lost { reason }, Instant::now());
            }
        }
    }

    /// Takes no more orders. Gives back those that came too late to join, whoever asked them to stop.
    fn close(&mut self) -> Vec<Granted> {
        self.orders.close();
        let mut late = Vec::new();
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Join(members) => late.extend(members),
                // The hub remembers whom it asked to stop.
                Order::Stop(..) | Order::Drain { .. } | Order::Replace => {}
            }
        }
        late
    }

    /// Waits for the uploads, reports what is left to report; or until somebody joins.
    async fn finish(&mut self) {
        loop {
            self.report_ends().await;
            if self.cohort.is_over() || self.cohort.live().next().is_some() {
                return;
            }
            let leave_at = self.leave_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                Some(order) = self.orders.recv() => {
                    self.obey(order);
                }
                Some(uploaded) = self.uploaded.recv() => self.uploaded(uploaded).await,
                () = tokio::time::sleep_until(leave_at.into()) => {
                    if self.leave_at.is_some() {
                        self.cohort.give_up_uploads();
                    }
                }
            }
        }
    }

    /// Takes an order. Returns what the trainer is to be told.
    fn obey(&mut self, order: Order) -> Vec<(Token, StopReason)> {
        let now = Instant::now();
        let tokens: Vec<Token> = self.cohort.members().iter().map(|member| member.order.token).collect();
        let (tokens, why) = match order {
            Order::Stop(token, reason) => (vec![token], Why::Asked(reason)),
            Order::Join(members) => {
                self.cohort.join(members);
                return Vec::new();
            }
            Order::Replace => (tokens, Why::Asked(StopReason::Superseded)),
            Order::Drain { why, until } => {
                self.leave_at = Some(until);
                (tokens, Why::Drain(why))
            }
        };
        let mut tell = Vec::new();
        for token in tokens {
            if matches!(why.reason(), StopReason::Cancel | StopReason::Superseded) {
                self.uploads.forget(token.into());
            }
            self.downloads.forget(token);
            tell.extend(self.cohort.stop(token, why.clone(), now).map(|reason| (token, reason)));
        }
        tell
    }

    async fn uploaded(&mut self, uploaded: Uploaded) {
        let Ok(token) = proto::convert::token(Some(uploaded.token)) else { return };
        if let Err(why) = &uploaded.result {
            self.log(token, vec![format!("a checkpoint was not taken by the coordinator: {why}")]).await;
        }
        self.cohort.upload_ended(token, uploaded.result);
    }

    fn end_all(&mut self, end: &AttemptEnd) {
        let tokens: Vec<Token> = self.cohort.live().map(|member| member.order.token).collect();
        for token in tokens {
            self.cohort.ended(token, end.clone(), Instant::now());
        }
    }

    async fn report_ends(&mut self) {
        for (token, end) in self.cohort.reports() {
            let end_json = proto::convert::to_json(&end);
            self.report(token, Body::Ended(wire::Ended { end_json })).await;
        }
    }

    async fn log(&self, token: Token, lines: Vec<String>) {
        self.report(token, Body::Log(wire::LogLines { lines })).await;
    }

    async fn report(&self, token: Token, body: Body) {
        let report = wire::Report { token: Some(token.into()), body: Some(body) };
        // The hub lives as long as its leases, or the process ends.
        let _ = self.tools.events.send(Event::Report { slot: self.slot, report }).await;
    }
}
