//! A coordinator with TLS: who gets in, and what each may do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use access::{Authority, Connection, Credentials, Issue, Role, TOKEN_FILE, Token};
use common::{Agent, CAP, Client, capped, connect_with, sweep_yaml};
use coordinator::{Config, Coordinator, Error};
use proto::wire;
use proto::wire::report::Body as Reports;
use proto::wire::sweeps_client::SweepsClient;
use proto::wire::tokens_client::TokensClient;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use sweeps::scheduler::AttemptEnd;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

/// A coordinator that demands certificates and tokens, and the folder of all of them.
struct Castle {
    folder: TempDir,
    runtime: Option<Runtime>,
    address: String,
}

impl Castle {
    async fn open(names: &[(&str, Role)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut castle = Self { folder, runtime: None, address: String::new() };
        Authority::init(&castle.certs(), 30).unwrap();
        castle.issue("coordinator", &["castle.example.org".to_owned()]);
        // The first tokens are made where nobody is asked.
        castle.start(None).await;
        for (name, role) in names {
            castle.issue(name, &[]);
            castle.put(None, name, Some(*role)).await.unwrap();
        }
        castle.stop();
        castle.start(Some("coordinator")).await;
        castle
    }

    fn certs(&self) -> PathBuf {
        self.folder.path().join("certs")
    }

    fn config(&self) -> Config {
        Config::new(self.folder.path().join("store.db"), self.folder.path().join("artifacts"))
    }

    fn issue(&self, name: &str, hosts: &[String]) {
        Authority::open(&self.certs()).unwrap().issue(&Issue { name, hosts, days: 30 }).unwrap();
    }

    fn credentials(&self, name: &str) -> Credentials {
        Credentials::read(&self.certs().join(name)).unwrap()
    }

    async fn start(&mut self, name: Option<&str>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = Config { credentials: name.map(|name| self.credentials(name)), ..self.config() };
        let opened = runtime.spawn(async move {
            loop {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                match Coordinator::open(config.clone(), listener).await {
                    Ok(coordinator) => break coordinator,
                    // The one before may still be letting go.
                    Err(Error::Lock(_)) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let coordinator = capped("a coordinator", opened).await.unwrap();
        self.address = coordinator.address().to_owned();
        runtime.spawn(coordinator.serve(std::future::pending()));
        self.runtime = Some(runtime);
    }

    fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    async fn connect(&self, name: Option<&str>) -> Connection {
        let shown = name.map(|name| self.credentials(name));
        connect_with(&self.address, shown.as_ref()).await.unwrap()
    }

    async fn client(&self, name: &str) -> Client {
        Client(SweepsClient::new(self.connect(Some(name)).await))
    }

    async fn tokens(&self, name: Option<&str>) -> TokensClient<Connection> {
        TokensClient::new(self.connect(name).await)
    }

    /// Puts a token into the folder of a name; without a role, in place of the one that is there.
    async fn put(&self, by: Option<&str>, name: &str, role: Option<Role>) -> Result<wire::TokenStatus, Status> {
        let token = Token::draw().unwrap();
        let request = wire::PutTokenRequest {
            name: name.to_owned(),
            role: role.map_or("", Role::word).to_owned(),
            id: token.id().to_owned(),
            hash: token.hash().to_vec(),
            replaced_after_ms: role.is_none().then_some(0),
        };
        let put = self.tokens(by).await.put(request).await?.into_inner();
        write_token(&self.certs().join(name), &token);
        Ok(put.token.unwrap())
    }

    async fn agent(&self, name: &str, worker: u64) -> Result<Agent, Status> {
        Agent::attach_by(self.connect(Some(name)).await, worker, 1, &[]).await
    }
}

impl Drop for Castle {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn write_token(folder: &Path, token: &Token) {
    let file = folder.join(TOKEN_FILE);
    std::fs::write(&file, token.text()).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
}

const ALL: [(&str, Role); 5] = [
    ("alice", Role::Admin),
    ("sue", Role::Submit),
    ("rita", Role::Read),
    ("node1", Role::Worker),
    ("node2", Role::Worker),
];

#[tokio::test]
async fn each_role_may_do_what_it_is_for() {
    let castle = Castle::open(&ALL).await;
    let sweep = sweep_yaml("roles", &[1.0], 1);
    for (worker, name, [looks, submits, trains, rules]) in [
        (1, "alice", [true, true, true, true]),
        (2, "sue", [true, true, false, false]),
        (3, "rita", [true, false, false, false]),
        (4, "node1", [false, false, true, false]),
    ] {
        let mut client = castle.client(name).await;
        client.0.info(wire::InfoRequest {}).await.unwrap();
        let check = |what: &str, result: Result<(), Status>, expected: bool| match result {
            Ok(()) => assert!(expected, "{name} {what}"),
            Err(status) => {
                assert_eq!((status.code(), expected), (Code::PermissionDenied, false), "{name} {what}: {status}");
                assert!(status.message().contains(name), "{status}");
            }
        };
        check("looks", client.0.list(wire::ListRequest {}).await.map(drop), looks);
        check("submits", client.submit(&sweep).await.map(drop), submits);
        let listed = castle.tokens(Some(name)).await.list(wire::ListTokensRequest {}).await;
        check("rules", listed.map(drop), rules);
        check("trains", castle.agent(name, worker).await.map(drop), trains);
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_certificate_and_a_token_of_one_name() {
    let castle = Castle::open(&ALL).await;
    let list = async |connection: Connection| {
        let mut client = SweepsClient::new(connection);
        client.list(wire::ListRequest {}).await.map(drop).unwrap_err()
    };
    let refused = |status: &Status, words: &str| {
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains(words), "{status}");
    };
    // No token.
    castle.issue("eve", &[]);
    refused(&list(castle.connect(Some("eve")).await).await, "none was shown");
    // One that nobody made.
    write_token(&castle.certs().join("eve"), &Token::draw().unwrap());
    refused(&list(castle.connect(Some("eve")).await).await, "not good here");
    // Somebody else's.
    write_token(&castle.certs().join("eve"), castle.credentials("alice").token().unwrap());
    refused(&list(castle.connect(Some("eve")).await).await, "alice's, and the certificate is not");
    // A certificate of another authority: of the right name, and with a good token.
    let elsewhere = tempfile::tempdir().unwrap();
    Authority::init(elsewhere.path(), 30).unwrap();
    let other =
        Authority::open(elsewhere.path()).unwrap().issue(&Issue { name: "alice", hosts: &[], days: 30 }).unwrap();
    write_token(&other, castle.credentials("alice").token().unwrap());
    let told = connect_with(&castle.address, Some(&Credentials::read(&other).unwrap())).await.map(drop).unwrap_err();
    assert!(told.contains("another authority"), "{told}");
    // The same, but believing the coordinator: now it is the coordinator that does not believe.
    std::fs::copy(castle.certs().join("alice/ca.pem"), other.join("ca.pem")).unwrap();
    let shown = Credentials::read(&other).unwrap();
    match connect_with(&castle.address, Some(&shown)).await {
        Err(told) => assert!(!told.is_empty()),
        Ok(connection) => assert_ne!(list(connection).await.code(), Code::Ok),
    }
    // None at all.
    let authority = std::fs::read(castle.certs().join("alice/ca.pem")).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    let endpoint = Endpoint::from_shared(castle.address.clone()).unwrap().tls_config(tls).unwrap();
    if let Ok(channel) = endpoint.connect().await {
        assert!(SweepsClient::new(channel).info(wire::InfoRequest {}).await.is_err());
    }
    // Not even TLS.
    let plain = castle.address.replace("https", "http");
    if let Ok(connection) = connect_with(&plain, None).await {
        list(connection).await;
    }
    assert!(castle.client("alice").await.0.list(wire::ListRequest {}).await.is_ok());
}

#[tokio::test]
async fn a_worker_acts_on_its_own_leases_alone() {
    let mut castle = Castle::open(&ALL).await;
    let mut client = castle.client("alice").await;
    client.submitted(&sweep_yaml("own", &[1.0, 0.5], 2)).await;
    let mut own = castle.agent("node1", 1).await.unwrap();
    let (token, _) = own.granted().await;
    let mut foreign = castle.agent("node2", 2).await.unwrap();
    let (of_foreign, _) = foreign.granted().await;

    // Its stream.
    let refused = castle.agent("node2", 1).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    // Its reports.
    foreign.epoch(token, 1, 0.5).await;
    assert_eq!(foreign.stopped().await, (token, "superseded".to_owned()));
    foreign.end(token, &AttemptEnd::Failed { reason: "out of spite".to_owned() }).await;
    let lines = Reports::Log(wire::LogLines { lines: vec!["lies".to_owned()] });
    let said = foreign.report(token, lines).await;
    foreign.acknowledged(said).await;
    // Its checkpoints.
    let refused = foreign.upload(token, 1, true, b"poison").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let lines = Reports::Log(wire::LogLines { lines: vec!["truth".to_owned()] });
    own.report(token, lines).await;
    let said = own.epoch(token, 1, 0.75).await;
    own.acknowledged(said).await;
    let checkpoint = own.upload(token, 1, true, b"good").await.unwrap();
    assert_eq!(own.download(checkpoint).await.unwrap(), b"good");
    let refused = foreign.download(checkpoint).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(foreign.upload(of_foreign, 1, true, b"its own").await.is_ok());

    let status = client.status("own").await;
    let trial = status.trials.iter().find(|trial| trial.id == token.trial.0).unwrap();
    assert_eq!((trial.state.as_str(), trial.epochs_done, trial.last["val_top1"]), ("running", 1, 0.75));
    let request = wire::LogsRequest { trial: token.trial.0, follow: false };
    let batch = client.0.logs(request).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(batch.lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["truth"]);

    // A restart changes nothing of it, whoever comes first.
    castle.stop();
    castle.start(Some("coordinator")).await;
    let holding = [(0, token)];
    let connection = castle.connect(Some("node2")).await;
    let refused = Agent::attach_by(connection, 1, 1, &holding).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    let connection = castle.connect(Some("node1")).await;
    let mut own = Agent::attach_by(connection, 1, 1, &holding).await.unwrap();
    let said = own.epoch(token, 2, 0.8).await;
    own.acknowledged(said).await;
}

#[tokio::test]
async fn tokens_are_rotated_and_revoked_while_streams_are_open() {
    let castle = Castle::open(&ALL).await;
    let mut agent = castle.agent("node1", 1).await.unwrap();
    let mut reader = castle.client("rita").await;
    let request = wire::WatchRequest { follow: true, workers: true, ..wire::WatchRequest::default() };
    let mut events = reader.0.watch(request).await.unwrap().into_inner();

    let taken = castle.put(Some("alice"), "node1", Some(Role::Worker)).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
    let nobody = castle.put(Some("alice"), "bob", None).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound, "{nobody}");
    let listed = castle.tokens(Some("alice")).await.list(wire::ListTokensRequest {}).await.unwrap().into_inner().tokens;
    let names: Vec<&str> = listed.iter().map(|token| token.name.as_str()).collect();
    assert_eq!(names, ["alice", "node1", "node2", "rita", "sue"]);

    // A new one in its place: the old one's streams end, and the new one has its role.
    let before = castle.connect(Some("node1")).await;
    let rotated = castle.put(Some("alice"), "node1", None).await.unwrap();
    assert_eq!(rotated.role, "worker");
    assert_eq!(agent.until_cut_off().await.code(), Code::Unauthenticated);
    let refused = Agent::attach_by(before, 1, 1, &[]).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    castle.agent("node1", 1).await.unwrap();

    let request = wire::RevokeTokenRequest { name: "rita".to_owned() };
    let revoked = castle.tokens(Some("alice")).await.revoke(request.clone()).await.unwrap().into_inner();
    assert_eq!(revoked.tokens, 1);
    let ended = capped("the end of a stream", async {
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(status) => break status,
            }
        }
    });
    assert_eq!(ended.await.code(), Code::Unauthenticated);
    assert_eq!(reader.0.list(wire::ListRequest {}).await.unwrap_err().code(), Code::Unauthenticated);
    let again = castle.tokens(Some("alice")).await.revoke(request).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);

    // Of all this the store has hashes alone.
    let mut store = Vec::new();
    for file in ["store.db", "store.db-wal"] {
        store.extend(std::fs::read(castle.folder.path().join(file)).unwrap_or_default());
    }
    let has = |needle: &[u8]| store.windows(needle.len()).any(|bytes| bytes == needle);
    for name in ["alice", "node1", "sue"] {
        let token = castle.credentials(name).token().unwrap().clone();
        let text = token.text();
        let secret = text.rsplit('_').next().unwrap();
        assert!(has(token.id().as_bytes()) && has(&token.hash()), "{name}");
        assert!(!has(secret.as_bytes()) && !has(&hex::decode(secret).unwrap()), "{name}");
    }
}

#[tokio::test]
async fn off_loopback_there_must_be_certificates_and_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path().join("certs");
    Authority::init(&certs, 30).unwrap();
    let authority = Authority::open(&certs).unwrap();
    let hosts = ["castle.example.org".to_owned()];
    let listening = authority.issue(&Issue { name: "coordinator", hosts: &hosts, days: 30 }).unwrap();
    let calling = authority.issue(&Issue { name: "alice", hosts: &[], days: 30 }).unwrap();
    let open = async |credentials: Option<&Path>| {
        let credentials = credentials.map(|folder| Credentials::read(folder).unwrap());
        let config =
            Config { credentials, ..Config::new(folder.path().join("store.db"), folder.path().join("artifacts")) };
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        tokio::time::timeout(CAP, Coordinator::open(config, listener)).await.unwrap().unwrap_err().to_string()
    };
    let refused = open(None).await;
    for command in ["alpharho certs init", "certs issue coordinator --host", "tokens create me --role admin"] {
        assert!(refused.contains(command), "{refused}");
    }
    let refused = open(Some(&calling)).await;
    assert!(refused.contains("names no host") && refused.contains("--host"), "{refused}");
    let refused = open(Some(&listening)).await;
    assert!(refused.contains("no token yet") && refused.contains("alpharho tokens create"), "{refused}");
}
