//! The store: held by one, and never ahead of what is acknowledged.

mod common;

use common::{CAP, House, capped, sweep_yaml};
use coordinator::{Config, Coordinator, Error, find_running};
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::net::TcpListener;
use tonic::Code;

#[tokio::test]
async fn two_coordinators_on_one_store_are_impossible() {
    let mut house = House::open().await;
    assert_eq!(find_running(&house.store()), Some(house.address.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = Coordinator::open(house.config(), listener).await.unwrap_err().to_string();
    assert!(refused.contains(&house.address) && refused.contains("--coordinator"), "{refused}");
    house.kill();
    tokio::time::timeout(CAP, async {
        while find_running(&house.store()).is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    house.start().await;
    assert_eq!(find_running(&house.store()), Some(house.address.clone()));
}

#[tokio::test]
async fn only_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().join("a.db"), folder.path().join("artifacts"));
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = Coordinator::open(config, listener).await.unwrap_err();
    assert!(matches!(refused, Error::NotLoopback { .. }), "{refused}");
    assert!(!folder.path().join("a.db").exists());
}

#[tokio::test]
async fn what_stops_ends_its_streams() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path().join("a.db"), folder.path().join("artifacts"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let coordinator = Coordinator::open(config.clone(), listener).await.unwrap();
    let address = coordinator.address().to_owned();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(coordinator.serve(async move {
        let _ = stopped.await;
    }));
    let mut agent = common::Agent::attach(&address, 1, 1, &[]).await;
    stop.send(()).unwrap();
    assert_eq!(agent.until_cut_off().await.code(), Code::Unavailable);
    capped("the end", serving).await.unwrap().unwrap();
    assert_eq!(find_running(&config.store), None);
}

#[tokio::test]
async fn what_cannot_be_written_is_not_acknowledged_until_it_is() {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submit(&sweep_yaml("s", &[1.0], 2)).await.unwrap();
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;

    // Somebody else has the file locked for longer than the coordinator waits for it.
    let url = format!("sqlite://{}", house.store().display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let sequence = agent.epoch(lease, 1, 0.5).await;
    // A client that asks before the trouble is known waits; one that asks then is told.
    let told = tokio::time::timeout(CAP, async {
        loop {
            let request = client.control("s", proto::wire::Action::Pause);
            match tokio::time::timeout(std::time::Duration::from_millis(200), request).await {
                Ok(Err(status)) => break status,
                Ok(Ok(())) => panic!("accepted what cannot be written"),
                Err(_) => {}
            }
        }
    });
    let told = told.await.unwrap();
    assert_eq!(told.code(), Code::Unavailable);
    assert!(told.message().contains("cannot be written") && told.message().contains("locked"), "{told}");
    assert!(!agent.is_acknowledged(sequence));
    let seen = client_status(&house).await;
    assert_eq!(seen, 0, "readers see what is on disk");
    other.execute("ROLLBACK").await.unwrap();
    agent.acknowledged(sequence).await;
    assert_eq!(client_status(&house).await, 1);
}

async fn client_status(house: &House) -> u32 {
    house.client().await.status("s").await.trials[0].epochs_done
}
