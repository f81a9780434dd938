//! Metric points, as fast as they are acknowledged; and whether those are still there after the coordinator died.

use crate::mouth::{Mouth, connections, submit};
use anyhow::{Result, bail, ensure};
use proto::wire;
use proto::wire::coordinator_message::Body as Told;
use proto::wire::report::Body as Report;
use proto::wire::sweeps_client::SweepsClient;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

/// Messages of a worker that wait for an acknowledgement.
const AHEAD: u64 = 16;
/// How long a coordinator may take to come back.
const BACK_MAX: Duration = Duration::from_secs(120);
const BACK_STEP: Duration = Duration::from_millis(5);

/// What one worker has said.
struct Said {
    trial: u64,
    acknowledged: u64,
    seconds: f64,
}

pub(crate) async fn points(address: &str, sweep: &str, workers: u64, seconds: u64, points: u64) -> Result<()> {
    let channels = connections(address, usize::try_from(workers)?).await?;
    submit(&channels[0], sweep, workers).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 1..=workers {
        let channel = channels[usize::try_from(worker)? % channels.len()].clone();
        tasks.spawn(work(channel, worker, Duration::from_secs(seconds), points));
    }
    let mut said = BTreeMap::new();
    let (mut acknowledged, mut died, mut longest) = (0, false, 0.0_f64);
    while let Some(ended) = tasks.join_next().await {
        let (one, cut) = ended??;
        acknowledged += one.acknowledged;
        longest = longest.max(one.seconds);
        died |= cut;
        said.insert(one.trial, one.acknowledged);
    }
    let mut line = serde_json::json!({
        "what": "points", "workers": workers, "points_of_message": points, "seconds": longest,
        "acknowledged": acknowledged, "per_second": acknowledged as f64 / longest,
    });
    if died {
        let begun = Instant::now();
        let channel = back(address).await?;
        line["back_seconds"] = begun.elapsed().as_secs_f64().into();
        line["lost"] = missing(channel, sweep, &said).await?.into();
    }
    println!("{line}");
    Ok(())
}

/// Takes the one lease, and says points of steps 1, 2, .. for so long. True if the session was cut before that.
async fn work(channel: Channel, worker: u64, time: Duration, points: u64) -> Result<(Said, bool)> {
    let (mut mouth, mut told) = Mouth::open(channel, worker, 1).await?;
    let token = loop {
        match told.message().await?.and_then(|message| message.body) {
            Some(Told::Grant(grant)) => break grant.members.first().and_then(|member| member.token),
            Some(_) => {}
            None => bail!("the coordinator ended a session before it granted a lease"),
        }
    };
    mouth.started(token).await?;
    let trial = token.map_or(0, |token| token.trial);
    let first = mouth.sequence + 1;
    let begun = Instant::now();
    let mut acknowledged = mouth.sequence;
    let said = |acknowledged: u64| Said {
        trial,
        acknowledged: (acknowledged + 1).saturating_sub(first) * points,
        seconds: begun.elapsed().as_secs_f64(),
    };
    while begun.elapsed() < time {
        while mouth.sequence < acknowledged + AHEAD {
            let after = (mouth.sequence + 1 - first) * points;
            let point = |step| wire::Point { name: "step_loss".to_owned(), step, value: value(step) };
            let body = wire::Points { points: (after + 1..=after + points).map(point).collect() };
            if mouth.report(token, Report::Points(body)).await.is_err() {
                return Ok((said(acknowledged), true));
            }
        }
        match told.message().await {
            Ok(Some(wire::CoordinatorMessage { body: Some(Told::Ack(ack)) })) => acknowledged = ack.sequence,
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return Ok((said(acknowledged), true)),
        }
    }
    Ok((said(acknowledged), false))
}

/// Decided by the step: what is read back can be compared.
fn value(step: u64) -> f64 {
    2.3 / (1.0 + step as f64 / 1000.0)
}

/// A connection to a coordinator that answers, once one does.
pub(crate) async fn back(address: &str) -> Result<Channel> {
    let until = Instant::now() + BACK_MAX;
    loop {
        if let Ok(channel) = Endpoint::from_shared(address.to_owned())?.connect().await
            && SweepsClient::new(channel.clone()).info(wire::InfoRequest {}).await.is_ok()
        {
            return Ok(channel);
        }
        ensure!(Instant::now() < until, "the coordinator did not come back to {address}");
        tokio::time::sleep(BACK_STEP).await;
    }
}

/// How many of the acknowledged points are not there, or are others.
async fn missing(channel: Channel, sweep: &str, said: &BTreeMap<u64, u64>) -> Result<u64> {
    let mut missing = said.values().sum::<u64>();
    for (trial, acknowledged) in said {
        let request =
            wire::MetricsRequest { sweep: sweep.to_owned(), trial: Some(*trial), ..wire::MetricsRequest::default() };
        let mut batches = SweepsClient::new(channel.clone()).metrics(request).await?.into_inner();
        while let Some(batch) = batches.message().await? {
            let there =
                batch.points.iter().filter(|point| point.step <= *acknowledged && point.value == value(point.step));
            missing -= there.count() as u64;
        }
    }
    Ok(missing)
}
