//! Stores that are checked, copied, and of older versions.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Agent, Client, House, files, sweep_yaml};
use coordinator::upkeep::{backup, check};
use coordinator::{Config, Coordinator};
use sqlx::{Connection, Executor, Row, SqliteConnection};
use std::path::{Path, PathBuf};
use sweeps::scheduler::AttemptEnd;
use tokio::net::TcpListener;

/// A trial that has saved after epochs 1 and 2 of 5, and runs.
async fn saved() -> (House, Client, Agent) {
    let house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&sweep_yaml("s", &[1.0], 5)).await;
    let mut agent = house.agent(1, 1, &[]).await;
    let (lease, _) = agent.granted().await;
    for (epoch, best) in [(1, true), (2, false)] {
        let sequence = agent.epoch(lease, epoch, 0.5).await;
        agent.acknowledged(sequence).await;
        agent.upload(lease, epoch, best, format!("after epoch {epoch}").as_bytes()).await.unwrap();
    }
    (house, client, agent)
}

#[tokio::test]
async fn a_check_names_what_is_damaged_or_missing_while_the_store_is_in_use() {
    let (house, ..) = saved().await;
    let look = async |hashes| check(&house.store(), &house.artifacts(), hashes).await.unwrap();
    let checked = look(true).await;
    assert_eq!((checked.sweeps, checked.trials, checked.checkpoints, checked.checkpoint_bytes), (1, 1, 2, 26));
    assert!(checked.problems.is_empty() && checked.notes.is_empty(), "{checked:?}");
    let names = files(&house.artifacts());
    std::fs::write(house.artifacts().join(&names[0]), "After epoch 1").unwrap();
    std::fs::remove_file(house.artifacts().join(&names[1])).unwrap();
    std::fs::write(house.artifacts().join("s/trial-1/epoch-0009-step-000001-00000000.safetensors"), "x").unwrap();
    let checked = look(true).await;
    assert_eq!(checked.problems.len(), 2, "{checked:?}");
    assert!(checked.problems[0].contains("after epoch 1") && checked.problems[0].contains("SHA-256"));
    assert!(checked.problems[1].contains("cannot be read"));
    assert!(checked.notes[0].starts_with("1 checkpoints in "), "{checked:?}");
    assert_eq!(look(false).await.problems.len(), 1, "a quick look reads no bytes");
}

#[tokio::test]
async fn a_backup_made_while_a_trial_runs_is_a_store_that_goes_on() {
    let (house, _client, mut agent) = saved().await;
    let to = house.folder.path().join("copy");
    let made = backup(&house.store(), &house.artifacts(), &to, true).await.unwrap();
    assert_eq!((made.checkpoints, made.checkpoint_bytes, made.problems.len()), (2, 26, 0));
    let refused = backup(&house.store(), &house.artifacts(), &to, true).await.unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");
    // What comes after it is not in it.
    let sequence = agent.epoch(common::token(1, 1), 3, 0.75).await;
    agent.acknowledged(sequence).await;
    let checked = check(&made.store, &to.join("artifacts"), true).await.unwrap();
    assert!(checked.problems.is_empty() && checked.notes.is_empty(), "{checked:?}");
    let config = Config { heartbeat_ms: 100, ..Config::new(&made.store, to.join("artifacts")) };
    let coordinator = Coordinator::open(config, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap();
    let address = coordinator.address().to_owned();
    let serving = tokio::spawn(coordinator.serve(std::future::pending()));
    let mut other = Agent::attach(&address, 2, 1, &[]).await;
    let (lease, member) = other.granted().await;
    assert_eq!((lease.attempt, member.resume.unwrap().epoch), (2, 2));
    serving.abort();
    let bare = backup(&house.store(), &house.artifacts(), &house.folder.path().join("bare"), false).await.unwrap();
    assert_eq!(bare.checkpoints, 0);
}

#[tokio::test]
async fn what_is_no_store_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let said = async || check(&path, folder.path(), true).await.unwrap_err().to_string();
    std::fs::write(&path, "no database at all, but as long as a page of one; ".repeat(100)).unwrap();
    assert!(said().await.contains("is damaged"), "{}", said().await);
    let (house, ..) = saved().await;
    std::fs::remove_file(&path).unwrap();
    let made = backup(&house.store(), &house.artifacts(), &folder.path().join("copy"), false).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (29991231000000, 'later', 1, x'00', 0)";
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", made.store.display())).await.unwrap();
    connection.execute(newer).await.unwrap();
    drop(connection.close().await);
    let refused = check(&made.store, folder.path(), true).await.unwrap_err().to_string();
    assert!(refused.contains("written by a newer alpharho"), "{refused}");
    // Half of its pages are gone.
    let length = std::fs::metadata(&made.store).unwrap().len();
    std::fs::File::options().write(true).open(&made.store).unwrap().set_len(length / 2).unwrap();
    let config = Config::new(&made.store, folder.path().join("artifacts"));
    let refused = Coordinator::open(config, TcpListener::bind("127.0.0.1:0").await.unwrap()).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("is damaged") && refused.contains("put a backup in its place"), "{refused}");
}

fn stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores")
}

/// Versions of the schema, oldest first.
fn versions() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut versions: Vec<String> = names.map(|name| name.split('_').next().unwrap().to_owned()).collect();
    versions.sort();
    versions
}

/// Each file is a store as a coordinator of that version left it: a sweep of two trials, one completed and one that had
/// saved after its first epoch when everything stopped.
#[tokio::test]
async fn a_store_of_each_schema_there_ever_was_is_brought_up_to_date_and_goes_on() {
    for version in versions() {
        let dump = stores().join(format!("{version}.sql"));
        let dump = std::fs::read_to_string(&dump).unwrap_or_else(|error| {
            panic!("{}: {error}; make one with `cargo test -p alpharho-coordinator -- --ignored dump`", dump.display())
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.db");
        let url = format!("sqlite://{}?mode=rwc", path.display());
        let mut connection = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(dump)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let config = Config { heartbeat_ms: 50, ..Config::new(&path, folder.path().join("artifacts")) };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let coordinator =
            Coordinator::open(config, listener).await.unwrap_or_else(|error| panic!("{version}: {error}"));
        let address = coordinator.address().to_owned();
        let serving = tokio::spawn(coordinator.serve(std::future::pending()));
        let mut client = Client::at(&address).await;
        let status = client.status("old").await;
        let trials: Vec<_> = status.trials.iter().map(|trial| (trial.state.as_str(), trial.epochs_done)).collect();
        assert_eq!(trials[0], ("completed", 2), "{version}");
        assert_eq!((trials[1].1, status.trials[0].best["val_top1"]), (1, 0.75), "{version}");
        let reply = client.submit(&old_sweep()).await.unwrap_or_else(|error| panic!("{version}: {error}"));
        assert_eq!((reply.trials, reply.trials_new), (2, 0), "{version}: the same keys");
        let mut agent = Agent::attach(&address, 7, 1, &[]).await;
        let (lease, _) = agent.granted().await;
        assert_eq!((lease.trial.0, lease.attempt), (2, 2), "{version}");
        agent.epoch(lease, 2, 0.5).await;
        let ended = agent.end(lease, &AttemptEnd::Completed).await;
        agent.acknowledged(ended).await;
        assert!(client.status("old").await.trials.iter().all(|trial| trial.state == "completed"), "{version}");
        serving.abort();
    }
}

fn old_sweep() -> String {
    sweep_yaml("old", &[1.0, 0.5], 2)
}

/// Writes the present version's file: once, when a migration is added.
#[tokio::test]
#[ignore = "writes a file into the tree"]
async fn dump_a_store_of_the_present_schema() {
    let mut house = House::open().await;
    let mut client = house.client().await;
    client.submitted(&old_sweep()).await;
    let mut agent = house.agent(1, 1, &[]).await;
    for epochs in [2, 1] {
        let (lease, _) = agent.granted().await;
        for epoch in 1..=epochs {
            let sequence = agent.epoch(lease, epoch, 0.75).await;
            agent.acknowledged(sequence).await;
            agent.upload(lease, epoch, true, b"weights").await.unwrap();
        }
        if epochs == 2 {
            agent.end(lease, &AttemptEnd::Completed).await;
        }
    }
    house.kill();
    let url = format!("sqlite://{}", house.store().display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let dump = dump(&mut connection).await;
    std::fs::write(stores().join(format!("{}.sql", versions().pop().unwrap())), dump).unwrap();
}

async fn dump(connection: &mut SqliteConnection) -> String {
    let mut text = String::from("BEGIN;\n");
    let schema = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
                  ORDER BY CASE type WHEN 'table' THEN 0 ELSE 1 END, rowid";
    let parts = connection.fetch_all(schema).await.unwrap();
    let mut later = String::new();
    for part in parts {
        let (kind, name, sql): (String, String, String) = (part.get(0), part.get(1), part.get(2));
        if kind != "table" {
            later += &format!("{sql};\n");
            continue;
        }
        text += &format!("{sql};\n");
        text += &rows(connection, &name).await;
    }
    let sequences = rows(connection, "sqlite_sequence").await;
    format!("{text}{later}DELETE FROM sqlite_sequence;\n{sequences}COMMIT;\n")
}

async fn rows(connection: &mut SqliteConnection, table: &str) -> String {
    let columns =
        format!("SELECT group_concat('quote(\"' || name || '\")', ' || '', '' || ') FROM pragma_table_info('{table}')");
    let columns: String = sqlx::query_scalar(sqlx::AssertSqlSafe(columns)).fetch_one(&mut *connection).await.unwrap();
    let values = format!("SELECT {columns} FROM \"{table}\"");
    let values: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(values)).fetch_all(connection).await.unwrap();
    values.iter().map(|values| format!("INSERT INTO \"{table}\" VALUES ({values});\n")).collect()
}
