//! `alpharho coordinator`.

use crate::arguments::{Coordinator as Arguments, Place};
use crate::exit::{End, Failure};
use crate::output;
use anyhow::Context;
use coordinator::{Config, Coordinator};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

pub(super) async fn serve(place: &Place, arguments: &Arguments) -> anyhow::Result<End> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(&arguments.listen).await.map_err(|error| {
        Failure::new(format!("cannot listen on {}: {error}", arguments.listen))
            .hint("--listen 127.0.0.1:0 takes any free port")
    })?;
    let config = Config {
        store: place.store.clone(),
        artifacts: place.artifacts_folder(),
        heartbeat_ms: arguments.heartbeat_ms,
    };
    let coordinator = Coordinator::open(config, listener).await?;
    let address = coordinator.address();
    if place.json {
        output::json_line(&json!({"address": address, "store": place.store, "artifacts": place.artifacts_folder()}))?;
    } else {
        output::line(&format!("listening on {address}, store {}", place.store.display()))?;
        output::line(&format!("workers attach with: alpharho-worker --coordinator {address}"))?;
    }
    coordinator
        .serve(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await
        .context("the coordinator ended")?;
    Ok(End::Done)
}
