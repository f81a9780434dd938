//! Many workers that do little: heartbeats, and leases that end now and then. How long a slot waits for its next one.

use crate::mouth::{Mouth, connections, submit};
use anyhow::{Result, bail};
use proto::wire;
use proto::wire::coordinator_message::Body as Told;
use proto::wire::worker_message::Body as Says;
use std::time::{Duration, Instant};
use tokio::time::sleep_until;
use tonic::transport::Channel;

const HEARTBEAT: Duration = Duration::from_secs(5);
/// A lease is held for 20 to 60 seconds; all epochs are said to have taken as long, so that slots are equally fast.
const HELD_MEAN: Duration = Duration::from_secs(40);

/// What one worker saw, in milliseconds.
#[derive(Default)]
struct Seen {
    /// From the message that ends a trial to the next grant.
    leases: Vec<f64>,
    /// From a heartbeat to its acknowledgement.
    heartbeats: Vec<f64>,
}

pub(crate) async fn leases(address: &str, sweep: &str, workers: u64, seconds: u64, first: u64) -> Result<()> {
    let channels = connections(address, usize::try_from(workers)?).await?;
    // One for each slot at first, then one in 40 seconds; some more, so that none waits for want of trials.
    let trials = workers + workers * seconds / 40 + workers / 4;
    submit(&channels[0], sweep, trials).await?;
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for place in 0..workers {
        let channel = channels[usize::try_from(place)? % channels.len()].clone();
        // Spread over one heartbeat, as workers that were started one by one.
        let joins = begun + HEARTBEAT.mul_f64(place as f64 / workers as f64);
        tasks.spawn(work(channel, first + place, joins, begun + Duration::from_secs(seconds)));
    }
    let mut all = Seen::default();
    while let Some(ended) = tasks.join_next().await {
        let seen = ended??;
        all.leases.extend(seen.leases);
        all.heartbeats.extend(seen.heartbeats);
    }
    let rounded = |times: Vec<f64>| times.iter().map(|time| (time * 100.0).round() / 100.0).collect::<Vec<_>>();
    let line = serde_json::json!({
        "what": "leases", "workers": workers, "leases_ms": rounded(all.leases), "heartbeats_ms": rounded(all.heartbeats),
    });
    println!("{line}");
    Ok(())
}

async fn work(channel: Channel, worker: u64, joins: Instant, until: Instant) -> Result<Seen> {
    sleep_until(joins.into()).await;
    let (mut mouth, mut told) = Mouth::open(channel, worker, 1).await?;
    let mut seen = Seen::default();
    let mut draws = worker;
    let mut beat = Instant::now() + HEARTBEAT.mul_f64(draw(&mut draws));
    let mut beats = std::collections::VecDeque::new();
    let (mut held, mut ends, mut asked) = (None, None, None);
    while Instant::now() < until {
        tokio::select! {
            () = sleep_until(beat.into()) => {
                beats.push_back((mouth.say(Says::Heartbeat(wire::Heartbeat::default())).await?, Instant::now()));
                beat += HEARTBEAT;
            }
            () = sleep_until(ends.unwrap_or(until).into()), if ends.is_some() => {
                ends = None;
                mouth.finished(held.take(), HELD_MEAN).await?;
                asked = Some(Instant::now());
            }
            () = sleep_until(until.into()) => break,
            message = told.message() => match message?.and_then(|message| message.body) {
                Some(Told::Grant(grant)) => {
                    seen.leases.extend(asked.take().map(milliseconds_since));
                    held = grant.members.first().and_then(|member| member.token);
                    mouth.started(held).await?;
                    ends = Some(Instant::now() + HELD_MEAN.mul_f64(0.5 + draw(&mut draws)));
                }
                Some(Told::Ack(ack)) => while let Some((_, at)) = beats.pop_front_if(|(beat, _)| *beat <= ack.sequence) {
                    seen.heartbeats.push(milliseconds_since(at));
                },
                Some(_) => {}
                None => bail!("the coordinator ended the session of worker {worker}"),
            },
        }
    }
    Ok(seen)
}

fn milliseconds_since(at: Instant) -> f64 {
    at.elapsed().as_secs_f64() * 1e3
}

/// From 0 to 1, by splitmix64.
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
