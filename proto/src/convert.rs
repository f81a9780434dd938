//! Wire types to domain types and back. What comes from outside is checked here.

use crate::wire;
use sweeps::ids::{Token, TrialId, WorkerId};
use sweeps::metrics::{self, Point};
use sweeps::scheduler::{AttemptEnd, SlotOffer, StopReason};
use sweeps::trial::Trial;
use thiserror::Error;

/// A message that is not what the contract says.
#[derive(Debug, Error)]
pub enum BadMessage {
    /// A part is missing.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// A value that makes no sense.
    #[error("{field}: {problem}")]
    Value {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl From<BadMessage> for tonic::Status {
    fn from(bad: BadMessage) -> Self {
        Self::invalid_argument(bad.to_string())
    }
}

impl From<Token> for wire::Token {
    fn from(token: Token) -> Self {
        Self { trial: token.trial.0, attempt: token.attempt, replica: token.replica, incarnation: token.incarnation }
    }
}

/// The token of a message.
///
/// # Errors
/// When there is none.
pub fn token(from: Option<wire::Token>) -> Result<Token, BadMessage> {
    let from = from.ok_or(BadMessage::Missing("token"))?;
    Ok(Token {
        trial: TrialId(from.trial),
        attempt: from.attempt,
        replica: from.replica,
        incarnation: from.incarnation,
    })
}

impl From<Point> for wire::Point {
    fn from(point: Point) -> Self {
        Self { name: point.name, step: point.step, value: point.value }
    }
}

/// Points with known names and finite values.
///
/// # Errors
/// When there are too many, a name is not in the table of metrics, or a value is not finite.
pub fn points(from: Vec<wire::Point>) -> Result<Vec<Point>, BadMessage> {
    if from.len() > POINTS_MAX {
        let problem = format!("{} are told; at most {POINTS_MAX} can be in one message", from.len());
        return Err(BadMessage::Value { field: "points", problem });
    }
    from.into_iter()
        .map(|point| {
            if metrics::find(&point.name).is_none() {
                return Err(BadMessage::Value {
                    field: "points",
                    problem: format!("no metric is called {:?}", point.name),
                });
            }
            if i64::try_from(point.step).is_err() {
                return Err(BadMessage::Value { field: "points", problem: format!("step {}", point.step) });
            }
            if !point.value.is_finite() {
                return Err(BadMessage::Value {
                    field: "points",
                    problem: format!("{} is {}", point.name, point.value),
                });
            }
            Ok(Point { name: point.name, step: point.step, value: point.value })
        })
        .collect()
}

/// Without the secret.
impl std::fmt::Debug for wire::Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange").field("chief", &self.chief).finish_non_exhaustive()
    }
}

/// How an attempt ended.
///
/// # Errors
/// When the JSON is not one.
pub fn attempt_end(json: &str) -> Result<AttemptEnd, BadMessage> {
    from_json("end_json", json)
}

/// A trial's settings.
///
/// # Errors
/// When the JSON is not one.
pub fn trial(json: &str) -> Result<Trial, BadMessage> {
    from_json("trial_json", json)
}

/// Why to stop, from its word.
///
/// # Errors
/// When the word is unknown.
pub fn stop_reason(word: &str) -> Result<StopReason, BadMessage> {
    match word {
        "pause" => Ok(StopReason::Pause),
        "cancel" => Ok(StopReason::Cancel),
        "superseded" => Ok(StopReason::Superseded),
        other => Err(BadMessage::Value { field: "reason", problem: format!("{other:?} is no reason to stop") }),
    }
}

/// The word of a reason to stop.
#[must_use]
pub fn stop_word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Pause => "pause",
        StopReason::Cancel => "cancel",
        StopReason::Superseded => "superseded",
    }
}

/// Slots that one worker may offer.
const SLOTS_MAX: usize = 1024;
/// Bytes of a host's or a device's name.
const NAME_BYTES_MAX: usize = 256;
/// Leases that one worker may tell of: those that it has, and those whose end is not acknowledged.
const HELD_MAX: usize = 16 * SLOTS_MAX;
/// Bytes of how an attempt ended, as JSON.
const END_BYTES_MAX: usize = 64 << 10;
/// Bytes of a line of a log; what is longer is cut.
const LINE_BYTES_MAX: usize = 4096;
/// Lines of one message: it takes two bytes to send one, and a row to keep it.
const LINES_MAX: usize = 1_000;
/// Points of one message.
const POINTS_MAX: usize = 10_000;
/// CPU threads that a trainer may say it has: other workers start theirs with as many.
const THREADS_MAX: u32 = 4096;
/// How long an epoch may take: ten years.
const DURATION_MS_MAX: u64 = 3_650 * 86_400_000;

/// A worker's first message.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Which.
    pub worker: WorkerId,
    /// For people.
    pub host: String,
    /// Of its program.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// In order: a slot's index is its place here.
    pub slots: Vec<SlotOffer>,
    /// What its trainers train now, or have ended without an acknowledgement, by slot index.
    pub holding: Vec<(u32, Token)>,
}

/// A worker's further messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Saying {
    /// It lives; and what its GPUs do, by slot, now and then.
    Heartbeat(Vec<(u32, wire::GpuUse)>),
    /// No more leases, please.
    Draining,
    /// Nothing runs there any more.
    Goodbye,
    /// Of a trial, by whom.
    Report(Token, Report),
}

/// What is said of a trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Its trainer runs.
    Started(wire::Started),
    /// Points within an epoch.
    Points(Vec<Point>),
    /// An epoch is done.
    EpochFinished {
        /// Epochs done, from 1.
        epoch: u32,
        /// From the epoch's start in this attempt.
        duration_ms: u64,
        /// On the epoch axis.
        points: Vec<Point>,
    },
    /// Part of an epoch is done.
    Progress {
        /// The one under way, from 1.
        epoch: u32,
        /// Of its images; 0 to 1.
        share: f64,
        /// In that time.
        duration_ms: u64,
    },
    /// The attempt is over.
    Ended(AttemptEnd),
    /// Lines of the trial's log.
    Log(Vec<String>),
    /// Other replicas of the trial reach this chief there: `HOST:PORT`.
    Listening(String),
}

/// A worker's first message.
///
/// # Errors
/// When it offers no slots or too many, or names what it cannot have.
pub fn registration(from: wire::Register) -> Result<Registration, BadMessage> {
    let wire::Register { worker, host, version, process, slots, holding } = from;
    let bad = |field, problem: &str| Err(BadMessage::Value { field, problem: problem.to_owned() });
    if slots.is_empty() || slots.len() > SLOTS_MAX {
        return bad("slots", &format!("{} are offered; 1 to {SLOTS_MAX} can be", slots.len()));
    }
    let names = [("host", &host), ("version", &version)].into_iter();
    for (field, name) in names.chain(slots.iter().map(|slot| ("device", &slot.device))) {
        check_name(field, name)?;
    }
    if holding.len() > HELD_MAX {
        return bad("holding", &format!("{} leases are told; at most {HELD_MAX} can be", holding.len()));
    }
    let mut held = Vec::new();
    for wire::Held { slot, token: from } in holding {
        if usize::try_from(slot).is_ok_and(|slot| slot >= slots.len()) {
            return bad("holding", "names a slot that is not offered");
        }
        held.push((slot, token(from)?));
    }
    let slots = slots.into_iter().map(|slot| SlotOffer { device: slot.device }).collect();
    Ok(Registration { worker: WorkerId(worker), host, version, process, slots, holding: held })
}

/// What people will see on their terminals: not empty, not long, and nothing that moves a cursor.
fn check_name(field: &'static str, name: &str) -> Result<(), BadMessage> {
    let bad = |problem: String| Err(BadMessage::Value { field, problem });
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return bad(format!("has {} bytes; 1 to {NAME_BYTES_MAX} are allowed", name.len()));
    }
    if name.chars().any(char::is_control) {
        return bad(format!("{name:?} has a control character"));
    }
    Ok(())
}

/// A worker's further messages.
///
/// # Errors
/// When a part is missing or makes no sense.
pub fn saying(from: wire::worker_message::Body) -> Result<Saying, BadMessage> {
    use wire::worker_message::Body;
    match from {
        Body::Register(_) => {
            Err(BadMessage::Value { field: "register", problem: "was said already in this session".to_owned() })
        }
        Body::Heartbeat(wire::Heartbeat { gpus: from }) => Ok(Saying::Heartbeat(gpus(from)?)),
        Body::Draining(wire::Draining {}) => Ok(Saying::Draining),
        Body::Goodbye(wire::Goodbye {}) => Ok(Saying::Goodbye),
        Body::Report(wire::Report { token: from, body }) => {
            Ok(Saying::Report(token(from)?, report(body.ok_or(BadMessage::Missing("report"))?)?))
        }
    }
}

fn gpus(from: Vec<wire::SlotGpu>) -> Result<Vec<(u32, wire::GpuUse)>, BadMessage> {
    let bad = |problem: String| BadMessage::Value { field: "gpus", problem };
    if from.len() > SLOTS_MAX {
        return Err(bad(format!("{} are told; at most {SLOTS_MAX} can be", from.len())));
    }
    let gpu = |wire::SlotGpu { slot, gpu }| {
        let gpu = gpu.ok_or(BadMessage::Missing("gpu"))?;
        if gpu.name.len() > NAME_BYTES_MAX {
            return Err(bad(format!("a name of {} bytes; at most {NAME_BYTES_MAX} are allowed", gpu.name.len())));
        }
        if gpu.name.chars().any(char::is_control) {
            return Err(bad(format!("the name {:?} has a control character", gpu.name)));
        }
        if !(0.0..=1.0).contains(&gpu.utilisation) {
            return Err(bad(format!("utilisation {}; it is a share", gpu.utilisation)));
        }
        Ok((slot, gpu))
    };
    from.into_iter().map(gpu).collect()
}

fn check_epoch(epoch: u32, duration_ms: u64) -> Result<(), BadMessage> {
    if epoch == 0 {
        return Err(BadMessage::Value { field: "epoch", problem: "they count from 1".to_owned() });
    }
    if duration_ms > DURATION_MS_MAX {
        let problem = format!("{duration_ms}; at most {DURATION_MS_MAX} can be");
        return Err(BadMessage::Value { field: "duration_ms", problem });
    }
    Ok(())
}

fn report(from: wire::report::Body) -> Result<Report, BadMessage> {
    use wire::report::Body;
    Ok(match from {
        Body::Started(started) => {
            check_name("device", &started.device)?;
            check_name("instruction_set", &started.instruction_set)?;
            check_name("libtorch", &started.libtorch)?;
            if started.threads > THREADS_MAX {
                let problem = format!("{}; at most {THREADS_MAX} can be", started.threads);
                return Err(BadMessage::Value { field: "threads", problem });
            }
            Report::Started(started)
        }
        Body::Points(from) => Report::Points(points(from.points)?),
        Body::Progress(wire::Progress { epoch, share, duration_ms }) => {
            check_epoch(epoch, duration_ms)?;
            if !(0.0..=1.0).contains(&share) {
                return Err(BadMessage::Value { field: "share", problem: format!("{share}; it is one, 0 to 1") });
            }
            Report::Progress { epoch, share, duration_ms }
        }
        Body::EpochFinished(wire::EpochFinished { epoch, duration_ms, points: from }) => {
            check_epoch(epoch, duration_ms)?;
            Report::EpochFinished { epoch, duration_ms, points: points(from)? }
        }
        Body::Ended(wire::Ended { end_json }) => {
            if end_json.len() > END_BYTES_MAX {
                let problem = format!("has {} bytes; at most {END_BYTES_MAX} are allowed", end_json.len());
                return Err(BadMessage::Value { field: "end_json", problem });
            }
            Report::Ended(cleaned(attempt_end(&end_json)?))
        }
        Body::Log(wire::LogLines { mut lines }) => {
            if lines.len() > LINES_MAX {
                let problem = format!("{} are told; at most {LINES_MAX} can be in one message", lines.len());
                return Err(BadMessage::Value { field: "lines", problem });
            }
            for line in &mut lines {
                line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
                line.retain(is_harmless);
            }
            Report::Log(lines)
        }
        Body::Listening(wire::Listening { address }) => Report::Listening(reachable(address)?),
    })
}

/// It is shown on terminals as it is: nothing in it may move a cursor or ask for an answer.
fn is_harmless(letter: char) -> bool {
    letter == '\t' || !letter.is_control()
}

/// With a reason that can be shown.
fn cleaned(mut end: AttemptEnd) -> AttemptEnd {
    match &mut end {
        AttemptEnd::Failed { reason }
        | AttemptEnd::Crashed { reason }
        | AttemptEnd::CrashedTogether { reason, .. }
        | AttemptEnd::Lost { reason } => {
            reason.retain(|letter| letter == '\n' || is_harmless(letter));
        }
        AttemptEnd::Completed | AttemptEnd::Stopped => {}
    }
    end
}

/// Bytes that a message has on its way.
#[must_use]
pub fn bytes_of(message: &wire::WorkerMessage) -> usize {
    prost::Message::encoded_len(message)
}

/// `HOST:PORT` that somebody can connect to.
fn reachable(address: String) -> Result<String, BadMessage> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse().ok());
    let is_plain =
        address.len() <= NAME_BYTES_MAX && !address.contains(|it: char| it.is_control() || it.is_whitespace());
    match port {
        Some(1..=u16::MAX) if is_plain => Ok(address),
        _ => Err(BadMessage::Value { field: "address", problem: format!("{address:?} is not HOST:PORT") }),
    }
}

/// JSON of a value whose types cannot fail to become JSON.
#[must_use]
pub fn to_json<T: serde::Serialize>(value: &T) -> String {
    // Our types have text keys and finite numbers only, so this cannot fail; an empty object would be refused
    // by every reader.
    serde_json::to_string(value).unwrap_or_default()
}

fn from_json<T: serde::de::DeserializeOwned>(field: &'static str, json: &str) -> Result<T, BadMessage> {
    serde_json::from_str(json).map_err(|error| BadMessage::Value { field, problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn register() -> wire::Register {
        wire::Register {
            worker: 7,
            host: "gpu1".to_owned(),
            version: "0.1.0".to_owned(),
            process: 1,
            slots: vec![wire::Slot { device: "cpu".to_owned() }],
            holding: Vec::new(),
        }
    }

    #[test]
    fn a_registration_is_checked() {
        let slots = |count| vec![wire::Slot { device: "cpu".to_owned() }; count];
        let held = |slot, token| vec![wire::Held { slot, token }];
        let token = wire::Token { trial: 1, attempt: 1, replica: 0, incarnation: 1 };
        for (register, expected) in [
            (register(), Ok(())),
            (wire::Register { holding: held(0, Some(token)), ..register() }, Ok(())),
            (wire::Register { slots: slots(0), ..register() }, Err("slots: 0 are offered; 1 to 1024 can be")),
            (wire::Register { slots: slots(1025), ..register() }, Err("slots: 1025 are offered; 1 to 1024 can be")),
            (wire::Register { host: String::new(), ..register() }, Err("host: has 0 bytes; 1 to 256 are allowed")),
            (wire::Register { host: "x".repeat(300), ..register() }, Err("host: has 300 bytes; 1 to 256 are allowed")),
            (
                wire::Register { host: "a\u{1b}[2J".to_owned(), ..register() },
                Err("host: \"a\\u{1b}[2J\" has a control character"),
            ),
            (
                wire::Register { holding: vec![held(0, Some(token))[0]; 16_385], ..register() },
                Err("holding: 16385 leases are told; at most 16384 can be"),
            ),
            (
                wire::Register { holding: held(1, Some(token)), ..register() },
                Err("holding: names a slot that is not offered"),
            ),
            (wire::Register { holding: held(0, None), ..register() }, Err("the message has no token")),
        ] {
            let result = registration(register).map(|_| ()).map_err(|bad| bad.to_string());
            assert_eq!(result, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn a_report_is_checked() {
        use wire::report::Body;
        let token = Some(wire::Token { trial: 1, attempt: 1, replica: 0, incarnation: 1 });
        let point = |name: &str, step, value| wire::Point { name: name.to_owned(), step, value };
        let points = |point| Body::Points(wire::Points { points: vec![point] });
        let listening = |address: &str| Body::Listening(wire::Listening { address: address.to_owned() });
        let started = |device: &str| {
            let (device, word) = (device.to_owned(), "none".to_owned());
            let (threads, resumed_epoch) = (1, 0);
            let (instruction_set, libtorch) = (word.clone(), word);
            Body::Started(wire::Started { device, threads, instruction_set, libtorch, resumed_epoch })
        };
        let threads = |threads| match started("cpu") {
            Body::Started(started) => Body::Started(wire::Started { threads, ..started }),
            other => other,
        };
        let lasted =
            |duration_ms| Body::EpochFinished(wire::EpochFinished { epoch: 1, duration_ms, points: Vec::new() });
        let many_points = Body::Points(wire::Points { points: vec![point("step_loss", 1, 0.5); 10_001] });
        let many_lines = Body::Log(wire::LogLines { lines: vec![String::new(); 1_001] });
        let ended = |bytes| Body::Ended(wire::Ended { end_json: " ".repeat(bytes) });
        let epoch = |epoch| Body::EpochFinished(wire::EpochFinished { epoch, duration_ms: 1, points: Vec::new() });
        let progress = |epoch, share| Body::Progress(wire::Progress { epoch, share, duration_ms: 1 });
        for (token, body, expected) in [
            (token, Some(progress(1, 0.5)), Ok(())),
            (token, Some(progress(0, 0.5)), Err("epoch: they count from 1")),
            (token, Some(progress(1, 1.5)), Err("share: 1.5; it is one, 0 to 1")),
            (token, Some(progress(1, f64::NAN)), Err("share: NaN; it is one, 0 to 1")),
            (token, Some(points(point("step_loss", 1, 0.5))), Ok(())),
            (None, Some(points(point("step_loss", 1, 0.5))), Err("the message has no token")),
            (token, None, Err("the message has no report")),
            (token, Some(points(point("nonsense", 1, 0.5))), Err("points: no metric is called \"nonsense\"")),
            (token, Some(points(point("step_loss", 1, f64::NAN))), Err("points: step_loss is NaN")),
            (token, Some(points(point("step_loss", u64::MAX, 1.0))), Err("points: step 18446744073709551615")),
            (token, Some(epoch(1)), Ok(())),
            (token, Some(started("cpu")), Ok(())),
            (token, Some(threads(4096)), Ok(())),
            (token, Some(threads(4097)), Err("threads: 4097; at most 4096 can be")),
            (token, Some(lasted(u64::MAX)), Err("duration_ms: 18446744073709551615; at most 315360000000 can be")),
            (token, Some(many_points), Err("points: 10001 are told; at most 10000 can be in one message")),
            (token, Some(many_lines), Err("lines: 1001 are told; at most 1000 can be in one message")),
            (token, Some(started("")), Err("device: has 0 bytes; 1 to 256 are allowed")),
            (token, Some(ended(70_000)), Err("end_json: has 70000 bytes; at most 65536 are allowed")),
            (token, Some(epoch(0)), Err("epoch: they count from 1")),
            (token, Some(listening("127.0.0.1:43121")), Ok(())),
            (token, Some(listening("[::1]:43121")), Ok(())),
            (token, Some(listening("127.0.0.1:0")), Err("address: \"127.0.0.1:0\" is not HOST:PORT")),
            (token, Some(listening(":80")), Err("address: \":80\" is not HOST:PORT")),
        ] {
            let said = wire::worker_message::Body::Report(wire::Report { token, body });
            let result = saying(said).map(|_| ()).map_err(|bad| bad.to_string());
            assert_eq!(result, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn what_gpus_do_is_checked() {
        let gpu = |utilisation| wire::GpuUse { name: "H100".to_owned(), utilisation, ..wire::GpuUse::default() };
        let of_slot = |gpu| wire::SlotGpu { slot: 3, gpu };
        for (gpu, expected) in [
            (Some(gpu(0.5)), Ok(())),
            (None, Err("the message has no gpu")),
            (Some(gpu(1.5)), Err("gpus: utilisation 1.5; it is a share")),
            (Some(gpu(f64::NAN)), Err("gpus: utilisation NaN; it is a share")),
        ] {
            let said = wire::worker_message::Body::Heartbeat(wire::Heartbeat { gpus: vec![of_slot(gpu)] });
            let result = saying(said).map(|_| ()).map_err(|bad| bad.to_string());
            assert_eq!(result, expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn long_lines_are_cut_between_letters() {
        let lines = wire::LogLines { lines: vec!["ä".repeat(4000), "short".to_owned()] };
        let Ok(Report::Log(lines)) = report(wire::report::Body::Log(lines)) else { panic!("not a log") };
        assert_eq!((lines[0].len(), lines[0].chars().last(), lines[1].as_str()), (4096, Some('ä'), "short"));
        let lines = wire::LogLines { lines: vec!["\u{1b}[2Ja\tb\r\n".to_owned()] };
        let Ok(Report::Log(lines)) = report(wire::report::Body::Log(lines)) else { panic!("not a log") };
        assert_eq!(lines, ["[2Ja\tb"]);
    }

    #[test]
    fn what_people_will_see_moves_no_cursor() {
        let end = AttemptEnd::Failed { reason: "no data\u{1b}[2J\u{7}\nat all".to_owned() };
        let said = report(wire::report::Body::Ended(wire::Ended { end_json: to_json(&end) })).unwrap();
        assert_eq!(said, Report::Ended(AttemptEnd::Failed { reason: "no data[2J\nat all".to_owned() }));
        let gpu = wire::GpuUse { name: "H100\u{1b}[2J".to_owned(), ..wire::GpuUse::default() };
        let refused = gpus(vec![wire::SlotGpu { slot: 0, gpu: Some(gpu) }]).unwrap_err().to_string();
        assert_eq!(refused, "gpus: the name \"H100\\u{1b}[2J\" has a control character");
        for address in ["a b:7", "a\u{1b}:7", "a\n:7"] {
            assert!(reachable(address.to_owned()).is_err(), "{address:?}");
        }
    }
}
