//! `alpharho coordinator`.

use crate::arguments::{Coordinator as Arguments, Place};
use crate::exit::{End, Failure};
use crate::output;
use access::Credentials;
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
    let metrics = match &arguments.metrics_listen {
        Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
            Failure::new(format!("cannot listen for metrics on {address}: {error}"))
                .hint("--metrics-listen 127.0.0.1:0 takes any free port")
        })?),
        None => None,
    };
    if let Some(listener) = &metrics {
        telemetry::http::check_public(listener.local_addr()?, arguments.metrics_public)
            .map_err(|not| Failure::new(not.to_string()))?;
    }
    let listening = listener.local_addr()?;
    let config = Config {
        heartbeat_ms: arguments.heartbeat_ms,
        credentials: place.credentials.as_deref().map(Credentials::read).transpose()?,
        disk_reserve_bytes: arguments.disk_reserve_mib.map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
        ..Config::new(&place.store, place.artifacts_folder())
    };
    let coordinator = Coordinator::open(config, listener).await?;
    let address = coordinator.address();
    let metrics_address = match &metrics {
        Some(listener) => Some(format!("http://{}/metrics", listener.local_addr()?)),
        None => None,
    };
    if place.json {
        output::json_line(&json!({
            "address": address,
            "store": place.store,
            "artifacts": place.artifacts_folder(),
            "metrics": metrics_address,
        }))?;
    } else {
        output::line(&format!("listening on {address}, store {}", place.store.display()))?;
        if place.credentials.is_none() {
            output::line(&format!("workers attach with: alpharho-worker --coordinator {address}"))?;
        } else {
            let port = listening.port();
            output::line(&format!(
                "workers attach with: alpharho-worker --coordinator https://HOST:{port} --credentials DIR, where HOST \
                 is a name of this machine in its certificate"
            ))?;
        }
        if let Some(address) = metrics_address {
            output::line(&format!("metrics at {address}"))?;
        }
    }
    if let Some(listener) = metrics {
        let scraper = coordinator.scraper();
        let text = move || {
            let scraper = scraper.clone();
            async move { scraper.text().await }
        };
        tokio::spawn(telemetry::http::serve(listener, text, std::future::pending()));
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
