//! The stream to the coordinator: opened again and again, for ever.

use crate::backoff::Backoff;
use crate::config::Config;
use crate::hub::Event;
use crate::outbox::WINDOW;
use access::{AddressError, Bearer};
use proto::wire;
use proto::wire::coordinator_message::Body;
use proto::wire::workers_client::WorkersClient;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

/// How connections to the coordinator are made, and what its calls show.
pub(crate) fn endpoint(config: &Config) -> Result<(Endpoint, Bearer), AddressError> {
    let (endpoint, bearer) = access::endpoint(&config.coordinator, config.credentials.as_ref())?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    Ok((endpoint, bearer))
}

/// Opens a session, and another one whenever it ends. The hub is told of each and of all that it brings.
pub(crate) async fn keep(
    endpoint: Endpoint,
    bearer: Bearer,
    credentials: Option<PathBuf>,
    patience: Duration,
    seed: u64,
    events: mpsc::Sender<Event>,
) {
    let mut backoff = Backoff::new(seed);
    loop {
        let why = match session(&endpoint, &bearer, patience, &events, &mut backoff).await {
            Ok(()) => "the coordinator closed the stream".to_owned(),
            Err(Gone::Hub) => return,
            Err(Gone::Coordinator(why)) => why,
            Err(Gone::Unreached(error)) => access::explain(&error, credentials.as_deref()),
            Err(Gone::Refused(status)) => match status.source() {
                Some(_) if credentials.is_some() => access::explain(&status, credentials.as_deref()),
                Some(_) | None => format!("{}: {}", status.code(), status.message()),
            },
        };
        // It may have been rotated.
        bearer.refresh();
        if events.send(Event::Closed { why }).await.is_err() {
            return;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

enum Gone {
    Hub,
    Coordinator(String),
    Unreached(tonic::transport::Error),
    Refused(Box<tonic::Status>),
}

impl From<tonic::Status> for Gone {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

async fn session(
    endpoint: &Endpoint,
    bearer: &Bearer,
    mut patience: Duration,
    events: &mpsc::Sender<Event>,
    backoff: &mut Backoff,
) -> Result<(), Gone> {
    let channel = endpoint.connect().await.map_err(Gone::Unreached)?;
    let mut client = WorkersClient::new(bearer.on(channel));
    // Twice the window: heartbeats need room too.
    let (outgoing, messages) = mpsc::channel(2 * WINDOW);
    // The registration must be under way before the call is answered.
    events.send(Event::Connected { outgoing }).await.map_err(|_| Gone::Hub)?;
    let late = |_| Gone::Coordinator("the coordinator does not answer".to_owned());
    let call = client.session(ReceiverStream::new(messages));
    let mut incoming = tokio::time::timeout(patience, call).await.map_err(late)??.into_inner();
    let mut next = tokio::time::timeout(patience, incoming.message()).await.map_err(late)??;
    while let Some(wire::CoordinatorMessage { body }) = next {
        if let Some(body) = body {
            if let Body::Registered(registered) = &body {
                backoff.reset();
                backoff.fit_lease(registered.lease_ms);
                patience = patience.max(Duration::from_millis(registered.lease_ms));
            }
            events.send(Event::Told(body)).await.map_err(|_| Gone::Hub)?;
        }
        // Each heartbeat is acknowledged. A connection may live on while nothing comes through: by then our leases are
        // over there, and another session says what goes on here.
        let silent = |_| Gone::Coordinator("nothing was heard from the coordinator for a whole lease".to_owned());
        next = tokio::time::timeout(patience, incoming.message()).await.map_err(silent)??;
    }
    Ok(())
}
