//! What operators scrape: numbers that follow what happens, in a form that Prometheus reads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{House, capped, sweep_yaml};
use proto::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use sweeps::scheduler::AttemptEnd;

/// The value of a sample, written as in the text.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// One sweep of two trials: one done, one lost with its worker and then pending.
async fn eventful() -> (House, String) {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0, 0.5], 1)).await;
    let mut agent = house.agent(7, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    agent.upload(lease, 1, true, b"weights").await.unwrap();
    let point = |name: &str, value| wire::Point { name: name.to_owned(), step: 1, value };
    let points = vec![point("images_per_second", 250.0), point("staleness_mean", 2.5), point("staleness_max", 9.0)];
    let finished = wire::EpochFinished { epoch: 1, duration_ms: 4_000, points };
    agent.report(lease, wire::report::Body::EpochFinished(finished)).await;
    let ended = agent.end(lease, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    agent.granted().await;
    // Of an attempt that is over.
    let sequence = agent.epoch(lease, 1, 0.5).await;
    agent.acknowledged(sequence).await;
    let request = wire::StatusRequest { sweep: "t".to_owned(), ..wire::StatusRequest::default() };
    client.0.status(request).await.unwrap_err();
    // A watcher that goes away.
    let request = wire::WatchRequest { follow: true, ..wire::WatchRequest::default() };
    let mut stream = client.0.watch(request).await.unwrap().into_inner();
    capped("an event", stream.message()).await.unwrap().unwrap();
    drop(stream);
    let text = capped("the call to be counted", async {
        loop {
            let text = house.scraper().text().await;
            // Its answer began long ago; it is counted once the coordinator has noticed that nobody listens.
            if text.contains("{code=\"Cancelled\",method=\"Sweeps/Watch\"}") {
                break text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    let text = text.await;
    (house, text)
}

#[tokio::test]
async fn numbers_follow_what_happens() {
    let (_house, text) = eventful().await;
    for (sample, expected) in [
        ("alpharho_trials{state=\"completed\",sweep=\"s\"}", 1.0),
        ("alpharho_trials{state=\"running\",sweep=\"s\"}", 1.0),
        ("alpharho_trials{state=\"failed\",sweep=\"s\"}", 0.0),
        ("alpharho_sweep_completed_ratio{sweep=\"s\"}", 0.5),
        ("alpharho_leases_granted_total", 2.0),
        ("alpharho_attempts_ended_total{end=\"completed\"}", 1.0),
        ("alpharho_attempts_ended_total{end=\"lost\"}", 0.0),
        ("alpharho_reports_total{kind=\"ended\"}", 1.0),
        ("alpharho_reports_total{kind=\"epoch\"}", 2.0),
        ("alpharho_reports_refused_total", 1.0),
        ("alpharho_metric_points_total", 3.0),
        ("alpharho_epochs_total", 1.0),
        ("alpharho_epoch_seconds_bucket{le=\"5\"}", 1.0),
        ("alpharho_epoch_seconds_sum", 4.0),
        ("alpharho_epoch_images_per_second_sum", 250.0),
        ("alpharho_epoch_staleness_mean_updates_sum", 2.5),
        ("alpharho_epoch_staleness_max_updates_sum", 9.0),
        ("alpharho_checkpoints_total", 1.0),
        ("alpharho_checkpoint_bytes_sum", 7.0),
        ("alpharho_workers{state=\"attached\"}", 1.0),
        ("alpharho_workers_joined_total", 1.0),
        ("alpharho_slots{state=\"busy\"}", 1.0),
        ("alpharho_slots{state=\"free\"}", 0.0),
        ("alpharho_store_writable", 1.0),
        ("alpharho_grpc_requests_total{code=\"OK\",method=\"Sweeps/Submit\"}", 1.0),
        ("alpharho_grpc_requests_total{code=\"OK\",method=\"Workers/Upload\"}", 1.0),
        ("alpharho_grpc_requests_total{code=\"NotFound\",method=\"Sweeps/Status\"}", 1.0),
        ("alpharho_grpc_requests_total{code=\"Cancelled\",method=\"Sweeps/Watch\"}", 1.0),
        ("alpharho_grpc_response_seconds_count{method=\"Sweeps/Submit\"}", 1.0),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample} in\n{text}");
    }
    let age = "alpharho_worker_heartbeat_age_seconds{host=\"host7\",worker=\"0000000000000007\"}";
    assert!(value(&text, age).is_some_and(|age| (0.0..60.0).contains(&age)), "{text}");
    assert!(value(&text, "alpharho_store_transaction_seconds_count").is_some_and(|count| count >= 4.0), "{text}");
    // The second attempt on the slot has told no speed yet.
    assert!(!text.contains("alpharho_slot_images_per_second{"), "{text}");
}

#[tokio::test]
async fn every_sample_is_of_a_family_that_is_explained() {
    let (_house, text) = eventful().await;
    let known: BTreeMap<String, BTreeSet<String>> = coordinator::metrics::families()
        .unwrap()
        .into_iter()
        .map(|family| (family.name.clone(), family.samples().into_iter().collect()))
        .collect();
    let (mut helped, mut typed, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            assert!(!help.is_empty() && helped.insert(name), "{line}");
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            assert!(helped.contains(name) && typed.insert(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = known.iter().find(|(_, samples)| samples.contains(name)).map(|(family, _)| family.as_str());
            assert!(family.is_some_and(|family| typed.contains(family)), "{line}");
            assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
            count += 1;
        }
    }
    assert!(count > 100, "{count} samples");
}

#[tokio::test]
async fn promtool_finds_no_fault() {
    let promtool = std::env::var_os("PROMTOOL").unwrap_or_else(|| "promtool".into());
    let spawned = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = spawned else {
        eprintln!("skipped: promtool is not there; Debian has it in the package prometheus");
        return;
    };
    let (_house, text) = eventful().await;
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.trim().is_empty(), "{words}\n{text}");
}

#[tokio::test]
async fn what_is_gone_is_not_shown() {
    let house = House::open().await;
    let mut agent = house.agent(7, 1, &[]).await;
    assert!(house.scraper().text().await.contains("host=\"host7\""));
    agent.say(wire::worker_message::Body::Goodbye(wire::Goodbye {})).await;
    agent.until_cut_off().await;
    let text = house.scraper().text().await;
    assert!(!text.contains("host7"), "{text}");
    assert_eq!(value(&text, "alpharho_slots{state=\"free\"}"), Some(0.0));
}
