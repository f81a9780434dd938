//! Replicas of one trial: introduced to their chief, remembered by nobody, recognised again.

mod common;

use common::{Agent, House, sweep_yaml, token};
use proto::wire::report::Body;
use proto::wire::{self};
use sweeps::ids::{Token, TrialId};
use sweeps::scheduler::AttemptEnd;
use tonic::Code;

const CHIEF: &str = "10.0.0.5:43121";

fn elastic(name: &str) -> String {
    sweep_yaml(name, &[1.0], 3).replace("epochs: 3", "epochs: 3, replicas: {min: 1, max: 3}")
}

async fn listen(agent: &mut Agent, lease: Token) {
    let sequence = agent.report(lease, Body::Listening(wire::Listening { address: CHIEF.to_owned() })).await;
    agent.acknowledged(sequence).await;
}

fn replica(number: u32) -> Token {
    Token::replica(TrialId(1), 1, number)
}

#[tokio::test]
async fn replicas_are_given_the_address_and_the_secret_of_their_chief_and_survive_a_restart() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    client.submit(&elastic("s")).await.unwrap();
    let mut chief = house.agent(1, 1, &[]).await;
    let mut helper = house.agent(2, 1, &[]).await;
    let (lease, member) = chief.granted().await;
    let of_chief = member.exchange.unwrap();
    assert_eq!((lease, of_chief.chief), (token(1, 1), None));
    assert!(of_chief.secret.len() == 64 && of_chief.secret.chars().all(|c| c.is_ascii_hexdigit()));
    chief.upload(lease, 1, true, b"after one epoch").await.unwrap();
    listen(&mut chief, lease).await;
    let (helping, member) = helper.granted().await;
    assert_eq!((helping, member.resume, member.threads), (replica(1), None, 0));
    let of_helper = member.exchange.unwrap();
    assert_eq!((of_helper.chief.as_deref(), of_helper.secret.as_str()), (Some(CHIEF), of_chief.secret.as_str()));
    assert_eq!(client.status("s").await.trials[0].replicas, 2);
    let text = client.explain(1).await;
    assert!(text.contains("runs on host1, cpu") && text.contains("it is helped by replica 1 on host2, cpu"), "{text}");
    // What it says of epochs is not its to say, and its checkpoints are nobody's.
    let sequence = helper.epoch(helping, 1, 0.9).await;
    helper.acknowledged(sequence).await;
    let refused = helper.upload(helping, 1, true, b"mine").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert_eq!(client.status("s").await.trials[0].epochs_done, 0);

    house.restart().await;
    let mut client = house.client().await;
    let mut helper = house.agent(2, 1, &[(0, helping)]).await;
    let mut chief = house.agent(1, 1, &[(0, lease)]).await;
    let mut late = house.agent(3, 1, &[]).await;
    let (joined, member) = late.granted().await;
    let of_late = member.exchange.unwrap();
    assert_eq!((joined, of_late.secret, of_late.chief.as_deref()), (replica(2), of_chief.secret.clone(), Some(CHIEF)));
    assert_eq!(client.status("s").await.trials[0].replicas, 3);

    // A replica that dies costs the trial nothing.
    let crashed = AttemptEnd::Crashed { reason: "signal 9".to_owned() };
    let ended = late.end(joined, &crashed).await;
    late.acknowledged(ended).await;
    for epoch in 1..=3 {
        chief.epoch(lease, epoch, 0.5).await;
    }
    let ended = chief.end(lease, &AttemptEnd::Completed).await;
    chief.acknowledged(ended).await;
    assert_eq!(helper.stopped().await, (helping, "superseded".to_owned()));
    // Its own word crossed ours: that is nobody's fault.
    let crossed = helper.end(helping, &AttemptEnd::Completed).await;
    helper.acknowledged(crossed).await;
    let trial = client.status("s").await.trials.remove(0);
    assert_eq!((trial.state.as_str(), trial.attempts, trial.replicas), ("completed", 1, 0));
    let events = client.events("s", 0).await;
    let told: Vec<&str> =
        events.iter().map(|event| event.json.as_str()).filter(|json| json.contains("replica_")).collect();
    let expected = [
        ("replica_joined", "host2"),
        ("replica_joined", "host2"),
        ("replica_joined", "host3"),
        ("replica_left", "signal 9"),
        ("replica_left", "the trial is done"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (json, (kind, word)) in told.iter().zip(expected) {
        assert!(json.contains(kind) && json.contains(word), "{json}: {kind}, {word}");
    }
    assert!(!events.iter().any(|event| event.json.contains(&of_chief.secret)), "the secret is told to nobody else");
    assert!(!events.iter().any(|event| event.json.contains("report_refused")), "{events:?}");
}

#[tokio::test]
async fn a_trial_for_one_replica_exchanges_nothing() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 3)).await.unwrap();
    let mut agent = house.agent(1, 2, &[]).await;
    let (lease, member) = agent.granted().await;
    assert_eq!(member.exchange, None);
    listen(&mut agent, lease).await;
    assert_eq!(client.status("s").await.trials[0].replicas, 1);
}
