//! Disks with little room.

mod common;

use common::{House, sweep_yaml};
use tonic::Code;

/// More than any disk has.
const ALL: Option<u64> = Some(u64::MAX / 2);

#[tokio::test]
async fn with_little_room_no_trial_is_begun_what_runs_goes_on_and_with_room_all_does() {
    let mut house = House::with_heartbeat(100).await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0, 0.5], 2)).await;
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    house.disk_reserve_bytes = ALL;
    house.restart().await;
    let mut agent = house.agent(1, 2, &[(0, lease)]).await;
    let mut client = house.client().await;
    let why = client.explain(2).await;
    assert!(why.contains("no trial is begun now: little room on the disk of") && why.contains("are kept"), "{why}");
    let info = client.0.info(proto::wire::InfoRequest {}).await.unwrap().into_inner();
    assert!(info.held.starts_with("little room"), "{}", info.held);
    // The one that runs is not stopped, and what it says is taken.
    let sequence = agent.epoch(lease, 1, 0.5).await;
    agent.acknowledged(sequence).await;
    agent.upload(lease, 1, true, b"weights").await.unwrap();
    assert!(client.explain(1).await.contains("1 of 2 epochs are done"));
    house.disk_reserve_bytes = Some(0);
    house.restart().await;
    let mut agent = house.agent(1, 2, &[(0, lease)]).await;
    assert_eq!(agent.granted().await.0.trial.0, 2);
    let mut client = house.client().await;
    assert_eq!(client.0.info(proto::wire::InfoRequest {}).await.unwrap().into_inner().held, "");
    assert!(client.event("", "leases_held").await.contains("little room"));
}

#[tokio::test]
async fn a_sweep_whose_checkpoints_have_no_room_is_refused_with_numbers() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("known", &[1.0], 2)).await;
    house.disk_reserve_bytes = ALL;
    house.restart().await;
    let mut client = house.client().await;
    let refused = client.submit(&sweep_yaml("new", &[1.0], 2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for part in ["the checkpoints of sweep new have no room", "are needed on the disk of", "--artifacts"] {
        assert!(refused.message().contains(part), "{}", refused.message());
    }
    let scripted = format!("{}script: []\n", sweep_yaml("scripted", &[1.0], 2));
    assert_eq!(client.submit(&scripted).await.unwrap().trials_new, 1, "a script's checkpoints are a few bytes");
}
