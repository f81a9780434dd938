//! How fast gradients meet: pushes a second of one chief with replicas that compute nothing, beside raw TCP on
//! loopback, a tonic echo of the same bytes, and the update's own floor. `cargo xtask bench gradients` runs it and
//! puts `PyTorch`'s parameter server beside it. Prints one JSON object a line.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench may fail so")]

use gradients::Exchange;
use gradients::chief::{Chief, Finished, Master, Phase, Place, Settings, Tally};
use gradients::remote::{Caller, Remote};
use gradients::rmsprop::{Rule, Slots, Step, norm};
use gradients::service::listen;
use gradients::shared::Shared;
use gradients::values::{Values, to_wire, wire_bytes};
use proto::gradients::gradients_client::GradientsClient;
use proto::gradients::gradients_server::{Gradients as Service, GradientsServer};
use proto::gradients::{JoinRequest, PushReply, PushRequest, Welcome};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use sweeps::ids::{Token, TrialId};
use sweeps::network::Network;
use sweeps::spec::model::{Gradients, Optimizer, Precision, Variant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Of each measurement, after half of it to warm up.
const MEASURE: Duration = Duration::from_secs(4);
const SECRET: &str = "bench";

fn main() {
    for alpha in [1.0, 0.25] {
        let params = Network::new(Variant::Mobilenet, alpha, 224, 1000).unwrap().cost().params;
        let values = usize::try_from(params).unwrap();
        update(alpha, values);
        for precision in [Precision::F32, Precision::Bf16] {
            let bytes = values * wire_bytes(precision);
            for replicas in [1, 2, 4, 8] {
                report("tcp", alpha, precision, replicas, bytes, tcp(bytes, replicas));
                report("echo", alpha, precision, replicas, bytes, echo(bytes, replicas));
                report("chief", alpha, precision, replicas, bytes, chief(values, precision, replicas));
            }
        }
    }
}

fn report(what: &str, alpha: f64, precision: Precision, replicas: u32, bytes: usize, per_second: f64) {
    let wire = if precision == Precision::F32 { "f32" } else { "bf16" };
    let megabytes = 2.0 * bytes as f64 * per_second / 1e6;
    println!(
        r#"{{"what":"{what}","alpha":{alpha},"wire":"{wire}","replicas":{replicas},"per_second":{per_second:.2},"megabytes_per_second":{megabytes:.1}}}"#
    );
}

/// Counts what `work` does in all threads, after a time to warm up.
fn rate(threads: u32, work: impl Fn(u32, &dyn Fn() -> bool) + Sync) -> f64 {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (stop, count, work) = (&stop, &count, &work);
            scope.spawn(move || {
                work(thread, &|| {
                    count.fetch_add(1, Ordering::Relaxed);
                    !stop.load(Ordering::Relaxed)
                });
            });
        }
        std::thread::sleep(MEASURE / 2);
        let (before, started) = (count.load(Ordering::Relaxed), Instant::now());
        std::thread::sleep(MEASURE);
        let done = count.load(Ordering::Relaxed) - before;
        stop.store(true, Ordering::Relaxed);
        done as f64 / started.elapsed().as_secs_f64()
    })
}

/// As many bytes there and back over plain sockets.
fn tcp(bytes: usize, replicas: u32) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_nodelay(true).unwrap();
            std::thread::spawn(move || {
                let mut buffer = vec![0; bytes];
                while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
            });
        }
    });
    rate(replicas, |_, goes_on| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut buffer = vec![1; bytes];
        while goes_on() {
            stream.write_all(&buffer).unwrap();
            stream.read_exact(&mut buffer).unwrap();
        }
    })
}

/// Answers with the bytes it was sent.
struct Echo;

#[tonic::async_trait]
impl Service for Echo {
    type JoinStream = ReceiverStream<Result<Welcome, Status>>;

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<Self::JoinStream>, Status> {
        Err(Status::unimplemented("an echo has nobody to join"))
    }

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushReply>, Status> {
        Ok(Response::new(PushReply { parameters: request.into_inner().gradient, ..PushReply::default() }))
    }
}

/// The same over tonic, with the windows and frames of the exchange and as many threads.
fn echo(bytes: usize, replicas: u32) -> f64 {
    let max = bytes + (1 << 16);
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let service = GradientsServer::new(Echo).max_decoding_message_size(max).max_encoding_message_size(max);
    server.spawn(
        tonic::transport::Server::builder()
            .initial_stream_window_size(64 << 20)
            .initial_connection_window_size(128 << 20)
            .max_frame_size(1 << 20)
            .add_service(service)
            .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true))),
    );
    let result = rate(replicas, |_, goes_on| {
        let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        client.block_on(async {
            let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
                .unwrap()
                .tcp_nodelay(true)
                .initial_stream_window_size(64 << 20)
                .initial_connection_window_size(128 << 20)
                .connect()
                .await
                .unwrap();
            let mut client =
                GradientsClient::new(channel).max_decoding_message_size(max).max_encoding_message_size(max);
            let gradient = bytes::Bytes::from(vec![1; bytes]);
            while goes_on() {
                let request = PushRequest { gradient: gradient.clone(), ..PushRequest::default() };
                client.push(request).await.unwrap();
            }
        });
    });
    server.shutdown_background();
    result
}

fn rule(values: usize) -> Rule {
    Rule { optimizer: Optimizer::default(), decays: vec![(0..values, 4e-5)], clip_norm: None, average_decay: None }
}

/// The whole exchange: gradients to the wire, applied, parameters back and in place.
fn chief(values: usize, precision: Precision, replicas: u32) -> f64 {
    let gradients = Gradients { wire: precision, ..Gradients::default() };
    let settings = Settings {
        rule: rule(values),
        gradients,
        learning_rate: Box::new(|_| 1e-6),
        samples: u64::MAX / 2,
        batch_size: 1,
    };
    let zeros = vec![0.0; values];
    let master =
        Master { weights: zeros.clone(), mean_square: vec![1.0; values], momentum: zeros.clone(), average: None };
    let place = Place { epoch: 0, version: 0, next: 0, holes: Vec::new() };
    let shared = Shared::new(Chief::new(settings, master, &place, Tally::default(), Tally::default()));
    let token = |replica| Token { trial: TrialId(1), attempt: 1, replica, incarnation: 1 };
    let listening = listen(&shared, token(0), SECRET, "127.0.0.1:0").unwrap();
    let address = listening.address.to_string();
    rate(replicas, |thread, goes_on| {
        let caller =
            Caller { chief: address.clone(), token: token(thread + 1), secret: SECRET.to_owned(), values, gradients };
        let mut replica = Remote::join(&caller).unwrap();
        let gradient = vec![1e-3; values];
        let mut weights = vec![0.0; values];
        let mut assignment = replica.exchange(None, 4, &mut weights).unwrap();
        let mut ranges: VecDeque<_> = assignment.ranges.iter().copied().collect();
        while assignment.phase == Phase::Training && goes_on() {
            let finished = ranges.pop_front().map(|range| Finished {
                version: assignment.version,
                ranges: vec![range],
                samples: 1,
                loss: 0.0,
                right: 0.0,
                gradient: Some(Values::F32(&gradient)),
            });
            assignment = replica.exchange(finished.as_ref(), 4, &mut weights).unwrap();
            ranges.extend(assignment.ranges.iter().copied());
        }
    })
}

/// The update alone, beside copying as many bytes as it reads and writes: four buffers read, three written.
fn update(alpha: f64, values: usize) {
    let (mut weights, mut mean_square, mut momentum) = (vec![0.0; values], vec![1.0; values], vec![0.0; values]);
    let gradient = vec![1e-3_f32; values];
    let bytes = to_wire(&gradient, Precision::F32);
    let rule = rule(values);
    let gradient = Values::from_wire(&bytes, Precision::F32).unwrap();
    let updates = rate_alone(|| {
        let slots =
            Slots { weights: &mut weights, mean_square: &mut mean_square, momentum: &mut momentum, average: None };
        rule.apply(slots, gradient, Step { rate: 1e-6, norm: 1.0 }, None);
    });
    let norms = rate_alone(|| {
        std::hint::black_box(norm(gradient));
    });
    let from = vec![1.0_f32; values * 7 / 2];
    let mut to = vec![0.0_f32; values * 7 / 2];
    let copies = rate_alone(|| {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    });
    println!(
        r#"{{"what":"update","alpha":{alpha},"updates_per_second":{updates:.1},"norms_per_second":{norms:.1},"copies_per_second":{copies:.1},"update_over_copy":{:.3}}}"#,
        copies / updates
    );
}

fn rate_alone(mut work: impl FnMut()) -> f64 {
    for _ in 0..3 {
        work();
    }
    let (mut count, started) = (0_u32, Instant::now());
    while started.elapsed() < MEASURE / 2 {
        work();
        count += 1;
    }
    f64::from(count) / started.elapsed().as_secs_f64()
}
