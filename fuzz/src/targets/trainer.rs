//! What an agent reads of its trainer: lines of a pipe, and what of them goes to the coordinator.

use super::pipe;
use crate::dice::Dice;
use crate::run::Target;
use agent::lines::Lines;
use agent::sound::sound;
use proto::link::Said;
use proto::wire::report::Body;
use proto::{convert, wire};
use tokio::runtime::Runtime;

/// As the agent cuts them.
const LINE_BYTES_MAX: usize = 1 << 20;

struct Trainer {
    /// Makes lines up.
    pipe: Box<dyn Target>,
    runtime: Runtime,
}

#[expect(clippy::expect_used, reason = "without a runtime there is nothing to try")]
pub(super) fn open() -> Box<dyn Target> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    Box::new(Trainer { pipe: pipe::open(), runtime })
}

impl Target for Trainer {
    /// Some lines, with or without their ends.
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..1 + dice.below(3) {
            bytes.extend(self.pipe.make(dice));
            bytes.extend_from_slice(dice.pick(&["\n", "\r\n", "\n\n", ""]).as_bytes());
        }
        bytes
    }

    fn take(&mut self, case: &[u8]) -> Result<bool, String> {
        self.runtime.block_on(async {
            let mut pipe = Lines::new(case, LINE_BYTES_MAX);
            let mut is_good = false;
            while let Some(line) = pipe.next().await {
                is_good |= heard(&line)?;
            }
            Ok(is_good)
        })
    }
}

/// True if it goes to the coordinator as it was said.
fn heard(line: &str) -> Result<bool, String> {
    // What is not UTF-8 takes three bytes for one.
    if line.len() > 3 * LINE_BYTES_MAX || line.contains('\n') {
        return Err("a line is longer than a line".to_owned());
    }
    let Some(report) = serde_json::from_str(line).ok().and_then(report) else { return Ok(false) };
    let is_end = matches!(report.body, Some(Body::Ended(_)));
    match sound(report) {
        (Some(sound), bad) => match convert::saying(wire::worker_message::Body::Report(sound)) {
            Ok(_) => Ok(bad.is_none()),
            Err(bad) => Err(format!("the coordinator would end the session: {bad}")),
        },
        (None, _) if is_end => Err("an end was not told".to_owned()),
        (None, _) => Ok(false),
    }
}

/// As it is passed on.
fn report(said: Said) -> Option<wire::Report> {
    let points = |points: Vec<sweeps::metrics::Point>| points.into_iter().map(wire::Point::from).collect();
    let (token, body) = match said {
        Said::Started { token, device, threads, instruction_set, libtorch, resumed_epoch } => {
            (token, Body::Started(wire::Started { device, threads, instruction_set, libtorch, resumed_epoch }))
        }
        Said::Listening { token, address } => (token, Body::Listening(wire::Listening { address })),
        Said::Points { token, points: of } => (token, Body::Points(wire::Points { points: points(of) })),
        Said::Progress { token, epoch, share, duration_ms } => {
            (token, Body::Progress(wire::Progress { epoch, share, duration_ms }))
        }
        Said::EpochFinished { token, epoch, duration_ms, points: of } => {
            (token, Body::EpochFinished(wire::EpochFinished { epoch, duration_ms, points: points(of) }))
        }
        Said::Log { token, text } => {
            (token?, Body::Log(wire::LogLines { lines: text.lines().take(20).map(str::to_owned).collect() }))
        }
        Said::Ended { token, end } => (token, Body::Ended(wire::Ended { end_json: convert::to_json(&end) })),
        // Nothing of it, or a file that is sent.
        _ => return None,
    };
    Some(wire::Report { token: Some(token.into()), body: Some(body) })
}
