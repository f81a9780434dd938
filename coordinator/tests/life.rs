//! A trial's life: submitted, leased, trained, done; and what becomes of it when somebody dies.

mod common;

use common::{House, capped, files, kinds, sweep_yaml, token};
use proto::wire::{self, Action};
use sweeps::scheduler::AttemptEnd;
use tonic::Code;

fn started(threads: u32, libtorch: &str) -> wire::report::Body {
    wire::report::Body::Started(wire::Started {
        device: "cpu".to_owned(),
        threads,
        instruction_set: "avx2".to_owned(),
        libtorch: libtorch.to_owned(),
        resumed_epoch: 0,
    })
}

#[tokio::test]
async fn from_submission_to_result() {
    let house = House::open().await;
    let mut client = house.client().await;
    let reply = client.submit(&sweep_yaml("s", &[1.0, 0.5], 2)).await.unwrap();
    assert_eq!((reply.sweep.as_str(), reply.trials, reply.trials_new), ("s", 2, 2));
    assert!(client.explain(1).await.contains("no worker is there"));

    let mut agent = house.agent(1, 1, &[]).await;
    assert_eq!((agent.registered.heartbeat_ms, agent.registered.lease_ms), (10_000, 60_000));
    // The longest first.
    let (first, member) = agent.granted().await;
    assert_eq!((first, member.sweep.as_str(), member.threads, member.resume), (token(1, 1), "s", 0, None));
    let settings = proto::convert::trial(&member.trial_json).unwrap();
    assert_eq!((settings.alpha, settings.resolution), (1.0, 128));
    agent.report(first, started(2, "2.11.0")).await;
    agent.epoch(first, 1, 0.75).await;
    agent.epoch(first, 2, 0.5).await;
    assert!(client.explain(2).await.contains("the only slot is busy; it is next; 0 of 2 epochs"));
    let ended = agent.end(first, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    let (second, _) = agent.granted().await;
    assert_eq!(second, token(2, 1));

    let status = client.status("s").await;
    let summary = status.summary.unwrap();
    let counts = summary.counts.unwrap();
    assert_eq!((counts.completed, counts.running, counts.pending), (1, 1, 0));
    assert!(summary.progress > 0.5 && summary.progress < 1.0, "{}", summary.progress);
    let trial = &status.trials[0];
    assert_eq!((trial.state.as_str(), trial.epochs_done, trial.best_epoch, trial.attempts), ("completed", 2, 1, 1));
    assert_eq!((trial.best["val_top1"], trial.last["val_top1"]), (0.75, 0.5));
    assert_eq!((trial.worker.as_str(), trial.device.as_str(), trial.train_seconds), ("host1", "cpu", 3.0));
    assert_eq!((trial.mult_adds, trial.number, trial.scripted), (185_387_008, 1, false));
    assert!(trial.started_ms > 0 && trial.ended_ms >= trial.started_ms);
    assert!(client.explain(2).await.contains("runs on host1, cpu (worker 0000000000000001); 0 of 2 epochs"));

    agent.epoch(second, 1, 0.25).await;
    agent.epoch(second, 2, 0.5).await;
    let ended = agent.end(second, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    let expected = "sweep_submitted|trial_changed running|attempt_started|epoch_finished|epoch_finished|\
                    trial_changed completed|attempt_ended|trial_changed running|attempt_started|epoch_finished|\
                    epoch_finished|trial_changed completed|attempt_ended|sweep_over";
    let mut happened = kinds(&client.events("s", 0).await);
    // A trial that ends and the next one that begins are told in one go, in either order.
    let mut wanted: Vec<&str> = expected.split('|').collect();
    assert_eq!(happened.first().map(String::as_str), Some("sweep_submitted"));
    assert_eq!(happened.last().map(String::as_str), Some("sweep_over"));
    happened.sort();
    wanted.sort_unstable();
    assert_eq!(happened, wanted);
    let list = client.0.list(wire::ListRequest {}).await.unwrap().into_inner().sweeps;
    assert_eq!((list.len(), list[0].progress), (1, 1.0));
}

#[tokio::test]
async fn what_is_acknowledged_survives_and_the_worker_goes_on() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 3)).await.unwrap();
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    agent.report(lease, started(2, "2.11.0")).await;
    agent.upload(lease, 1, true, b"after one epoch").await.unwrap();
    let sequence = agent.epoch(lease, 1, 0.5).await;
    agent.acknowledged(sequence).await;
    house.restart().await;

    let mut client = house.client().await;
    let status = client.status("s").await;
    let trial = &status.trials[0];
    assert_eq!((trial.state.as_str(), trial.epochs_done, trial.best["val_top1"]), ("running", 1, 0.5));
    // It comes back with what it holds, and says again what it may not have been heard to say.
    let mut agent = house.agent(1, 1, &[(0, lease)]).await;
    agent.epoch(lease, 1, 0.5).await;
    agent.epoch(lease, 2, 0.625).await;
    agent.epoch(lease, 3, 0.75).await;
    let ended = agent.end(lease, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    // Killed before the agent knew: it says it again.
    house.restart().await;
    let mut agent = house.agent(1, 1, &[]).await;
    let ended = agent.end(lease, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;

    let mut client = house.client().await;
    let trial = client.status("s").await.trials.remove(0);
    assert_eq!((trial.state.as_str(), trial.attempts, trial.epochs_done), ("completed", 1, 3));
    let points = client.points("s").await;
    let top1: Vec<(u64, f64)> =
        points.iter().filter(|point| point.2 == "val_top1").map(|point| (point.3, point.4)).collect();
    assert_eq!(top1, [(1, 0.5), (2, 0.625), (3, 0.75)]);
    let happened = kinds(&client.events("s", 0).await);
    let count = |kind: &str| happened.iter().filter(|happened| *happened == kind).count();
    assert_eq!((count("epoch_finished"), count("attempt_started"), count("sweep_over")), (3, 1, 1));
}

#[tokio::test]
async fn a_lost_worker_s_trial_goes_on_elsewhere_from_its_checkpoint_and_the_dead_do_no_harm() {
    // The closed stream's grace is two heartbeats.
    let house = House::with_heartbeat(200).await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 3)).await.unwrap();
    let mut first = house.agent(1, 1, &[]).await;
    let (old, _) = first.granted().await;
    first.report(old, started(2, "2.11.0")).await;
    first.epoch(old, 1, 0.5).await;
    first.upload(old, 1, true, b"after one epoch").await.unwrap();
    // Saved after an epoch that it does not live to report: not to go on from.
    first.upload(old, 2, true, b"after two epochs").await.unwrap();
    drop(first);

    let mut second = house.agent(2, 1, &[]).await;
    let (new, member) = second.granted().await;
    assert_eq!(new, token(1, 2));
    let resume = member.resume.unwrap();
    assert_eq!((resume.epoch, resume.bytes, member.threads), (1, 15, 2));
    assert_eq!(client.fetch(resume.id).await.unwrap(), b"after one epoch");
    assert_eq!(files(&house.artifacts()).len(), 1);

    // The first comes back from the dead, and is heard, and has no effect.
    let mut first = house.agent(1, 1, &[(0, old)]).await;
    assert_eq!(first.stopped().await, (old, "superseded".to_owned()));
    first.epoch(old, 2, 0.875).await;
    assert_eq!(first.stopped().await, (old, "superseded".to_owned()));
    let ended = first.end(old, &AttemptEnd::Completed).await;
    first.acknowledged(ended).await;
    let refused = first.upload(old, 3, false, b"late").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("trial 1, attempt 1 is not current any more"), "{refused}");
    let trial = client.status("s").await.trials.remove(0);
    assert_eq!((trial.state.as_str(), trial.attempts, trial.epochs_done), ("running", 2, 1));
    assert!(trial.reason.contains("was lost: its stream closed"), "{}", trial.reason);

    for (epoch, top1) in [(2, 0.5), (3, 0.25)] {
        second.epoch(new, epoch, top1).await;
    }
    second.upload(new, 3, false, b"after three epochs").await.unwrap();
    let ended = second.end(new, &AttemptEnd::Completed).await;
    second.acknowledged(ended).await;
    let points = client.points("s").await;
    let top1: Vec<(u32, u64, f64)> =
        points.into_iter().filter(|point| point.2 == "val_top1").map(|point| (point.1, point.3, point.4)).collect();
    assert_eq!(top1, [(1, 1, 0.5), (2, 2, 0.5), (2, 3, 0.25)]);
    let happened = kinds(&client.events("s", 0).await);
    assert_eq!(happened.iter().filter(|kind| *kind == "report_refused").count(), 1);
}

#[tokio::test]
async fn done_is_only_believed_with_all_epochs_reported() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 2)).await.unwrap();
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    agent.epoch(lease, 1, 0.5).await;
    agent.end(lease, &AttemptEnd::Completed).await;
    let (again, _) = agent.granted().await;
    assert_eq!(again, token(1, 2));
    let trial = client.status("s").await.trials.remove(0);
    assert_eq!(trial.reason, "the trainer said that it was done, but has reported 1 of 2 epochs");
}

#[tokio::test]
async fn made_up_numbers_never_count_as_real_ones() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 2)).await.unwrap();
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    agent.report(lease, started(1, "none")).await;
    assert_eq!(agent.stopped().await.0, lease);
    agent.epoch(lease, 1, 0.99).await;
    agent.stopped().await;
    let trial = client.status("s").await.trials.remove(0);
    assert_eq!(trial.state, "failed");
    assert!(trial.reason.contains("scripted trainer"), "{}", trial.reason);
    assert!(client.points("s").await.is_empty());
}

#[tokio::test]
async fn pause_resume_cancel_retry() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0, 0.5], 2)).await.unwrap();
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    client.control("s", Action::Pause).await.unwrap();
    assert_eq!(agent.stopped().await, (lease, "pause".to_owned()));
    assert!(client.explain(1).await.contains("it is being paused"));
    let ended = agent.end(lease, &AttemptEnd::Stopped).await;
    agent.acknowledged(ended).await;
    assert!(client.explain(1).await.contains("its sweep is paused"));
    assert!(client.status("s").await.summary.unwrap().paused);
    client.control("s", Action::Resume).await.unwrap();
    let (lease, _) = agent.granted().await;
    assert_eq!(lease, token(1, 2));
    client.control("s", Action::Cancel).await.unwrap();
    assert_eq!(agent.stopped().await, (lease, "cancel".to_owned()));
    let ended = agent.end(lease, &AttemptEnd::Stopped).await;
    agent.acknowledged(ended).await;
    let counts = client.status("s").await.summary.unwrap().counts.unwrap();
    assert_eq!(counts.cancelled, 2);
    // Nothing left: watching ends by itself.
    assert_eq!(kinds(&client.events("s", 0).await).last().unwrap(), "sweep_over");
    client.control("s", Action::Retry).await.unwrap();
    assert_eq!(agent.granted().await.0, token(1, 3));

    let refused = client.control("t", Action::Pause).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::NotFound, "there is no sweep t; did you mean s?"));
    let target = Some(wire::control_request::Target::Trial(77));
    let request = wire::ControlRequest { target, action: Action::Pause.into() };
    let refused = capped("control", client.0.control(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_worker_that_registers_again_replaces_itself_and_goodbye_gives_back() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 2)).await.unwrap();
    let mut before = house.agent(1, 1, &[]).await;
    let (lease, _) = before.granted().await;
    let mut agent = house.agent(1, 1, &[(0, lease)]).await;
    assert_eq!(before.until_cut_off().await.code(), Code::Aborted);
    let workers = client.0.workers(wire::WorkersRequest {}).await.unwrap().into_inner().workers;
    assert_eq!((workers.len(), workers[0].state.as_str(), &workers[0].slots[0].trials), (1, "attached", &vec![1]));
    agent.epoch(lease, 1, 0.5).await;
    let log = wire::LogLines { lines: vec!["one".to_owned(), "two".to_owned()] };
    let sequence = agent.report(lease, wire::report::Body::Log(log)).await;
    agent.acknowledged(sequence).await;
    let workers = client.0.workers(wire::WorkersRequest {}).await.unwrap().into_inner().workers;
    assert_eq!(workers[0].slots[0].mult_adds_per_second, 18_538_700_800.0);
    agent.say(wire::worker_message::Body::Goodbye(wire::Goodbye {})).await;
    assert_eq!(agent.until_cut_off().await.message(), "the stream ended");
    let trial = client.status("s").await.trials.remove(0);
    assert_eq!((trial.state.as_str(), trial.epochs_done), ("pending", 1));
    let logs = client.0.logs(wire::LogsRequest { trial: 1, follow: false }).await.unwrap().into_inner();
    let lines: Vec<String> =
        common::all(logs).await.unwrap().into_iter().flat_map(|batch| batch.lines).map(|line| line.text).collect();
    assert_eq!(lines, ["one", "two"]);
}
