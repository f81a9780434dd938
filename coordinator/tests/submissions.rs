//! Sweeps that come in, again, changed, extended, or wrong.

mod common;

use common::{House, files, sweep_yaml, token};
use proto::wire;
use tonic::Code;

#[tokio::test]
async fn the_same_file_again_continues_and_new_cells_are_added() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    for (alphas, trials, trials_new) in
        [(&[1.0, 0.5][..], 2, 2), (&[1.0, 0.5], 2, 0), (&[1.0, 0.5, 0.25], 3, 1), (&[0.25], 3, 0)]
    {
        let reply = client.submit(&sweep_yaml("s", alphas, 2)).await.unwrap();
        assert_eq!((reply.trials, reply.trials_new), (trials, trials_new), "{alphas:?}");
    }
    let cells = |status: &wire::StatusReply| -> Vec<(u64, u32, f64)> {
        status.trials.iter().map(|trial| (trial.id, trial.number, trial.alpha)).collect()
    };
    let expected = [(1, 1, 1.0), (2, 2, 0.5), (3, 3, 0.25)];
    assert_eq!(cells(&client.status("s").await), expected);
    house.restart().await;
    let mut client = house.client().await;
    assert_eq!(cells(&client.status("s").await), expected);
    let reply = client.submit(&sweep_yaml("s", &[1.0, 0.75], 2)).await.unwrap();
    assert_eq!((reply.trials, reply.trials_new), (4, 1));
}

#[tokio::test]
async fn a_changed_setting_is_refused_with_the_ways_out() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 2)).await.unwrap();
    let refused = client.submit(&sweep_yaml("s", &[1.0], 3)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for part in ["there is a sweep s with another training.epochs", "--new-name", "--replace"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    let reply = client.submit_as(&sweep_yaml("s", &[1.0], 3), Some("s-long"), false).await.unwrap();
    assert_eq!((reply.sweep.as_str(), reply.trials_new), ("s-long", 1));
    let refused = client.submit_as(&sweep_yaml("s", &[1.0], 3), Some("Not A Name"), false).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn replacing_forgets_the_old_one_with_all_that_it_left() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0, 0.5], 2)).await.unwrap();
    let mut agent = house.agent(1, 1, &[]).await;
    let (old, _) = agent.granted().await;
    agent.epoch(old, 1, 0.5).await;
    agent.upload(old, 1, true, b"weights").await.unwrap();
    assert_eq!(files(&house.artifacts()).len(), 1);
    // With the same settings there is nothing to replace.
    let reply = client.submit_as(&sweep_yaml("s", &[1.0, 0.5], 2), None, true).await.unwrap();
    assert_eq!(reply.trials_new, 0);
    let reply = client.submit_as(&sweep_yaml("s", &[0.5], 4), None, true).await.unwrap();
    assert_eq!((reply.trials, reply.trials_new), (1, 1));
    assert_eq!(agent.stopped().await, (old, "superseded".to_owned()));
    // Ids are not given twice, so what is said of the old one cannot be taken for the new one.
    let (new, member) = agent.granted().await;
    assert_eq!((new, member.resume), (token(3, 1), None));
    agent.epoch(old, 2, 0.875).await;
    assert_eq!(agent.stopped().await.0, old);
    assert!(files(&house.artifacts()).is_empty());
    assert!(client.points("s").await.is_empty());
    house.restart().await;
    let mut client = house.client().await;
    let status = client.status("s").await;
    assert_eq!(status.trials.len(), 1);
    assert_eq!((status.trials[0].state.as_str(), status.trials[0].epochs, status.trials[0].number), ("running", 4, 1));
}

#[tokio::test]
async fn a_wrong_file_is_refused_with_all_that_is_wrong() {
    let house = House::open().await;
    let mut client = house.client().await;
    let yaml = sweep_yaml("s", &[1.0], 2).replace("resolution:", "resolutoin:");
    let refused = client.submit(&yaml).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("sweep.yaml:4:3: unknown key \"resolutoin\""), "{}", refused.message());
    assert!(client.0.list(wire::ListRequest {}).await.unwrap().into_inner().sweeps.is_empty());
    let missing = client
        .0
        .status(wire::StatusRequest { sweep: "s".to_owned(), metrics: Vec::new(), metrics_last: Vec::new() })
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
}

#[tokio::test]
async fn a_scripted_sweep_says_so() {
    let house = House::open().await;
    let mut client = house.client().await;
    let yaml = format!("{}script: [{{do: sleep, ms: 1}}]\n", sweep_yaml("s", &[1.0], 2));
    client.submit(&yaml).await.unwrap();
    let status = client.status("s").await;
    assert!(status.summary.unwrap().scripted && status.trials[0].scripted);
}
