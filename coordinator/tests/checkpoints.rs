//! Files that come in whole or not at all, and stay as long as they are wanted.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Agent, Client, House, files, kinds, sweep_yaml};
use std::path::Path;
use sweeps::ids::Token;
use sweeps::scheduler::AttemptEnd;
use tonic::Code;

async fn running(house: &House, keep: &str, epochs: u32) -> (Client, Agent, Token) {
    let mut client = house.client().await;
    let yaml = format!("{}checkpoint: {{keep: {keep}}}\n", sweep_yaml("s", &[1.0], epochs));
    client.submitted(&yaml).await;
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    (client, agent, lease)
}

#[tokio::test]
async fn what_is_not_as_announced_is_refused_and_leaves_nothing() {
    let house = House::open().await;
    let (mut client, agent, lease) = running(&house, "[best, latest]", 3).await;
    let right = "f15e11e91ffd9f83459fe74d8533b71aec85c7d5b7b3c51dd62e3fb6a53fb2ac";
    for (bytes, sha256, code) in [
        (7, right, Code::DataLoss),
        (8, right, Code::DataLoss),
        (6, right, Code::InvalidArgument),
        (0, right, Code::InvalidArgument),
        (u64::MAX, right, Code::InvalidArgument),
        (7, "../../etc/passwd", Code::InvalidArgument),
    ] {
        let refused = agent.upload_as(lease, 1, true, b"weights", bytes, sha256).await.unwrap_err();
        assert_eq!(refused.code(), code, "{bytes} {sha256}: {refused}");
    }
    assert!(files(&house.artifacts()).is_empty());
    assert!(client.checkpoints(1).await.is_empty());
    assert_eq!(client.fetch(1).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn sent_twice_it_is_kept_once() {
    let mut house = House::open().await;
    let (mut client, agent, lease) = running(&house, "[best, latest]", 3).await;
    let id = agent.upload(lease, 1, true, b"weights").await.unwrap();
    assert_eq!(agent.upload(lease, 1, true, b"weights").await.unwrap(), id);
    let rows = client.checkpoints(1).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].epoch, rows[0].step, rows[0].bytes, rows[0].best, rows[0].latest), (1, 10, 7, true, true));
    // Files that a crash has left without a row go at the next start.
    let stray = house.artifacts().join("s/trial-1/epoch-0002-step-000020-00000000.safetensors");
    std::fs::write(&stray, "half").unwrap();
    house.restart().await;
    assert!(!stray.exists());
    let mut client = house.client().await;
    assert_eq!(client.fetch(id).await.unwrap(), b"weights");
    let file = house.artifacts().join(&files(&house.artifacts())[0]);
    std::fs::write(file, "cut").unwrap();
    let refused = client.fetch(id).await.unwrap_err();
    assert!(refused.message().contains("has 3 bytes, 7 were saved"), "{refused}");
}

#[tokio::test]
async fn best_and_latest_stay_and_after_the_end_only_what_is_wanted() {
    for (keep, kept) in [("[best, latest]", &[2, 4][..]), ("[best]", &[2]), ("[latest]", &[4])] {
        let house = House::open().await;
        let (mut client, mut agent, lease) = running(&house, keep, 4).await;
        for (epoch, best) in [(1, true), (2, true), (3, false), (4, false)] {
            agent.epoch(lease, epoch, if epoch == 2 { 0.5 } else { 0.25 }).await;
            agent.upload(lease, epoch, best, format!("after epoch {epoch}").as_bytes()).await.unwrap();
        }
        let epochs = |rows: &[proto::wire::Checkpoint]| rows.iter().map(|row| row.epoch).collect::<Vec<_>>();
        assert_eq!(epochs(&client.checkpoints(1).await), [2, 4]);
        assert_eq!(files(&house.artifacts()).len(), 2);
        let ended = agent.end(lease, &AttemptEnd::Completed).await;
        agent.acknowledged(ended).await;
        assert_eq!(epochs(&client.checkpoints(1).await), kept, "{keep}");
        assert_eq!(files(&house.artifacts()).len(), kept.len(), "{keep}");
    }
}

#[tokio::test]
async fn a_copy_that_comes_late_takes_nothing_from_what_came_after_it() {
    let house = House::open().await;
    let (mut client, mut agent, lease) = running(&house, "[best, latest]", 4).await;
    for (epoch, best) in [(1, true), (2, true), (1, true), (3, false), (2, true), (1, true)] {
        agent.epoch(lease, epoch, 0.25 * f64::from(epoch.min(2))).await;
        agent.upload(lease, epoch, best, format!("after epoch {epoch}").as_bytes()).await.unwrap();
    }
    let rows: Vec<_> = client.checkpoints(1).await.iter().map(|row| (row.epoch, row.best, row.latest)).collect();
    assert_eq!(rows, [(2, true, false), (3, false, true)]);
}

/// Two copies of one upload: one is stored, the attempt ends, and then the other is refused.
#[tokio::test]
async fn a_copy_that_is_refused_leaves_the_file_of_the_one_that_was_stored() {
    use proto::wire::upload_message::Body;
    let house = House::open().await;
    let (mut client, mut agent, lease) = running(&house, "[best, latest]", 1).await;
    let (copy, messages) = tokio::sync::mpsc::channel(4);
    let sha256 = common::sha256(b"weights");
    let header =
        proto::wire::UploadHeader { token: Some(lease.into()), epoch: 1, step: 10, bytes: 7, sha256, best: true };
    for body in [Body::Header(header), Body::Data(b"weights".to_vec().into())] {
        copy.send(proto::wire::UploadMessage { body: Some(body) }).await.unwrap();
    }
    let late = tokio::spawn(agent.upload_messages(messages));
    common::capped("the copy's beginning", async {
        while files(&house.artifacts().join(".uploads")).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    agent.epoch(lease, 1, 0.5).await;
    let id = agent.upload(lease, 1, true, b"weights").await.unwrap();
    // As if the copy had looked before the other one was there.
    for file in files(&house.artifacts()).iter().filter(|file| file.contains("epoch-0001")) {
        std::fs::remove_file(house.artifacts().join(file)).unwrap();
    }
    let ended = agent.end(lease, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    drop(copy);
    assert_eq!(late.await.unwrap().unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(client.fetch(id).await.unwrap(), b"weights");
}

/// Saves after epochs 1, the best, and 2, spoils the newest, and lets the attempt crash.
async fn spoiled(spoil: impl Fn(&Path)) -> (House, Client, Agent) {
    let house = House::open().await;
    let (mut client, mut agent, lease) = running(&house, "[best, latest]", 5).await;
    for (epoch, best) in [(1, true), (2, false)] {
        let sequence = agent.epoch(lease, epoch, 0.5).await;
        agent.acknowledged(sequence).await;
        agent.upload(lease, epoch, best, format!("after epoch {epoch}").as_bytes()).await.unwrap();
    }
    assert_eq!(client.checkpoints(1).await.pop().unwrap().epoch, 2);
    for file in files(&house.artifacts()).iter().filter(|file| file.contains("epoch-0002")) {
        spoil(&house.artifacts().join(file));
    }
    agent.end(lease, &AttemptEnd::Crashed { reason: "signal 9".to_owned() }).await;
    (house, client, agent)
}

#[tokio::test]
async fn a_missing_or_shortened_file_is_passed_over_for_an_older_one() {
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    let shorten = |path: &Path| std::fs::write(path, "after").unwrap();
    let check = async |spoil: &dyn Fn(&Path), what: &str| {
        let (_house, mut client, mut agent) = spoiled(spoil).await;
        let (again, member) = agent.granted().await;
        assert_eq!(member.resume.unwrap().epoch, 1, "{what}");
        // What is told with the next transaction.
        let sequence = agent.epoch(again, 2, 0.5).await;
        agent.acknowledged(sequence).await;
        let told = client.event("s", "checkpoint_damaged").await;
        assert!(told.contains(what), "{told}");
    };
    check(&remove, "No such file").await;
    check(&shorten, "has 5 bytes, 13 were saved").await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_when_it_is_read_and_an_older_one_is_gone_on_from() {
    let (house, mut client, mut agent) = spoiled(|path| std::fs::write(path, "After epoch 2").unwrap()).await;
    let (again, member) = agent.granted().await;
    let resume = member.resume.unwrap();
    assert_eq!(resume.epoch, 2, "it looks well");
    let refused = client.fetch(resume.id).await.unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss);
    assert!(refused.message().contains("has the SHA-256") && refused.message().contains("set aside"), "{refused}");
    assert_eq!(client.fetch(resume.id).await.unwrap_err().code(), Code::NotFound);
    let rows: Vec<(u32, bool)> = client.checkpoints(1).await.iter().map(|row| (row.epoch, row.latest)).collect();
    assert_eq!(rows, [(1, true)]);
    let names = files(&house.artifacts());
    assert_eq!(names.iter().filter(|name| name.ends_with(".safetensors.damaged")).count(), 1, "{names:?}");
    // As an agent does that was sent what is damaged.
    agent.end(again, &AttemptEnd::Lost { reason: "checkpoint 2 is damaged".to_owned() }).await;
    let (third, member) = agent.granted().await;
    assert_eq!(member.resume.unwrap().epoch, 1);
    // What is trained again counts, and can be saved under the same name.
    for epoch in 2..=5 {
        agent.epoch(third, epoch, 0.75).await;
    }
    agent.upload(third, 2, false, b"after epoch 2").await.unwrap();
    let ended = agent.end(third, &AttemptEnd::Completed).await;
    agent.acknowledged(ended).await;
    let trial = &client.status("s").await.trials[0];
    assert_eq!((trial.state.as_str(), trial.epochs_done, trial.attempts), ("completed", 5, 3));
    let told = kinds(&client.events("s", 0).await);
    assert_eq!(told.iter().filter(|kind| *kind == "checkpoint_damaged").count(), 1, "{told:?}");
    let points = client.points("s").await;
    let of_epoch_2: Vec<_> = points.iter().filter(|point| point.2 == "val_top1" && point.3 == 2).collect();
    assert_eq!(of_epoch_2, [&(1, 3, "val_top1".to_owned(), 2, 0.75)], "the newest attempt's alone");
}

#[tokio::test]
async fn with_all_its_checkpoints_damaged_a_trial_begins_anew() {
    let (house, mut client, mut agent) = spoiled(|path| std::fs::write(path, "").unwrap()).await;
    let (again, member) = agent.granted().await;
    let oldest = member.resume.unwrap();
    for file in files(&house.artifacts()).iter().filter(|file| file.contains("epoch-0001")) {
        std::fs::write(house.artifacts().join(file), "AFTER EPOCH 1").unwrap();
    }
    assert_eq!(client.fetch(oldest.id).await.unwrap_err().code(), Code::DataLoss);
    agent.end(again, &AttemptEnd::Lost { reason: "checkpoint 1 is damaged".to_owned() }).await;
    let (third, member) = agent.granted().await;
    assert_eq!((third.attempt, member.resume), (3, None));
}
