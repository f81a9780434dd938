//! One peer that takes or says too much holds up itself alone: over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use common::{Agent, Client, House, all, capped, sweep_yaml};
use proto::wire;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tonic::transport::Endpoint;

/// Long enough for the other watcher on a machine that is busy.
const READER_MAX: Duration = Duration::from_secs(2);
const EPOCHS: u32 = 300;
/// Of each epoch: its event is as long.
const POINTS: u64 = 1_000;

/// Passes bytes on; from the coordinator only while it may: else nobody reads that socket.
async fn relay(address: &str, may_read: watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let there = address.trim_start_matches("http://").parse().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().unwrap();
            // Small, so that what is not read stays with the coordinator.
            socket.set_recv_buffer_size(16 << 10).unwrap();
            let far: TcpStream = socket.connect(there).await.unwrap();
            let mut may_read = may_read.clone();
            let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut near_read, &mut far_write).await });
            tokio::spawn(async move {
                let mut bytes = vec![0; 16 << 10];
                loop {
                    may_read.wait_for(|may| *may).await.unwrap();
                    match far_read.read(&mut bytes).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => near_write.write_all(&bytes[..read]).await.unwrap(),
                    }
                }
            });
        }
    });
    here
}

/// An epoch of many points.
fn epoch(epoch: u32) -> wire::report::Body {
    let point = |step| wire::Point { name: "step_loss".to_owned(), step, value: 0.123_456_789 };
    let first = u64::from(epoch) * POINTS;
    let points = (first..first + POINTS).map(point).collect();
    wire::report::Body::EpochFinished(wire::EpochFinished { epoch, duration_ms: 1, points })
}

fn of_sweep(after: u64, follow: bool) -> wire::WatchRequest {
    wire::WatchRequest { sweep: "s".to_owned(), after, follow, last: 0, workers: false }
}

#[tokio::test]
async fn a_watcher_that_does_not_read_its_socket_is_let_go_and_resumes() {
    let mut house = House::open().await;
    house.reader_max = Some(READER_MAX);
    house.restart().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0], EPOCHS + 1)).await;
    let (read, may_read) = watch::channel(true);
    let slow = relay(&house.address, may_read).await;
    // One whose windows would take everything: it is the socket that is not read.
    let window = 1 << 30;
    let slow =
        Endpoint::from_shared(slow).unwrap().initial_stream_window_size(window).initial_connection_window_size(window);
    let channel = access::endpoint(&house.address, None).unwrap().1.on(slow.connect().await.unwrap());
    let mut slow = Client(wire::sweeps_client::SweepsClient::new(channel));
    let mut stream = slow.0.watch(of_sweep(0, true)).await.unwrap().into_inner();
    let first = capped("an event", stream.message()).await.unwrap().unwrap();
    read.send_replace(false);

    // Others go on meanwhile: a worker reports, somebody else watches, people ask.
    let other = client.0.watch(of_sweep(0, false)).await.unwrap().into_inner();
    let other = tokio::spawn(all(other));
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    let mut said = 0;
    for number in 1..=EPOCHS {
        said = agent.report(lease, epoch(number)).await;
        if number % 100 == 0 {
            agent.acknowledged(said).await;
            assert_eq!(client.status("s").await.trials[0].epochs_done, number);
        }
    }
    agent.acknowledged(said).await;
    // By now it has not read for longer than it may.
    tokio::time::sleep(2 * READER_MAX).await;

    // It reads again: some events, the reason, and nothing more.
    read.send_replace(true);
    let mut told = vec![first];
    let status = loop {
        match capped("the end of the stream", stream.message()).await {
            Ok(Some(event)) => told.push(event),
            Ok(None) => panic!("the stream ended as if it were whole"),
            Err(status) => break status,
        }
    };
    assert!(status.message().contains("nothing was read"), "{status}");
    let kept = told.len();
    // By the number of the last one it goes on, and misses nothing.
    let after = told.last().unwrap().sequence;
    let rest = capped("the rest", slow.0.watch(of_sweep(after, true))).await.unwrap().into_inner();
    agent.epoch(lease, EPOCHS + 1, 0.5).await;
    let ended = agent.end(lease, &sweeps::scheduler::AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    told.extend(until_over(rest).await);
    let everything = capped("the other watcher", other).await.unwrap().unwrap();
    assert_eq!(told, everything);
    // What was kept for it is a small part: in sockets and the connection, not in the coordinator's memory.
    assert!(kept * 2 < told.len(), "{kept} of {} events were kept for it", told.len());
}

async fn until_over(mut stream: tonic::Streaming<wire::Event>) -> Vec<wire::Event> {
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &wire::Event| !event.json.contains("sweep_over")) {
        events.push(capped("an event", stream.message()).await.unwrap().unwrap());
    }
    events
}

/// Says what it can, as fast as its socket takes it, and never waits for an answer.
async fn flood(mut agent: Agent, lease: sweeps::ids::Token) {
    for number in 0_u64.. {
        let point = wire::Point { name: "step_loss".to_owned(), step: number, value: 0.5 };
        let points = vec![point; 200];
        agent.report(lease, wire::report::Body::Points(wire::Points { points })).await;
    }
}

#[tokio::test]
async fn a_flood_from_one_worker_does_not_starve_another() {
    let house = House::open().await;
    let mut client = house.client().await;
    let calls = 8;
    client.submitted(&sweep_yaml("s", &[1.0, 0.5], calls)).await;
    let (mut loud, mut quiet) = (house.agent(1, 1, &[]).await, house.agent(2, 1, &[]).await);
    let (loud_lease, quiet_lease) = (loud.granted().await.0, quiet.granted().await.0);
    let taken = async || {
        let text = house.scraper().text().await;
        let line = text.lines().find_map(|line| line.strip_prefix("alpharho_metric_points_total "));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap()
    };
    let flooding = tokio::spawn(flood(loud, loud_lease));
    // It has filled its share, more than once.
    let more_than = async |points| {
        while taken().await <= points {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    capped("the flood", more_than(100_000)).await;
    let mut passed = Vec::new();
    let mut last = taken().await;
    for number in 1..=calls {
        let said = quiet.epoch(quiet_lease, number, 0.5).await;
        quiet.acknowledged(said).await;
        assert_eq!(client.status("s").await.trials[1].epochs_done, number);
        let now = taken().await;
        passed.push((now - last) / 200);
        last = now;
    }
    assert!(!flooding.is_finished(), "the flood ended before the calls were answered");
    capped("more of the flood", more_than(last)).await;
    flooding.abort();
    // Messages of the flood that were taken while a call waited: about its share, 512, not a whole queue of 4,096.
    passed.sort_unstable();
    let median = passed[passed.len() / 2];
    assert!(median < 3_000, "{passed:?}");
}
