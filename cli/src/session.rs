//! Which coordinator: the one that is named, the one that runs on the store, or one in this process.

use crate::arguments::Place;
use crate::exit::{Failure, refused};
use access::{AddressError, Connection, Credentials};
use anyhow::Context;
use coordinator::{Config, Coordinator};
use proto::wire::sweeps_client::SweepsClient;
use proto::wire::tokens_client::TokensClient;
use proto::wire::{InfoRequest, ListRequest, StatusReply, StatusRequest, SweepSummary};
use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A status of 100,000 trials is larger than gRPC's usual limit.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
const CONNECT_MAX: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Of a coordinator in this process: its workers are on this machine, and after a crash the next run should not
/// have to wait long for their leases to end.
const HEARTBEAT_MS: u64 = 2_000;

/// What a command will do with the store, where it must open it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Look: a store must be there.
    Read,
    /// Add: a store is made if need be.
    Write,
}

/// A connection, and the coordinator behind it if that is ours.
pub(crate) struct Session {
    /// Asks.
    pub(crate) client: SweepsClient<Connection>,
    /// Who may ask.
    pub(crate) tokens: TokensClient<Connection>,
    /// Where it is, and what is shown there.
    pub(crate) way: Way,
    embedded: Option<Embedded>,
}

/// Where a coordinator is, and the folder of what it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// `http://127.0.0.1:7070`.
    pub(crate) address: String,
    /// Read anew for each connection: a token may have been rotated.
    pub(crate) credentials: Option<PathBuf>,
    /// How long an answer may take to begin.
    pub(crate) timeout: Duration,
}

struct Embedded {
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), coordinator::Error>>,
}

impl Session {
    /// Finds or starts a coordinator and connects to it.
    pub(crate) async fn open(place: &Place, want: Want) -> anyhow::Result<Self> {
        if let Some(address) = &place.coordinator {
            let address = with_scheme(address, place.credentials.is_some());
            return Self::to(Way::of(place, address), None).await;
        }
        let store = place.store.clone();
        // It waits, in a blocking way, for a coordinator that is just starting.
        if let Some(address) = tokio::task::spawn_blocking(move || coordinator::find_running(&store)).await? {
            return Self::to(Way::of(place, address), None).await;
        }
        if want == Want::Read && !place.store.exists() {
            return Err(Failure::new(format!("there is no store {}", place.store.display()))
                .hint("`alpharho run SWEEP.yaml` makes one; --store FILE or --coordinator URL names another")
                .into());
        }
        Self::embed(place).await
    }

    async fn to(way: Way, embedded: Option<Embedded>) -> anyhow::Result<Self> {
        let (client, tokens) = way.clients().await.map_err(|error| unreachable(&way.address, error))?;
        Ok(Self { client, tokens, way, embedded })
    }

    async fn embed(place: &Place) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on 127.0.0.1")?;
        let mut config = Config::new(&place.store, place.artifacts_folder());
        config.heartbeat_ms = HEARTBEAT_MS;
        let coordinator = Coordinator::open(config, listener).await?;
        let address = coordinator.address().to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(coordinator.serve(async move {
            // A dropped sender means the same.
            let _ = stopped.await;
        }));
        Self::to(Way { credentials: None, ..Way::of(place, address) }, Some(Embedded { stop, served })).await
    }

    /// Whether the coordinator lives in this process: nobody else trains for it.
    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Connects anew to the same address, after it was away.
    pub(crate) async fn reconnect(&mut self) -> anyhow::Result<()> {
        let clients = self.way.clients().await;
        (self.client, self.tokens) = clients.map_err(|error| unreachable(&self.way.address, error))?;
        Ok(())
    }

    /// Ends the coordinator if it is ours: all that was acknowledged is on disk.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let Some(Embedded { stop, served }) = self.embedded else { return Ok(()) };
        drop((self.client, self.tokens));
        // It may have ended by itself.
        let _ = stop.send(());
        served.await??;
        Ok(())
    }

    /// A sweep with its trials.
    pub(crate) async fn status(&mut self, sweep: &str) -> anyhow::Result<StatusReply> {
        let request = StatusRequest { sweep: sweep.to_owned(), metrics: Vec::new(), metrics_last: Vec::new() };
        Ok(self.client.status(request).await.map_err(|status| refused(&status))?.into_inner())
    }

    /// All sweeps.
    pub(crate) async fn list(&mut self) -> anyhow::Result<Vec<SweepSummary>> {
        Ok(self.client.list(ListRequest {}).await.map_err(|status| refused(&status))?.into_inner().sweeps)
    }

    /// The sweep that is meant: the named one, else the newest.
    pub(crate) async fn sweep_name(&mut self, named: Option<&str>) -> anyhow::Result<String> {
        if let Some(name) = named {
            return Ok(name.to_owned());
        }
        let sweeps = self.list().await?;
        let newest = sweeps.iter().max_by(|a, b| a.submitted_ms.cmp(&b.submitted_ms).then(b.name.cmp(&a.name)));
        match newest {
            Some(sweep) => Ok(sweep.name.clone()),
            None => Err(Failure::new("no sweep was submitted to this store yet")
                .hint("`alpharho run SWEEP.yaml` or `alpharho submit SWEEP.yaml` does")
                .into()),
        }
    }

    /// The id of a sweep's trial.
    pub(crate) async fn trial_id(&mut self, sweep: &str, number: u32) -> anyhow::Result<u64> {
        let status = self.status(sweep).await?;
        let found = status.trials.iter().find(|trial| trial.number == number);
        match found {
            Some(trial) => Ok(trial.id),
            None => Err(Failure::new(format!(
                "sweep {sweep} has no trial {number}; it has trials 1 to {}",
                status.trials.iter().map(|trial| trial.number).max().unwrap_or(0)
            ))
            .into()),
        }
    }
}

/// Why a coordinator cannot be asked.
pub(crate) enum Closed {
    /// Nobody is there, or somebody else.
    Away(String),
    /// It does not take what it was shown, or nothing can be shown.
    Barred(String),
}

impl Way {
    fn of(place: &Place, address: String) -> Self {
        Self { address, credentials: place.credentials.clone(), timeout: Duration::from_secs(place.timeout) }
    }

    /// Connects, and makes sure that a coordinator answers.
    pub(crate) async fn client(&self) -> Result<SweepsClient<Connection>, Closed> {
        Ok(self.clients().await?.0)
    }

    async fn clients(&self) -> Result<(SweepsClient<Connection>, TokensClient<Connection>), Closed> {
        let shown = self.credentials.as_deref().map(Credentials::read).transpose();
        let shown = shown.map_err(|error| Closed::Barred(error.to_string()))?;
        let (endpoint, bearer) = access::endpoint(&self.address, shown.as_ref()).map_err(|error| match error {
            AddressError::Address { .. } => Closed::Away(error.to_string()),
            error => Closed::Barred(error.to_string()),
        })?;
        let explain = |error: &(dyn std::error::Error + 'static)| access::explain(error, self.credentials.as_deref());
        // A machine that is gone without a word is noticed.
        let endpoint = endpoint.keep_alive_while_idle(true).http2_keep_alive_interval(KEEP_ALIVE);
        let channel = endpoint.connect_timeout(CONNECT_MAX).timeout(self.timeout).connect().await;
        let channel = bearer.on(channel.map_err(|error| Closed::Away(explain(&error)))?);
        let mut client = SweepsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        // Something else may listen there.
        match tokio::time::timeout(CONNECT_MAX, client.info(InfoRequest {})).await {
            Ok(Ok(_)) => Ok((client, TokensClient::new(channel))),
            Ok(Err(status)) => Err(match status.code() {
                tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => {
                    Closed::Barred(status.message().to_owned())
                }
                tonic::Code::Unavailable if status.source().is_none() => Closed::Away(status.message().to_owned()),
                // With TLS, a certificate is refused once the connection is there.
                _ if self.address.starts_with("https") && status.source().is_some() => Closed::Away(explain(&status)),
                tonic::Code::Unavailable => Closed::Away(status.message().to_owned()),
                _ => Closed::Away(NOT_OURS.to_owned()),
            }),
            Err(_) => Err(Closed::Away("it does not answer".to_owned())),
        }
    }
}

const NOT_OURS: &str = "what listens there is no coordinator of alpharho, or one that listens with TLS: then its address \
    begins with https://, and credentials are wanted";

/// Adds `http://` where no scheme is given, or `https://` where there is something to show.
fn with_scheme(address: &str, is_shown: bool) -> String {
    let scheme = if is_shown { "https" } else { "http" };
    if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") }
}

fn unreachable(address: &str, closed: Closed) -> Failure {
    match closed {
        Closed::Away(why) => Failure::new(format!("cannot reach a coordinator at {address}: {why}"))
            .hint("start one with `alpharho coordinator`, or leave out --coordinator to use the store of this machine"),
        Closed::Barred(why) => Failure::new(format!("the coordinator at {address} cannot be asked: {why}"))
            .hint("--credentials DIR, or ALPHARHO_CREDENTIALS, names the folder of certificate and token"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_its_scheme() {
        for (address, is_shown, expected) in [
            ("10.0.0.5:7070", false, "http://10.0.0.5:7070"),
            ("10.0.0.5:7070", true, "https://10.0.0.5:7070"),
            ("http://h:1", true, "http://h:1"),
        ] {
            assert_eq!(with_scheme(address, is_shown), expected);
        }
    }
}
