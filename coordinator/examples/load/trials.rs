//! Empty trials: granted, begun, one epoch with one number, over. All of it on disk.

use crate::mouth::{Mouth, connections, submit};
use anyhow::{Result, bail};
use proto::wire;
use proto::wire::coordinator_message::Body as Told;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::Streaming;
use tonic::transport::Channel;

/// What all epochs are said to have taken: slots are equally fast.
const EPOCH: Duration = Duration::from_millis(10);

pub(crate) async fn trials(address: &str, sweep: &str, trials: u64, workers: u64, slots: usize) -> Result<()> {
    let channels = connections(address, usize::try_from(workers)?).await?;
    let begun = Instant::now();
    submit(&channels[0], sweep, trials).await?;
    let submitting = begun.elapsed();
    let over = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 1..=workers {
        let channel = channels[usize::try_from(worker)? % channels.len()].clone();
        let over = Arc::clone(&over);
        tasks.spawn(async move { work(channel, worker, slots, trials, &over).await });
    }
    while over.load(Ordering::Relaxed) < trials {
        match tokio::time::timeout(Duration::from_millis(1), tasks.join_next()).await {
            // Only an error ends one before the others.
            Ok(Some(ended)) => ended??,
            Ok(None) => break,
            Err(_) => {}
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let line = serde_json::json!({
        "what": "trials", "trials": trials, "workers": workers, "slots": slots, "seconds": seconds,
        "submit_seconds": submitting.as_secs_f64(), "per_second": trials as f64 / seconds,
    });
    println!("{line}");
    Ok(())
}

/// Until all trials of all workers are over, as acknowledged.
async fn work(channel: Channel, worker: u64, slots: usize, trials: u64, over: &AtomicU64) -> Result<()> {
    let (mut mouth, mut told) = Mouth::open(channel, worker, slots).await?;
    // Numbers of the messages that end trials, not yet acknowledged.
    let mut ends = std::collections::VecDeque::new();
    loop {
        if over.load(Ordering::Relaxed) >= trials {
            return Ok(());
        }
        let message = next(&mut told).await?;
        match message.body {
            Some(Told::Grant(grant)) => {
                for member in grant.members {
                    mouth.started(member.token).await?;
                    ends.push_back(mouth.finished(member.token, EPOCH).await?);
                }
            }
            Some(Told::Ack(ack)) => {
                while ends.front().is_some_and(|end| *end <= ack.sequence) {
                    ends.pop_front();
                    over.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ => {}
        }
    }
}

async fn next(told: &mut Streaming<wire::CoordinatorMessage>) -> Result<wire::CoordinatorMessage> {
    match told.message().await? {
        Some(message) => Ok(message),
        None => bail!("the coordinator ended a session"),
    }
}
