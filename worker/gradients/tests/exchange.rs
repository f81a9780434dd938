//! A chief and its replicas over a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail so")]

use access::{Authority, Credentials, Issue};
use gradients::chief::{Chief, Finished, Master, Phase, Place, Settings, Tally, Verdict};
use gradients::remote::{Caller, Remote};
use gradients::rmsprop::Rule;
use gradients::service::{Listening, listen};
use gradients::shared::{Local, Shared};
use gradients::values::Values;
use gradients::{Exchange, ExchangeError};
use proto::gradients::gradients_client::GradientsClient;
use proto::gradients::push_part::Part;
use proto::gradients::{self as wire, PushPart, PushRequest};
use std::sync::Arc;
use std::time::Duration;
use sweeps::ids::{Token, TrialId};
use sweeps::spec::model::{GradientMode, Gradients, Optimizer, Precision};
use tonic::{Code, Request};

const VALUES: usize = 1000;
const SAMPLES: u64 = 320;
const BATCH: u64 = 8;
const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn token(replica: u32) -> Token {
    Token { trial: TrialId(7), attempt: 2, replica, incarnation: 1 }
}

fn shared(gradients: Gradients) -> Arc<Shared> {
    let settings = Settings {
        rule: Rule {
            optimizer: Optimizer { epsilon: 0.01, ..Optimizer::default() },
            decays: vec![(0..VALUES, 0.0)],
            clip_norm: None,
            average_decay: None,
        },
        gradients,
        learning_rate: Box::new(|_| 0.01),
        samples: SAMPLES,
        batch_size: BATCH,
    };
    let master = Master {
        weights: vec![1.0; VALUES],
        mean_square: vec![1.0; VALUES],
        momentum: vec![0.0; VALUES],
        average: None,
    };
    let place = Place { epoch: 0, version: 0, next: 0, holes: vec![] };
    Shared::new(Chief::new(settings, master, &place, Tally::default(), Tally::default()))
}

fn serve(shared: &Arc<Shared>) -> Listening {
    listen(shared, token(0), SECRET, "127.0.0.1:0", None).unwrap()
}

fn caller(listening: &Listening, replica: u32, gradients: Gradients) -> Caller {
    Caller {
        chief: listening.address.to_string(),
        token: token(replica),
        secret: SECRET.to_owned(),
        values: VALUES,
        gradients,
        credentials: None,
    }
}

/// Trains until the epoch rests or all is done: pulls every weight to 0. Gives the samples whose gradients were sent.
fn replicate(exchange: &mut dyn Exchange) -> Result<u64, ExchangeError> {
    let mut weights = vec![0.0; VALUES];
    let mut assignment = exchange.exchange(None, 2, &mut weights)?;
    let mut queue = assignment.ranges.clone();
    let mut sent = 0;
    loop {
        if assignment.is_fresh {
            queue = assignment.ranges.clone();
        }
        if queue.is_empty() {
            if assignment.phase != Phase::Training {
                return Ok(sent);
            }
            assignment = exchange.exchange(None, 2, &mut weights)?;
        } else {
            let range = queue.remove(0);
            let finished = Finished {
                version: assignment.version,
                ranges: vec![range],
                samples: range.len(),
                loss: 1.0,
                right: 0.0,
                gradient: Some(Values::F32(&weights)),
                norm: None,
            };
            let gradient = weights.clone();
            let finished = Finished { gradient: Some(Values::F32(&gradient)), ..finished };
            sent += range.len();
            assignment = exchange.exchange(Some(&finished), 2, &mut weights)?;
        }
        if !assignment.is_fresh {
            queue.extend(assignment.ranges.iter().copied());
        }
    }
}

fn run(gradients: Gradients, remotes: u32) -> (Arc<Shared>, u64) {
    let shared = shared(gradients);
    let listening = serve(&shared);
    let sent = std::thread::scope(|scope| {
        let handles: Vec<_> = (1..=remotes)
            .map(|replica| {
                let caller = caller(&listening, replica, gradients);
                scope.spawn(move || replicate(&mut Remote::join(&caller).unwrap()).unwrap())
            })
            .collect();
        let own = replicate(&mut Local::join(&shared)).unwrap();
        shared.with(|chief| chief.finish());
        own + handles.into_iter().map(|handle| handle.join().unwrap()).sum::<u64>()
    });
    (shared, sent)
}

#[test]
fn an_epoch_is_shared_and_each_sample_counted_once() {
    for gradients in [
        Gradients::default(),
        Gradients { wire: Precision::Bf16, ..Gradients::default() },
        Gradients { mode: GradientMode::Sync, ..Gradients::default() },
        Gradients { delay_compensation: 0.1, ..Gradients::default() },
    ] {
        let (shared, sent) = run(gradients, 3);
        assert!(sent >= SAMPLES, "{gradients:?}");
        shared.with(|chief| {
            let (tally, counts) = chief.end_epoch();
            assert_eq!((tally.samples, counts.samples_skipped), (SAMPLES, 0), "{gradients:?}");
            assert_eq!(counts.pushes.values().sum::<u64>(), SAMPLES / BATCH);
            assert!(chief.master().weights.iter().all(|weight| weight.abs() < 1.0 && weight.is_finite()));
        });
    }
}

/// By its address, as from another host; the other tests come by the Unix socket beside it.
#[test]
fn a_replica_from_afar_is_answered_alike() {
    let shared = shared(Gradients::default());
    let listening = serve(&shared);
    let (near, far) = (caller(&listening, 1, Gradients::default()), format!("localhost:{}", listening.address.port()));
    let far = Caller { chief: far, ..caller(&listening, 2, Gradients::default()) };
    for caller in [near, far] {
        let mut weights = vec![0.0; VALUES];
        let answer = Remote::join(&caller).unwrap().exchange(None, 1, &mut weights).unwrap();
        assert_eq!((answer.ranges.len(), weights), (1, vec![1.0; VALUES]));
    }
}

#[test]
fn what_a_lost_replica_had_in_hand_is_done_by_others() {
    let shared = shared(Gradients::default());
    let listening = serve(&shared);
    let mut weights = vec![0.0; VALUES];
    let mut lost = Remote::join(&caller(&listening, 1, Gradients::default())).unwrap();
    let taken = lost.exchange(None, 5, &mut weights).unwrap().ranges;
    assert_eq!(taken.len(), 5);
    let own = std::thread::scope(|scope| {
        let own = scope.spawn(|| replicate(&mut Local::join(&shared)).unwrap());
        drop(lost);
        own.join().unwrap()
    });
    assert_eq!(own, SAMPLES);
}

fn refused(code: Code, words: &str, secret: &str, parts: &[Part], listening: &Listening) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let status = runtime.block_on(async {
        let mut client = GradientsClient::connect(format!("http://{}", listening.address)).await.unwrap();
        let parts: Vec<PushPart> = parts.iter().map(|part| PushPart { part: Some(part.clone()) }).collect();
        let mut request = Request::new(tokio_stream::iter(parts));
        request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
        client.push(request).await.unwrap_err()
    });
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{status:?} does not say {words}");
}

#[test]
fn what_must_not_be_is_refused_and_changes_nothing() {
    let shared = shared(Gradients::default());
    let listening = serve(&shared);
    let mut replica = Remote::join(&caller(&listening, 1, Gradients::default())).unwrap();
    let mut weights = vec![0.0; VALUES];
    let range = replica.exchange(None, 1, &mut weights).unwrap().ranges[0];
    let from = wire::Replica { trial: 7, attempt: 2, replica: 1, incarnation: 1 };
    let good = PushRequest {
        from: Some(from),
        sequence: 2,
        finished: Some(wire::Finished {
            version: 0,
            ranges: vec![wire::Range { first: range.first, next: range.next }],
            samples: range.len(),
            loss: 1.0,
            right: 0.0,
        }),
        ranges_wanted: 1,
    };
    let gradient = |bytes: usize| Part::Gradient(vec![0; bytes].into());
    let before = shared.look(|chief| (chief.master().clone(), chief.place()));
    let with = |change: &dyn Fn(&mut PushRequest)| {
        let mut request = good.clone();
        change(&mut request);
        vec![Part::Push(request), gradient(4 * VALUES)]
    };
    let someone = |change: &dyn Fn(&mut wire::Replica)| {
        let mut other = from;
        change(&mut other);
        with(&|request| request.from = Some(other))
    };
    let said = |change: &dyn Fn(&mut wire::Finished)| with(&|request| request.finished.iter_mut().for_each(change));
    let parts = |parts: &[usize]| {
        let gradients = parts.iter().map(|bytes| gradient(*bytes));
        std::iter::once(Part::Push(good.clone())).chain(gradients).collect::<Vec<Part>>()
    };
    let (bad, denied, early) = (Code::InvalidArgument, Code::PermissionDenied, Code::FailedPrecondition);
    let cases = [
        (Code::Unauthenticated, "secret", "wrong", parts(&[4 * VALUES])),
        (Code::Unauthenticated, "secret", "", parts(&[4 * VALUES])),
        (denied, "trial 8 is not trained here", SECRET, someone(&|other| other.trial = 8)),
        (denied, "attempt 1 of trial 7 is over", SECRET, someone(&|other| other.attempt = 1)),
        (denied, "incarnation 0 of replica 1 is over", SECRET, someone(&|other| other.incarnation = 0)),
        (denied, "the chief itself", SECRET, someone(&|other| other.replica = 0)),
        (Code::NotFound, "replica 5 has not joined", SECRET, someone(&|other| other.replica = 5)),
        (bad, "who it is from", SECRET, with(&|request| request.from = None)),
        (bad, "who it is from", SECRET, vec![]),
        (bad, "who it is from", SECRET, vec![gradient(4 * VALUES), Part::Push(good.clone())]),
        (bad, "only its gradient", SECRET, vec![Part::Push(good.clone()), Part::Push(good.clone())]),
        (bad, "without saying what it is of", SECRET, with(&|request| request.finished = None)),
        (bad, "whole number of floats", SECRET, parts(&[5])),
        (bad, "999 values", SECRET, parts(&[1999, 1997])),
        (bad, "too long", SECRET, parts(&[2000, 2000, 1])),
        (bad, "too long", SECRET, parts(&[1 << 20])),
        (early, "is of version 4", SECRET, said(&|finished| finished.version = 4)),
        (early, "older than 1", SECRET, with(&|request| request.sequence = 0)),
        (bad, "names no samples", SECRET, said(&|finished| finished.ranges.clear())),
        (bad, "more samples", SECRET, said(&|finished| finished.samples = 9)),
        (Code::OutOfRange, "too large", SECRET, parts(&[8 << 20])),
    ];
    for (code, words, secret, parts) in &cases {
        refused(*code, words, secret, parts, &listening);
        assert_eq!(shared.look(|chief| (chief.master().clone(), chief.place())), before, "{words}");
    }
}

#[test]
fn who_has_another_network_may_not_join() {
    let shared = shared(Gradients::default());
    let listening = serve(&shared);
    for (caller, words) in [
        (Caller { values: 999, ..caller(&listening, 1, Gradients::default()) }, "the replica's network has 999"),
        (Caller { secret: "0".repeat(64), ..caller(&listening, 1, Gradients::default()) }, "not the secret"),
        (
            Caller { token: Token { attempt: 1, ..token(1) }, ..caller(&listening, 1, Gradients::default()) },
            "attempt 1",
        ),
    ] {
        match Remote::join(&caller) {
            Err(ExchangeError::Refused(reason)) => assert!(reason.contains(words), "{reason}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it joined: {words}"),
        }
    }
}

/// Bytes that are no HTTP/2 and no message: the chief goes on.
#[test]
fn garbage_is_survived() {
    use std::io::Write;
    let shared = shared(Gradients::default());
    let listening = serve(&shared);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5000], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff"]
    {
        std::net::TcpStream::connect(listening.address).unwrap().write_all(garbage).unwrap();
    }
    let mut weights = vec![0.0; VALUES];
    let mut replica = Remote::join(&caller(&listening, 1, Gradients::default())).unwrap();
    assert_eq!(replica.exchange(None, 1, &mut weights).unwrap().verdict, Verdict::Nothing);
    assert_eq!(weights, vec![1.0; VALUES]);
}

/// Folders of names, of an authority of their own.
fn names(certs: &std::path::Path, names: &[(&str, &[&str])]) -> Vec<Credentials> {
    Authority::init(certs, 30).unwrap();
    let authority = Authority::open(certs).unwrap();
    let issued = names.iter().map(|(name, hosts)| {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        authority.issue(&Issue { name, hosts: &hosts, days: 30 }).unwrap()
    });
    issued.map(|folder| Credentials::read(&folder).unwrap()).collect()
}

#[test]
fn over_tls_both_sides_show_a_certificate_and_the_secret_is_still_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let ours = names(&folder.path().join("ours"), &[("chief", &["chief.example.org"]), ("node7", &[])]);
    let [with_host, node7] = &ours[..] else { panic!("two names") };
    let theirs = names(&folder.path().join("theirs"), &[("node7", &["chief.example.org"])]);
    let shared = shared(Gradients::default());
    let listen = |credentials| listen(&shared, token(0), SECRET, "0.0.0.0:0", credentials);
    assert!(listen(Some(node7)).unwrap_err().to_string().contains("names no host"));
    let listening = listen(Some(with_host)).unwrap();
    // By another name of this machine it is not found by the socket beside, and so it is reached as from elsewhere.
    let far = |host: &str, shown: Option<&Credentials>, secret: &str| Caller {
        chief: format!("{host}:{}", listening.address.port()),
        secret: secret.to_owned(),
        credentials: shown.cloned(),
        ..caller(&listening, 1, Gradients::default())
    };
    let joined = |caller: Caller, patience: Duration| {
        let (tell, told) = std::sync::mpsc::channel();
        // A chief that cannot be reached is tried for a minute, which is not waited for.
        std::thread::spawn(move || drop(tell.send(Remote::join(&caller).map_err(|error| error.to_string()))));
        told.recv_timeout(patience).unwrap_or(Err("not let in".to_owned()))
    };
    let mut replica = joined(far("localhost", Some(node7), SECRET), Duration::from_secs(30)).unwrap();
    let mut weights = vec![0.0; VALUES];
    let assignment = replica.exchange(None, 2, &mut weights).unwrap();
    assert!(assignment.phase == Phase::Training && !assignment.ranges.is_empty() && weights[0] == 1.0);
    drop(replica);
    while shared.look(Chief::replicas) > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let wrong = "f".repeat(64);
    let refused = joined(far("localhost", Some(node7), &wrong), Duration::from_secs(30)).err().unwrap();
    assert!(refused.contains("not the secret"), "{refused}");
    for (what, stranger) in [
        ("no TLS", far("localhost", None, SECRET)),
        ("another authority", far("localhost", Some(&theirs[0]), SECRET)),
        ("a host that the certificate does not name", far("127.0.0.2", Some(node7), SECRET)),
    ] {
        assert_eq!(joined(stranger, Duration::from_secs(2)).err().as_deref(), Some("not let in"), "{what}");
    }
    assert_eq!(shared.look(Chief::replicas), 0);
    // And one of this host comes as ever.
    let near = Caller { credentials: Some(node7.clone()), ..caller(&listening, 3, Gradients::default()) };
    assert!(joined(near, Duration::from_secs(30)).is_ok());
}
