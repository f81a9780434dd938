//! Watchers are told everything once, in order, whenever they come and however slowly they read.

mod common;

use common::{House, all, capped, sweep_yaml};
use proto::wire;
use std::collections::BTreeMap;
use sweeps::scheduler::AttemptEnd;

#[tokio::test]
async fn nothing_is_left_out_and_nothing_told_twice() {
    let house = House::open().await;
    let mut client = house.client().await;
    // More events than a page holds.
    let epochs = 700;
    client.submit(&sweep_yaml("s", &[1.0], epochs)).await.unwrap();
    client.submit(&sweep_yaml("other", &[1.0], 1)).await.unwrap();
    let request = wire::WatchRequest { sweep: "s".to_owned(), after: 0, follow: false, last: 0, workers: false };
    let live = client.0.watch(request).await.unwrap().into_inner();
    let live = tokio::spawn(all(live));
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;

    let mut broken = Vec::new();
    let mut after = 0;
    for epoch in 1..=epochs {
        agent.epoch(lease, epoch, 0.5).await;
        if epoch % 150 == 0 {
            // Somebody who reads a little, loses the stream, and comes back for what follows.
            let request = wire::WatchRequest { sweep: "s".to_owned(), after, follow: true, last: 0, workers: false };
            let mut stream = client.0.watch(request).await.unwrap().into_inner();
            for _ in 0..40 {
                let event = capped("an event", stream.message()).await.unwrap().unwrap();
                after = event.sequence;
                broken.push(event);
            }
        }
    }
    let ended = agent.end(lease, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;

    let later = client.events("s", 0).await;
    let live = capped("the end of the sweep", live).await.unwrap().unwrap();
    broken.extend(client.events("s", after).await);
    assert_eq!(live, later);
    assert_eq!(broken, later);
    assert!(later.iter().all(|event| event.sweep == "s"));
    assert!(later.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    assert_eq!(later.len(), epochs as usize + 6);
    // A status knows from where to watch.
    assert!(client.status("s").await.sequence >= later.last().unwrap().sequence);
    // Events of workers are of no sweep.
    let request = wire::WatchRequest { sweep: String::new(), after: 0, follow: true, last: 0, workers: false };
    let mut stream = client.0.watch(request).await.unwrap().into_inner();
    let mut joined = false;
    for _ in 0..5 {
        let event = capped("an event", stream.message()).await.unwrap().unwrap();
        joined |= event.json.contains("worker_joined") && event.sweep.is_empty();
    }
    assert!(joined);
}

#[tokio::test]
async fn the_newest_events_alone_and_those_of_workers() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0], 4)).await;
    client.submitted(&sweep_yaml("other", &[0.5], 1)).await;
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    for epoch in 1..=4 {
        agent.epoch(lease, epoch, 0.5).await;
    }
    let ended = agent.end(lease, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    let all_of_it = client.events("s", 0).await;
    for (last, after, workers) in
        [(3, 0, false), (3, 0, true), (1_000, 0, false), (1_000, 0, true), (5, u64::MAX >> 1, true)]
    {
        let request = wire::WatchRequest { sweep: "s".to_owned(), after, follow: false, last, workers };
        let told = capped("events", all(client.0.watch(request).await.unwrap().into_inner())).await.unwrap();
        assert!(told.windows(2).all(|pair| pair[0].sequence < pair[1].sequence), "{told:?}");
        let joined = told.iter().filter(|event| event.json.contains("worker_joined")).count();
        let of_sweep: Vec<_> = told.iter().filter(|event| event.sweep == "s").cloned().collect();
        assert!(told.iter().all(|event| event.sweep == "s" || event.sweep.is_empty()), "{told:?}");
        if after > 0 {
            assert!(told.is_empty(), "{told:?}");
        } else if last == 3 {
            assert_eq!(told.len(), 3);
            assert_eq!(told.last(), all_of_it.last());
        } else {
            assert_eq!(of_sweep, all_of_it);
            assert_eq!(joined, usize::from(workers));
        }
    }
}

#[tokio::test]
async fn a_status_of_named_metrics() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0], 2)).await;
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    let said = agent.epoch(lease, 1, 0.5).await;
    agent.acknowledged(said).await;
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    for (metrics, metrics_last, best, last) in [
        (named(&[]), named(&[]), named(&["images_per_second", "val_top1"]), named(&["images_per_second", "val_top1"])),
        (named(&["val_top1", "val_loss"]), named(&[]), named(&["val_top1"]), named(&["val_top1"])),
        (named(&["val_top1"]), named(&["images_per_second"]), named(&["val_top1"]), named(&["images_per_second"])),
    ] {
        let request = wire::StatusRequest { sweep: "s".to_owned(), metrics, metrics_last };
        let status = capped("status", client.0.status(request)).await.unwrap().into_inner();
        let names = |values: &BTreeMap<String, f64>| values.keys().cloned().collect::<Vec<_>>();
        assert_eq!((names(&status.trials[0].best), names(&status.trials[0].last)), (best, last));
    }
}
