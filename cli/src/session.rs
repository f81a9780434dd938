//! Which coordinator: the one that is named, the one that runs on the store, or one in this process.

use crate::arguments::Place;
use crate::exit::{Failure, refused};
use anyhow::Context;
use coordinator::{Config, Coordinator};
use proto::wire::sweeps_client::SweepsClient;
use proto::wire::{InfoRequest, ListRequest, StatusReply, StatusRequest, SweepSummary};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

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
    pub(crate) client: SweepsClient<Channel>,
    /// `http://127.0.0.1:7070`.
    pub(crate) address: String,
    embedded: Option<Embedded>,
}

struct Embedded {
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), coordinator::Error>>,
}

impl Session {
    /// Finds or starts a coordinator and connects to it.
    pub(crate) async fn open(place: &Place, want: Want) -> anyhow::Result<Self> {
        if let Some(address) = &place.coordinator {
            let address = with_scheme(address);
            let client = connect(&address).await.map_err(|error| unreachable(&address, &error))?;
            return Ok(Self { client, address, embedded: None });
        }
        let store = place.store.clone();
        // It waits, in a blocking way, for a coordinator that is just starting.
        if let Some(address) = tokio::task::spawn_blocking(move || coordinator::find_running(&store)).await? {
            let client = connect(&address).await.map_err(|error| unreachable(&address, &error))?;
            return Ok(Self { client, address, embedded: None });
        }
        if want == Want::Read && !place.store.exists() {
            return Err(Failure::new(format!("there is no store {}", place.store.display()))
                .hint("`alpharho run SWEEP.yaml` makes one; --store FILE or --coordinator URL names another")
                .into());
        }
        Self::embed(place).await
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
        let client = connect(&address).await.map_err(|error| unreachable(&address, &error))?;
        Ok(Self { client, address, embedded: Some(Embedded { stop, served }) })
    }

    /// Whether the coordinator lives in this process: nobody else trains for it.
    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Connects anew to the same address, after it was away.
    pub(crate) async fn reconnect(&mut self) -> anyhow::Result<()> {
        self.client = connect(&self.address).await.map_err(|error| unreachable(&self.address, &error))?;
        Ok(())
    }

    /// Ends the coordinator if it is ours: all that was acknowledged is on disk.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        let Some(Embedded { stop, served }) = self.embedded else { return Ok(()) };
        drop(self.client);
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

/// Adds `http://` where no scheme is given.
fn with_scheme(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
}

/// Connects, and makes sure that a coordinator answers.
pub(crate) async fn connect(address: &str) -> Result<SweepsClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| error.to_string())?;
    // A machine that is gone without a word is noticed.
    let endpoint = endpoint.keep_alive_while_idle(true).http2_keep_alive_interval(KEEP_ALIVE);
    let channel = endpoint.connect_timeout(CONNECT_MAX).connect().await.map_err(|error| cause(&error))?;
    let mut client = SweepsClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    // Something else may listen there.
    let info = tokio::time::timeout(CONNECT_MAX, client.info(InfoRequest {})).await;
    match info {
        Ok(Ok(_)) => Ok(client),
        Ok(Err(status)) if status.code() == tonic::Code::Unavailable => Err(status.message().to_owned()),
        Ok(Err(_)) => Err("what listens there is no coordinator of alpharho".to_owned()),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

/// The innermost cause: `Connection refused (os error 111)`, not `transport error`.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn unreachable(address: &str, why: &str) -> Failure {
    Failure::new(format!("cannot reach a coordinator at {address}: {why}"))
        .hint("start one with `alpharho coordinator`, or leave out --coordinator to use the store of this machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_lack_its_scheme() {
        assert_eq!(with_scheme("10.0.0.5:7070"), "http://10.0.0.5:7070");
        assert_eq!(with_scheme("http://h:1"), "http://h:1");
    }
}
