//! Several replicas of one trial, in one process, on small generated photographs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

mod common;

use access::{Authority, Issue};
use common::{Ear, end, metrics, newest, photographs, tensors, trial};
use crossbeam_channel::{Receiver, unbounded};
use proto::link::{DataPlaces, Exchange, ExchangeRole, Member, Order, Said, Start};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sweeps::ids::{Token, TrialId};
use sweeps::scheduler::{AttemptEnd, StopReason};
use sweeps::trial::Trial;
use trainer::checkpoint::read_header;
use trainer::speech::Speech;

const SECRET: &str = "5ec2e7";

fn settings(gradients: serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "epochs": 3, "batch_size": 16, "learning_rate": 0.01, "dropout": 0.1, "weight_ema": 0.9,
        "gradient_clip_norm": 5, "batch_norm": {"decay": 0.9, "reestimate_batches": 2},
        "replicas": {"min": 1, "max": 4}, "gradients": gradients,
    })
}

fn token(replica: u32) -> Token {
    Token { replica, ..Token::chief(TrialId(1), 1) }
}

/// One trainer, as its agent would start it.
fn run(
    folder: &Path,
    trial: &Trial,
    replica: u32,
    exchange: Option<Exchange>,
    resume: Option<PathBuf>,
    orders: &Receiver<Order>,
    ear: &Ear,
) {
    let member = Member { token: token(replica), trial: trial.clone(), resume, threads: 0, exchange };
    let start = Start {
        members: vec![member],
        device: "cpu".into(),
        threads: 1,
        slots: 1,
        folder: folder.to_owned(),
        data: DataPlaces::default(),
    };
    trainer::cohort::run(start, orders, &Speech::to(Box::new(ear.clone()))).unwrap();
}

fn chief() -> Exchange {
    Exchange { secret: SECRET.into(), credentials: None, role: ExchangeRole::Chief { listen: "127.0.0.1:0".into() } }
}

fn alone(
    folder: &Path,
    trial: &Trial,
    exchange: Option<Exchange>,
    resume: Option<PathBuf>,
    orders: &[Order],
) -> Vec<Said> {
    let (sender, receiver) = unbounded();
    orders.iter().for_each(|order| sender.send(order.clone()).unwrap());
    let ear = Ear::default();
    run(folder, trial, 0, exchange, resume, &receiver, &ear);
    ear.heard()
}

/// Waits for the chief's address.
fn address(ear: &Ear) -> String {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let found = ear.heard().into_iter().find_map(|said| match said {
            Said::Listening { address, .. } => Some(address),
            _ => None,
        });
        match found {
            Some(address) => return address,
            None => assert!(Instant::now() < until, "the chief does not listen"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The chief and as many replicas more; what the chief said, and how the others ended.
fn together(folder: &Path, trial: &Trial, replicas: u32) -> (Vec<Said>, Vec<AttemptEnd>) {
    let ears: Vec<Ear> = (0..=replicas).map(|_| Ear::default()).collect();
    let (_sender, orders) = unbounded();
    std::thread::scope(|scope| {
        scope.spawn(|| run(folder, trial, 0, Some(chief()), None, &orders, &ears[0]));
        let role = ExchangeRole::Replica { chief: address(&ears[0]) };
        for (replica, ear) in (1..).zip(&ears[1..]) {
            let exchange = Exchange { secret: SECRET.into(), credentials: None, role: role.clone() };
            let orders = orders.clone();
            scope.spawn(move || run(folder, trial, replica, Some(exchange), None, &orders, ear));
        }
    });
    (ears[0].heard(), ears[1..].iter().map(|ear| end(&ear.heard(), 1)).collect())
}

/// Metrics of the epochs, without those of the exchange.
fn of_training(said: &[Said]) -> Vec<(u32, String, f64)> {
    let exchange = |name: &str| name.starts_with("staleness") || name == "replicas" || name == "samples_refused";
    metrics(said, 1).into_iter().filter(|(_, name, _)| !exchange(name)).collect()
}

fn metric(said: &[Said], name: &str) -> Vec<f64> {
    metrics(said, 1).into_iter().filter(|(_, known, _)| known == name).map(|(.., value)| value).collect()
}

/// Samples counted in the epochs, by the checkpoint's sums of the last.
fn steps(path: &Path) -> u64 {
    read_header(&std::fs::read(path).unwrap()).unwrap().progress.step
}

#[test]
fn one_replica_gives_the_bits_of_plain_training() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    for gradients in [serde_json::json!({}), serde_json::json!({"mode": "sync"})] {
        let trial = trial(folder.path(), 32, settings(gradients));
        let plain = alone(folder.path(), &trial, None, None, &[]);
        let expected = (tensors(&newest(&plain, 1)), of_training(&plain));
        assert!(expected.1.len() > 20, "{expected:?}");
        let exchanged = alone(folder.path(), &trial, Some(chief()), None, &[]);
        assert_eq!(end(&exchanged, 1), AttemptEnd::Completed);
        assert_eq!((tensors(&newest(&exchanged, 1)), of_training(&exchanged)), expected);
        assert_eq!(metric(&exchanged, "staleness_max"), [0.0; 3]);
        assert_eq!(metric(&exchanged, "replicas"), [1.0; 3]);
    }
}

#[test]
fn a_chief_that_was_stopped_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trial = trial(folder.path(), 32, settings(serde_json::json!({})));
    let whole = alone(folder.path(), &trial, Some(chief()), None, &[]);
    let stop = Order::Stop { token: token(0), reason: StopReason::Pause };
    let stopped = alone(folder.path(), &trial, Some(chief()), None, &[stop]);
    assert_eq!(end(&stopped, 1), AttemptEnd::Stopped);
    let middle = newest(&stopped, 1);
    let progress = read_header(&std::fs::read(&middle).unwrap()).unwrap().progress;
    assert!(progress.epochs_done == 0 && progress.step <= 1 && !progress.holes.is_empty(), "{progress:?}");
    let resumed = alone(folder.path(), &trial, Some(chief()), Some(middle), &[]);
    assert_eq!(tensors(&newest(&resumed, 1)), tensors(&newest(&whole, 1)));
    assert_eq!(of_training(&resumed), of_training(&whole));
}

#[test]
fn replicas_share_the_epochs() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    for (gradients, updates) in [
        (serde_json::json!({}), Some(15)),
        (serde_json::json!({"wire": "bf16", "push_every": 2, "staleness_lr": "inverse"}), None),
        (serde_json::json!({"delay_compensation": 0.04, "max_staleness": 20}), Some(15)),
        (serde_json::json!({"mode": "sync"}), None),
    ] {
        let trial = trial(folder.path(), 32, settings(gradients.clone()));
        let (said, ends) = together(folder.path(), &trial, 2);
        assert_eq!(end(&said, 1), AttemptEnd::Completed, "{gradients}");
        assert_eq!(ends, [AttemptEnd::Completed, AttemptEnd::Completed], "{gradients}");
        assert_eq!(metric(&said, "val_top1").len(), 3, "{gradients}");
        assert_eq!(metric(&said, "samples_refused"), [0.0; 3], "{gradients}");
        let header = read_header(&std::fs::read(newest(&said, 1)).unwrap()).unwrap();
        assert_eq!((header.progress.epochs_done, header.progress.holes), (3, vec![]), "{gradients}");
        if let Some(updates) = updates {
            assert_eq!(steps(&newest(&said, 1)), updates, "every batch of every epoch once: {gradients}");
        }
    }
}

/// An address of this machine that is not on loopback; where there is none, one that does not look like it.
fn own_address() -> IpAddr {
    // Nothing is sent: the kernel says by which address it would be.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let found = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
    found
        .ok()
        .filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
        .unwrap_or(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into())
}

#[test]
fn replicas_on_other_hosts_speak_tls() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let (own, certs) = (own_address(), folder.path().join("certs"));
    Authority::init(&certs, 30).unwrap();
    let issue = |name: &str, hosts: &[String]| {
        Authority::open(&certs).unwrap().issue(&Issue { name, hosts, days: 30 }).unwrap()
    };
    let (with_host, without) = (issue("chief", &[own.to_string()]), issue("node7", &[]));
    // Long enough that the replica finds something left to do.
    let mut settings = settings(serde_json::json!({}));
    settings["epochs"] = serde_json::json!(12);
    let trial = trial(folder.path(), 32, settings);
    let ears = [Ear::default(), Ear::default()];
    let (_sender, orders) = unbounded();
    std::thread::scope(|scope| {
        // On all addresses: by the one that it says, replicas would find the socket of this host.
        let listen = if own.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }.to_owned();
        let role = ExchangeRole::Chief { listen };
        let chief = Exchange { secret: SECRET.into(), credentials: Some(with_host), role };
        let (trial, folder, orders) = (&trial, folder.path(), &orders);
        let (chief_ear, node_ear) = (&ears[0], &ears[1]);
        scope.spawn(move || run(folder, trial, 0, Some(chief), None, orders, chief_ear));
        let port: SocketAddr = address(chief_ear).parse().unwrap();
        let chief = SocketAddr::new(own, port.port()).to_string();
        let role = ExchangeRole::Replica { chief };
        let shown = Exchange { secret: SECRET.into(), credentials: Some(without), role };
        scope.spawn(move || run(folder, trial, 1, Some(shown), None, orders, node_ear));
    });
    assert_eq!(end(&ears[0].heard(), 1), AttemptEnd::Completed);
    assert_eq!(end(&ears[1].heard(), 1), AttemptEnd::Completed);
    assert!(metric(&ears[0].heard(), "replicas").iter().any(|replicas| *replicas > 1.0));
}

/// A replica without the secret does no harm, and the trial goes on without it.
#[test]
fn a_stranger_is_turned_away() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let trial = trial(folder.path(), 32, settings(serde_json::json!({})));
    let ears = [Ear::default(), Ear::default()];
    let (_sender, orders) = unbounded();
    let orders = Arc::new(orders);
    std::thread::scope(|scope| {
        scope.spawn(|| run(folder.path(), &trial, 0, Some(chief()), None, &orders, &ears[0]));
        let role = ExchangeRole::Replica { chief: address(&ears[0]) };
        let exchange = Exchange { secret: "wrong".into(), credentials: None, role };
        run(folder.path(), &trial, 1, Some(exchange), None, &orders, &ears[1]);
    });
    assert_eq!(end(&ears[0].heard(), 1), AttemptEnd::Completed);
    assert_eq!(end(&ears[1].heard(), 1), AttemptEnd::Stopped);
    assert!(
        ears[1].heard().iter().any(|said| matches!(said, Said::Log { text, .. } if text.contains("not the secret")))
    );
}
