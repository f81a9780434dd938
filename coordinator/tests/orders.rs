//! Limits, drains, attempts, and what workers tell of themselves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{House, capped, sweep_yaml};
use proto::wire;
use sweeps::scheduler::AttemptEnd;
use tonic::Code;

async fn limit(client: &mut common::Client, sweep: &str, max: Option<u32>) -> Result<(), tonic::Status> {
    let request = wire::LimitRequest { sweep: sweep.to_owned(), max_concurrent_trials: max };
    capped("limit", client.0.limit(request)).await.map(drop)
}

async fn limit_of(client: &mut common::Client) -> (Option<u32>, bool) {
    let summary = client.status("s").await.summary.unwrap();
    (summary.max_concurrent_trials, summary.limit_asked)
}

async fn workers(client: &mut common::Client) -> Vec<wire::WorkerStatus> {
    capped("workers", client.0.workers(wire::WorkersRequest {})).await.unwrap().into_inner().workers
}

#[tokio::test]
async fn a_limit_asked_for_survives_a_restart_and_the_same_file() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    let file = |limit: u32| format!("{}max_concurrent_trials: {limit}\n", sweep_yaml("s", &[1.0, 0.75, 0.5, 0.25], 2));
    client.submitted(&file(1)).await;
    let mut agent = house.agent(1, 4, &[]).await;
    agent.granted().await;
    assert_eq!(limit_of(&mut client).await, (Some(1), false));
    limit(&mut client, "s", Some(2)).await.unwrap();
    agent.granted().await;
    limit(&mut client, "s", Some(2)).await.unwrap();
    house.restart().await;
    let mut client = house.client().await;
    client.submitted(&file(1)).await;
    assert_eq!(limit_of(&mut client).await, (Some(2), true));
    limit(&mut client, "s", None).await.unwrap();
    assert_eq!(limit_of(&mut client).await, (None, true));
    client.submitted(&file(3)).await;
    assert_eq!(limit_of(&mut client).await, (Some(3), false));
    limit(&mut client, "s", Some(4)).await.unwrap();
    limit(&mut client, "s", Some(3)).await.unwrap();
    assert_eq!(limit_of(&mut client).await, (Some(3), false), "the file's own limit is no wish of its own");

    client.control("s", wire::Action::Cancel).await.unwrap();
    let mut agent = house.agent(1, 4, &[]).await;
    let events = client.events("s", 0).await;
    let said = |event: &wire::Event| {
        let value: serde_json::Value = serde_json::from_str(&event.json).unwrap();
        (value["kind"] == "sweep_limited").then(|| value["max_concurrent_trials"].as_u64())
    };
    let said: Vec<Option<u64>> = events.iter().filter_map(said).collect();
    assert_eq!(said, [Some(2), None, Some(3), Some(4), Some(3)]);
    agent.say(wire::worker_message::Body::Goodbye(wire::Goodbye {})).await;

    let refused = limit(&mut client, "s", Some(0)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("alpharho pause s"), "{}", refused.message());
    let refused = limit(&mut client, "t", Some(1)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "there is no sweep t; did you mean s?"));
}

#[tokio::test]
async fn a_drained_worker_is_told_finishes_and_is_given_nothing_more() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0, 0.5], 1)).await;
    let mut agent = house.agent(7, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    for _ in 0..2 {
        capped("drain", client.0.drain(wire::DrainRequest { worker: 7 })).await.unwrap();
    }
    let told = agent.next().await;
    assert!(matches!(told, wire::coordinator_message::Body::LeaveWhenDone(_)), "{told:?}");
    assert_eq!(workers(&mut client).await[0].state, "draining");
    agent.epoch(lease, 1, 0.5).await;
    let ended = agent.end(lease, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    assert!(client.explain(2).await.contains("all workers are draining or disconnected"));
    agent.say(wire::worker_message::Body::Goodbye(wire::Goodbye {})).await;
    agent.until_cut_off().await;
    let refused = capped("drain", client.0.drain(wire::DrainRequest { worker: 7 })).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().starts_with("there is no worker 0000000000000007"), "{}", refused.message());

    let request = wire::WatchRequest { sweep: String::new(), after: 0, follow: true, last: 0, workers: false };
    let mut stream = client.0.watch(request).await.unwrap().into_inner();
    let mut drained = 0;
    loop {
        let event = capped("an event", stream.message()).await.unwrap().unwrap();
        drained += u32::from(event.json.contains("worker_draining"));
        if event.json.contains("worker_left") {
            break;
        }
    }
    assert_eq!(drained, 1, "asked twice, told once");
}

#[tokio::test]
async fn attempts_are_told_with_how_they_ended() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0, 0.5], 2)).await;
    let mut agent = house.agent(7, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    agent.epoch(lease, 1, 0.5).await;
    agent.end(lease, &AttemptEnd::Crashed { reason: "signal 9".to_owned() }).await;
    let (lease, _) = agent.granted().await;
    let started = wire::Started {
        device: "cpu".to_owned(),
        threads: 2,
        instruction_set: "avx2".to_owned(),
        libtorch: "2.11.0".to_owned(),
        resumed_epoch: 1,
    };
    let said = agent.report(lease, wire::report::Body::Started(started)).await;
    agent.acknowledged(said).await;
    let mut asked = Vec::new();
    for (trial, sweep) in [(1, ""), (0, "s")] {
        let request = wire::AttemptsRequest { trial, sweep: sweep.to_owned() };
        asked.push(capped("attempts", client.0.attempts(request)).await.unwrap().into_inner().attempts);
    }
    assert_eq!(asked[0], asked[1], "the other trial has none");
    let [first, second] = asked[0].as_slice() else { panic!("{asked:?}") };
    assert_eq!((first.trial, first.attempt, first.worker, first.host.as_str()), (1, 1, 7, "host7"));
    assert_eq!((first.threads, first.libtorch.as_str()), (0, ""));
    assert_eq!(first.end_json, r#"{"end":"crashed","reason":"signal 9"}"#);
    assert!(first.started_ms > 0 && first.ended_ms >= first.started_ms);
    assert_eq!((second.attempt, second.ended_ms, second.end_json.as_str()), (2, 0, ""));
    assert_eq!((second.threads, second.instruction_set.as_str(), second.resumed_epoch), (2, "avx2", 1));
    let explained = client.0.explain(wire::ExplainRequest { trial: 1 }).await.unwrap().into_inner();
    assert_eq!(explained.attempts, asked[0]);
    for (trial, sweep) in [(9, ""), (0, "t")] {
        let request = wire::AttemptsRequest { trial, sweep: sweep.to_owned() };
        assert_eq!(client.0.attempts(request).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn workers_are_shown_with_their_speed_their_gpus_and_their_past() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0], 3)).await;
    let mut agent = house.agent(7, 2, &[]).await;
    let (lease, _) = agent.granted().await;
    let speed = |workers: &[wire::WorkerStatus]| workers[0].slots[0].images_per_second;
    assert_eq!(speed(&workers(&mut client).await), 0.0);
    agent.epoch(lease, 1, 0.5).await;
    let gpu = wire::GpuUse {
        name: "H100".to_owned(),
        memory_used_bytes: 1 << 30,
        memory_total_bytes: 80 << 30,
        utilisation: 0.75,
    };
    let gpus = vec![wire::SlotGpu { slot: 1, gpu: Some(gpu.clone()) }];
    let said = agent.say(wire::worker_message::Body::Heartbeat(wire::Heartbeat { gpus })).await;
    agent.acknowledged(said).await;
    // One without news of the GPUs leaves them as they were.
    let said = agent.say(wire::worker_message::Body::Heartbeat(wire::Heartbeat::default())).await;
    agent.acknowledged(said).await;
    let shown = workers(&mut client).await;
    assert_eq!(speed(&shown), 100.0);
    assert_eq!((shown[0].slots[0].gpu.clone(), shown[0].slots[1].gpu.clone()), (None, Some(gpu)));
    assert_eq!((shown[0].times_lost, shown[0].times_returned), (0, 0));
    // Another attempt on the slot begins without a speed.
    agent.end(lease, &AttemptEnd::Crashed { reason: "signal 9".to_owned() }).await;
    let (lease, _) = agent.granted().await;
    assert_eq!(speed(&workers(&mut client).await), 0.0);
    house.restart().await;
    let mut client = house.client().await;
    let agent = house.agent(7, 2, &[(0, lease)]).await;
    let shown = workers(&mut client).await;
    assert_eq!((shown[0].times_lost, shown[0].times_returned), (0, 1));
    drop(agent);
}

#[tokio::test]
async fn a_lost_worker_is_shown_until_it_comes_back() {
    let house = House::with_heartbeat(50).await;
    let mut client = house.client().await;
    drop(house.agent(7, 2, &[]).await);
    let lost = capped("the loss", async {
        loop {
            if let Some(lost) = workers(&mut client).await.into_iter().find(|worker| worker.state == "lost") {
                break lost;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let lost = lost.await;
    assert_eq!((lost.id, lost.host.as_str(), lost.slots.len(), lost.times_lost), (7, "host7", 2, 1));
    assert!(lost.last_seen_ms > 0);
    let _agent = house.agent(7, 2, &[]).await;
    let shown = workers(&mut client).await;
    assert_eq!((shown.len(), shown[0].times_lost, shown[0].times_returned), (1, 1, 1));
    assert_ne!(shown[0].state, "lost");
}
