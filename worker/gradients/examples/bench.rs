//! How fast gradients meet: pushes a second of one chief with replicas that compute nothing, beside raw TCP on
//! loopback, a tonic echo of the same bytes, and the update's own floor. `cargo xtask bench gradients` runs it and
//! puts `PyTorch`'s parameter server beside it. Prints one JSON object a line.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench may fail so")]

use bytes::Bytes;
use gradients::Exchange;
use gradients::chief::{Chief, Finished, Master, Phase, Place, Settings, Tally};
use gradients::remote::{Caller, Remote};
use gradients::rmsprop::{Rule, Slots, Step, norm};
use gradients::service::{Listening, listen};
use gradients::shared::Shared;
use gradients::values::{Values, to_wire, wire_bytes};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use sweeps::ids::{Token, TrialId};
use sweeps::network::Network;
use sweeps::spec::model::{Gradients, Optimizer, Precision, Variant};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// Of each measurement, after half of it to warm up.
const MEASURE: Duration = Duration::from_secs(4);
const SECRET: &str = "bench";
/// Bytes of a message of an echo in parts, and of the largest message.
const PART: usize = 1 << 18;
const MAX: usize = 64 << 20;

/// As in the trainer: `MALLOC_CONF` says the rest.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        // `chief 1 2`: one measurement by itself, for a profiler.
        ["update", alpha] => {
            let alpha = alpha.parse().unwrap();
            return update(alpha, parameters(alpha));
        }
        [what, alpha, replicas] => {
            return measure(what, alpha.parse().unwrap(), Precision::F32, replicas.parse().unwrap());
        }
        ["memory", values, replicas, strength] => {
            return memory(values.parse().unwrap(), replicas.parse().unwrap(), strength.parse().unwrap());
        }
        ["replica", chief, number, values, strength] => {
            let gradients = Gradients { delay_compensation: strength.parse().unwrap(), ..Gradients::default() };
            return push_for_ever(chief, number.parse().unwrap(), values.parse().unwrap(), gradients);
        }
        _ => panic!("unknown arguments: {arguments:?}"),
    }
    for (strength, replicas) in [(0.0, 1), (0.0, 4), (0.0, 8), (0.04, 1), (0.04, 4), (0.04, 8)] {
        let params = parameters(1.0);
        let myself = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new(myself);
        child.args(["memory", &params.to_string(), &replicas.to_string(), &strength.to_string()]);
        assert!(child.status().unwrap().success());
    }
    for alpha in [1.0, 0.25] {
        update(alpha, parameters(alpha));
        for precision in [Precision::F32, Precision::Bf16] {
            for replicas in [1, 2, 4, 8] {
                for what in ["tcp", "unix", "echo", "echo in parts", "chief"] {
                    measure(what, alpha, precision, replicas);
                }
                if precision == Precision::F32 {
                    measure("echo and update", alpha, precision, replicas);
                }
            }
        }
    }
}

/// Of the network with 1,000 classes.
fn parameters(alpha: f64) -> usize {
    let params = Network::new(Variant::Mobilenet, alpha, 224, 1000).unwrap().cost().params;
    usize::try_from(params).unwrap()
}

fn measure(what: &str, alpha: f64, precision: Precision, replicas: u32) {
    let values = parameters(alpha);
    let bytes = values * wire_bytes(precision);
    let per_second = match what {
        "tcp" => tcp(bytes, replicas),
        "unix" => unix(bytes, replicas),
        "echo" => echo(&Echo::Whole, bytes, replicas),
        "echo in parts" => echo(&Echo::Parts, bytes, replicas),
        "echo and update" => echo(&Echo::Updating(Arc::new(Mutex::new(master(values)))), bytes, replicas),
        "chief" => chief(values, precision, replicas),
        _ => panic!("{what} is nothing that can be measured"),
    };
    report(what, alpha, precision, replicas, bytes, per_second);
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
    let accept = move || {
        let stream = listener.accept().unwrap().0;
        stream.set_nodelay(true).unwrap();
        stream
    };
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    };
    there_and_back(bytes, replicas, accept, connect)
}

/// The same over sockets of one host.
fn unix(bytes: usize, replicas: u32) -> f64 {
    let path = std::env::temp_dir().join(format!("alpharho-bench-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let accept = move || listener.accept().unwrap().0;
    let result = there_and_back(bytes, replicas, accept, || UnixStream::connect(&path).unwrap());
    std::fs::remove_file(&path).unwrap();
    result
}

fn there_and_back<S: Read + Write + Send + 'static>(
    bytes: usize,
    replicas: u32,
    accept: impl Fn() -> S + Send + 'static,
    connect: impl Fn() -> S + Sync,
) -> f64 {
    std::thread::spawn(move || {
        for _ in 0..replicas {
            let mut stream = accept();
            std::thread::spawn(move || {
                let mut buffer = vec![0; bytes];
                while stream.read_exact(&mut buffer).is_ok() && stream.write_all(&buffer).is_ok() {}
            });
        }
    });
    rate(replicas, |_, goes_on| {
        let mut stream = connect();
        let mut buffer = vec![1; bytes];
        while goes_on() {
            stream.write_all(&buffer).unwrap();
            stream.read_exact(&mut buffer).unwrap();
        }
    })
}

/// Bytes, as one message.
#[derive(Clone, PartialEq, prost::Message)]
struct Whole {
    #[prost(bytes = "bytes", tag = "15")]
    bytes: Bytes,
}

/// Answers with the bytes it was sent: at once, in parts as they come, or at once after an update with them. The last is
/// the least that any chief does that is called like the first.
#[derive(Clone)]
enum Echo {
    Whole,
    Parts,
    Updating(Arc<Mutex<Master>>),
}

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl tonic::codegen::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let codec = ProstCodec::<Whole, Whole>::default();
            let mut grpc = tonic::server::Grpc::new(codec).apply_max_message_size_config(Some(MAX), Some(MAX));
            Ok(match echo {
                Echo::Whole | Echo::Updating(_) => grpc.unary(echo, request).await,
                Echo::Parts => grpc.streaming(echo, request).await,
            })
        })
    }
}

impl UnaryService<Whole> for Echo {
    type Response = Whole;
    type Future = Ready<Result<Response<Whole>, Status>>;

    fn call(&mut self, request: Request<Whole>) -> Self::Future {
        let whole = request.into_inner();
        if let Self::Updating(master) = self {
            let gradient = Values::from_wire(&whole.bytes, Precision::F32).unwrap();
            apply(&mut master.lock().unwrap(), gradient, norm(gradient));
        }
        ready(Ok(Response::new(whole)))
    }
}

impl StreamingService<Whole> for Echo {
    type Response = Whole;
    type ResponseStream = Streaming<Whole>;
    type Future = Ready<Result<Response<Streaming<Whole>>, Status>>;

    fn call(&mut self, request: Request<Streaming<Whole>>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

/// The same over tonic, with the windows and frames of the exchange and as many threads.
fn echo(kind: &Echo, bytes: usize, replicas: u32) -> f64 {
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = server.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    server.spawn(
        tonic::transport::Server::builder()
            .initial_stream_window_size(64 << 20)
            .initial_connection_window_size(128 << 20)
            .max_frame_size(1 << 20)
            .add_service(kind.clone())
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
                .max_frame_size(1 << 20)
                .connect()
                .await
                .unwrap();
            let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX);
            let whole = Bytes::from(vec![1; bytes]);
            while goes_on() {
                client.ready().await.unwrap();
                let (codec, path) = (ProstCodec::<Whole, Whole>::default(), "/bench.Echo/Echo".parse().unwrap());
                match kind {
                    Echo::Whole | Echo::Updating(_) => {
                        client.unary(Request::new(Whole { bytes: whole.clone() }), path, codec).await.unwrap();
                    }
                    Echo::Parts => {
                        let parts: Vec<Whole> =
                            whole.chunks(PART).map(|part| Whole { bytes: whole.slice_ref(part) }).collect();
                        let request = Request::new(tokio_stream::iter(parts));
                        let mut back = client.streaming(request, path, codec).await.unwrap().into_inner();
                        while back.message().await.unwrap().is_some() {}
                    }
                }
            }
        });
    });
    server.shutdown_background();
    result
}

fn rule(values: usize) -> Rule {
    Rule { optimizer: Optimizer::default(), decays: vec![(0..values, 4e-5)], clip_norm: None, average_decay: None }
}

fn token(replica: u32) -> Token {
    Token { trial: TrialId(1), attempt: 1, replica, incarnation: 1 }
}

fn master(values: usize) -> Master {
    let zeros = vec![0.0; values];
    Master { weights: zeros.clone(), mean_square: vec![1.0; values], momentum: zeros, average: None }
}

fn apply(master: &mut Master, gradient: Values<'_>, norm: f64) {
    let rule = rule(master.weights.len());
    let Master { weights, mean_square, momentum, .. } = master;
    rule.apply(Slots { weights, mean_square, momentum, average: None }, gradient, Step { rate: 1e-6, norm }, None);
}

/// A chief of as many parameters that listens.
fn serve(values: usize, gradients: Gradients) -> Listening {
    let settings = Settings {
        rule: rule(values),
        gradients,
        learning_rate: Box::new(|_| 1e-6),
        samples: u64::MAX / 2,
        batch_size: 1,
    };
    let master = master(values);
    let place = Place { epoch: 0, version: 0, next: 0, holes: Vec::new() };
    let shared = Shared::new(Chief::new(settings, master, &place, Tally::default(), Tally::default()));
    listen(&shared, token(0), SECRET, "127.0.0.1:0", None).unwrap()
}

/// A replica that computes nothing.
fn push(chief: &str, number: u32, values: usize, gradients: Gradients, goes_on: &dyn Fn() -> bool) {
    let (chief, secret) = (chief.to_owned(), SECRET.to_owned());
    let mut replica =
        Remote::join(&Caller { chief, token: token(number), secret, values, gradients, credentials: None }).unwrap();
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
            norm: None,
        });
        assignment = replica.exchange(finished.as_ref(), 4, &mut weights).unwrap();
        ranges.extend(assignment.ranges.iter().copied());
    }
}

fn push_for_ever(chief: &str, number: u32, values: usize, gradients: Gradients) {
    push(chief, number, values, gradients, &|| true);
}

/// The whole exchange: gradients to the wire, applied, parameters back and in place.
fn chief(values: usize, precision: Precision, replicas: u32) -> f64 {
    let gradients = Gradients { wire: precision, ..Gradients::default() };
    let listening = serve(values, gradients);
    let address = listening.address.to_string();
    rate(replicas, |thread, goes_on| push(&address, thread + 1, values, gradients, goes_on))
}

/// What a chief takes at most while replicas in processes of their own push, in copies of the parameters. Run in a
/// process of its own.
fn memory(values: usize, replicas: u32, strength: f64) {
    let status = |name: &str| {
        let text = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    };
    let before = status("VmRSS:");
    let listening = serve(values, Gradients { delay_compensation: strength, ..Gradients::default() });
    let myself = std::env::current_exe().unwrap();
    let children: Vec<_> = (1..=replicas)
        .map(|number| {
            let mut command = std::process::Command::new(&myself);
            command.args(["replica", &listening.address.to_string(), &number.to_string(), &values.to_string()]);
            command.arg(strength.to_string()).spawn().unwrap()
        })
        .collect();
    std::thread::sleep(MEASURE);
    let copies = (status("VmHWM:") - before) / (4.0 * values as f64);
    println!(r#"{{"what":"memory","replicas":{replicas},"compensation":{strength},"copies":{copies:.2}}}"#);
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The update alone, beside copying as many bytes as it reads and writes: four buffers read, three written.
fn update(alpha: f64, values: usize) {
    let mut master = master(values);
    let gradient = vec![1e-3_f32; values];
    let bytes = to_wire(&gradient, Precision::F32);
    let gradient = Values::from_wire(&bytes, Precision::F32).unwrap();
    let updates = rate_alone(|| apply(&mut master, gradient, 1.0));
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
