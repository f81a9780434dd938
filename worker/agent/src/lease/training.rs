//! While the trainer's process runs: what it says goes to the coordinator, what the coordinator wants goes to it.

use super::Lease;
use crate::lines::Lines;
use crate::log_limit::LogLimit;
use crate::process::{self, Process};
use crate::transfers::Saved;
use proto::convert;
use proto::link::{self, Said};
use proto::wire;
use proto::wire::report::Body;
use rustix::process::Signal;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::metrics::Point;
use sweeps::scheduler::AttemptEnd;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

/// Bytes of a line of standard output that are read.
const SAID_BYTES_MAX: usize = 1 << 20;
/// Bytes of a line of standard error that are read.
const LOG_BYTES_MAX: usize = 1 << 14;
/// Last lines of standard error that are told when the process died.
const LAST_WORDS: usize = 5;
/// How long lines of the log are gathered.
const LOG_DELAY: Duration = Duration::from_millis(200);
/// How long the pipes are read on when the process is gone.
const PIPE_PATIENCE: Duration = Duration::from_secs(2);

enum Spoken {
    Out(String),
    Err(String),
}

/// What is remembered while a trainer runs.
struct Ear {
    heard_at: Instant,
    limit: LogLimit,
    last_words: VecDeque<String>,
    /// Lines of a member, or of all, not yet reported.
    lines: Vec<(Option<Token>, String)>,
    lines_since: Option<Instant>,
}

impl Lease {
    /// Starts the trainer and stays until it is gone.
    pub(super) async fn train(&mut self) {
        let process = match self.start().await {
            Ok(process) => process,
            Err(reason) => {
                self.end_all(&AttemptEnd::Crashed { reason });
                return;
            }
        };
        let Process { stdin, stdout, stderr, mut exit, group } = process;
        let (Ok(stdin), Ok(stdout), Ok(stderr)) =
            (ChildStdin::from_std(stdin), ChildStdout::from_std(stdout), ChildStderr::from_std(stderr))
        else {
            group.signal(Signal::KILL);
            self.end_all(&AttemptEnd::Crashed { reason: "the trainer's pipes cannot be watched".to_owned() });
            return;
        };
        let orders = write_orders(stdin);
        self.tell_start(&orders);
        let mut spoken = read_pipes(stdout, stderr);
        let mut ear = Ear::new();
        let mut kill_cause: Option<String> = None;
        let mut exited: Option<(Instant, String, bool)> = None;
        let mut pipes_open = true;
        while exited.is_none() || pipes_open {
            let (wake_at, signal) = self.next_wake(&ear, exited.as_ref().map(|(at, ..)| *at));
            tokio::select! {
                heard = spoken.recv(), if pipes_open => match heard {
                    Some(Spoken::Out(line)) => self.said(&mut ear, &line).await,
                    Some(Spoken::Err(line)) => ear.log(None, line),
                    None => pipes_open = false,
                },
                status = &mut exit, if exited.is_none() => {
                    let (how, ended_well) = match status {
                        Ok(Ok(status)) => (process::describe(status), status.code() == Some(link::EXIT_DONE)),
                        Ok(Err(error)) => (format!("how is not known: {error}"), false),
                        Err(_) => ("how is not known".to_owned(), false),
                    };
                    exited = Some((Instant::now(), how, ended_well));
                }
                Some(order) = self.orders.recv() => {
                    for (token, reason) in self.obey(order) {
                        // A trainer that does not listen any more will be signalled.
                        let _ = orders.send(link::Order::Stop { token, reason });
                    }
                }
                Some(uploaded) = self.uploaded.recv() => self.uploaded(uploaded).await,
                Some(fetched) = self.fetched.recv() => self.fetched(fetched).await,
                () = tokio::time::sleep_until(wake_at.into()) => {
                    let now = Instant::now();
                    if let Some((at, ..)) = &exited && now >= *at + PIPE_PATIENCE {
                        pipes_open = false;
                    }
                    if exited.is_none() && now >= ear.heard_at + self.tools.config.silence {
                        let seconds = self.tools.config.silence.as_secs();
                        kill_cause.get_or_insert_with(|| format!("its trainer said nothing for {seconds} s and was killed"));
                        group.signal(Signal::KILL);
                        ear.heard_at = now;
                    } else if let Some(signal) = signal && self.cohort.signal_at().is_some_and(|(at, _)| now >= at) {
                        tracing::warn!("slot {}: the trainer does not end; {signal:?} is sent", self.slot);
                        kill_cause.get_or_insert_with(|| "its trainer did not end when asked and was killed".to_owned());
                        group.signal(signal);
                        self.cohort.signalled(signal, now);
                    }
                }
            }
            if ear.is_due(Instant::now()) {
                self.flush_log(&mut ear).await;
            }
            self.fetch();
            if exited.is_none() {
                for member in self.cohort.joining() {
                    // A trainer that does not listen any more is about to end.
                    let _ = orders.send(link::Order::Join { member: Box::new(member) });
                }
            }
            self.report_ends().await;
        }
        ear.lines.extend(ear.limit.note().map(|note| (None, note)));
        self.flush_log(&mut ear).await;
        let (how, ended_well) = exited.map_or_else(Default::default, |(_, how, ended_well)| (how, ended_well));
        self.cohort.gone(&ear.cause(kill_cause, &how), ended_well);
        self.report_ends().await;
    }

    async fn start(&self) -> Result<Process, String> {
        let scripted: Vec<bool> = self.cohort.live().map(|member| member.order.trial.is_scripted()).collect();
        let any = scripted.iter().any(|scripted| *scripted);
        if any && !scripted.iter().all(|scripted| *scripted) {
            return Err("scripted and real trials cannot share a trainer".to_owned());
        }
        let mut command = self.tools.config.trainers.command(any)?;
        command.env("RUST_BACKTRACE", "0");
        let name = command.get_program().to_string_lossy().into_owned();
        self.tools.spawner.spawn(command).await.map_err(|error| format!("{name} cannot be started: {error}"))
    }

    fn tell_start(&mut self, orders: &mpsc::UnboundedSender<link::Order>) {
        let start = link::Start {
            members: self.cohort.started(),
            device: self.device.clone(),
            threads: self.threads,
            slots: u32::try_from(self.tools.config.slots.len()).unwrap_or(u32::MAX),
            folder: self.folder.clone(),
            data: self.tools.config.data.clone(),
        };
        // A trainer that does not listen ends, or stays silent and is killed.
        let _ = orders.send(link::Order::Start(start));
    }

    fn next_wake(&self, ear: &Ear, exited_at: Option<Instant>) -> (Instant, Option<Signal>) {
        let flush_at = ear.lines_since.map(|since| since + LOG_DELAY);
        let next = match exited_at {
            Some(exited_at) => (exited_at + PIPE_PATIENCE, None),
            None => (ear.heard_at + self.tools.config.silence, None),
        };
        let signal = self.cohort.signal_at().filter(|_| exited_at.is_none()).map(|(at, signal)| (at, Some(signal)));
        [Some(next), signal, flush_at.map(|at| (at, None))]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
            .unwrap_or(next)
    }

    /// A line of standard output.
    async fn said(&mut self, ear: &mut Ear, line: &str) {
        ear.heard_at = Instant::now();
        let said = match serde_json::from_str::<Said>(line) {
            Ok(said) => said,
            Err(_) => return ear.log(None, line.to_owned()),
        };
        match said {
            Said::Alive => {}
            Said::Log { token, text } => {
                for line in text.lines() {
                    ear.log(token, line.to_owned());
                }
            }
            Said::Started { token, device, threads, instruction_set, libtorch, resumed_epoch } => {
                self.cohort.begun(token);
                let started = wire::Started { device, threads, instruction_set, libtorch, resumed_epoch };
                self.relay(token, Body::Started(started)).await;
            }
            Said::Listening { token, address } => {
                let address = reachable(address, &self.tools.config.host);
                self.relay(token, Body::Listening(wire::Listening { address })).await;
            }
            Said::Points { token, points } => {
                let points = usable(points, token, ear);
                self.relay(token, Body::Points(wire::Points { points })).await;
            }
            Said::Progress { token, epoch, share, duration_ms } => {
                self.relay(token, Body::Progress(wire::Progress { epoch, share, duration_ms })).await;
            }
            Said::EpochFinished { token, epoch: 0, .. } => {
                ear.log(Some(token), "the trainer said that epoch 0 is done; they count from 1".to_owned());
            }
            Said::EpochFinished { token, epoch, duration_ms, points } => {
                let points = usable(points, token, ear);
                if self.cohort.find(token).is_some_and(|member| member.may_speak()) {
                    self.tools.unheard.reported(token, epoch);
                }
                self.relay(token, Body::EpochFinished(wire::EpochFinished { epoch, duration_ms, points })).await;
            }
            Said::CheckpointSaved { token, path, epoch, step, bytes, sha256, best } => {
                if self.cohort.find(token).is_some_and(|member| member.may_speak()) {
                    self.cohort.upload_began(token);
                    self.uploads.add(Saved { token: token.into(), path, epoch, step, bytes, sha256, best });
                }
            }
            Said::Ended { token, end } => {
                self.flush_log(ear).await;
                self.cohort.ended(token, end, Instant::now());
            }
        }
    }

    async fn relay(&mut self, token: Token, body: Body) {
        if self.cohort.find(token).is_some_and(|member| member.may_speak()) {
            self.report(token, body).await;
        }
    }

    async fn flush_log(&mut self, ear: &mut Ear) {
        ear.lines_since = None;
        let lines = std::mem::take(&mut ear.lines);
        if lines.is_empty() {
            return;
        }
        for member in self.cohort.members().iter().filter(|member| member.may_speak()) {
            let token = member.order.token;
            let of_member = lines.iter().filter(|(of, _)| of.is_none_or(|of| of == token));
            let lines: Vec<String> = of_member.map(|(_, line)| line.clone()).collect();
            if !lines.is_empty() {
                self.log(token, lines).await;
            }
        }
    }
}

impl Ear {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            heard_at: now,
            limit: LogLimit::new(now),
            last_words: VecDeque::new(),
            lines: Vec::new(),
            lines_since: None,
        }
    }

    fn log(&mut self, token: Option<Token>, line: String) {
        if line.trim().is_empty() {
            return;
        }
        let now = Instant::now();
        let passed = self.limit.pass(now, &line);
        if !passed.is_empty() {
            self.lines_since.get_or_insert(now);
        }
        self.lines.extend(passed.into_iter().map(|line| (token, line)));
        if self.last_words.len() == LAST_WORDS {
            self.last_words.pop_front();
        }
        self.last_words.push_back(line.chars().take(300).collect());
    }

    fn is_due(&self, now: Instant) -> bool {
        self.lines_since.is_some_and(|since| now >= since + LOG_DELAY)
    }

    /// Why the members that had not ended did.
    fn cause(&self, killed: Option<String>, how: &str) -> String {
        let mut cause = killed.unwrap_or_else(|| format!("its trainer died: {how}"));
        if !self.last_words.is_empty() {
            let words: Vec<&str> = self.last_words.iter().map(String::as_str).collect();
            cause.push_str("; its last words: ");
            cause.push_str(&words.join(" | "));
        }
        cause
    }
}

/// Where others reach a chief that listens on all of its addresses: there is only the host's name to go by.
fn reachable(address: String, host: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(all) if all.ip().is_unspecified() => format!("{host}:{}", all.port()),
        Ok(_) | Err(_) => address,
    }
}

/// The points that the coordinator would take; the log names the others.
fn usable(points: Vec<Point>, token: Token, ear: &mut Ear) -> Vec<wire::Point> {
    let mut good = Vec::new();
    for point in points {
        let point = wire::Point::from(point);
        match convert::points(vec![point.clone()]) {
            Ok(_) => good.push(point),
            Err(bad) => ear.log(Some(token), format!("a measured value is left out: {bad}")),
        }
    }
    good
}

/// Writes orders in the background, so that a trainer that does not read blocks nobody.
fn write_orders(mut stdin: ChildStdin) -> mpsc::UnboundedSender<link::Order> {
    let (orders, mut inbox) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(order) = inbox.recv().await {
            let line = convert::to_json(&order) + "\n";
            if stdin.write_all(line.as_bytes()).await.is_err() || stdin.flush().await.is_err() {
                break;
            }
        }
    });
    orders
}

/// Both pipes as one queue, which closes when both are at their end.
fn read_pipes(stdout: ChildStdout, stderr: ChildStderr) -> mpsc::Receiver<Spoken> {
    let (spoken, inbox) = mpsc::channel(256);
    let also = spoken.clone();
    tokio::spawn(async move {
        let mut lines = Lines::new(stdout, SAID_BYTES_MAX);
        while let Some(line) = lines.next().await {
            if spoken.send(Spoken::Out(line)).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut lines = Lines::new(stderr, LOG_BYTES_MAX);
        while let Some(line) = lines.next().await {
            if also.send(Spoken::Err(line)).await.is_err() {
                return;
            }
        }
    });
    inbox
}
