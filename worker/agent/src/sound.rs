//! What a trainer says is looked at as the coordinator will look at it. A message that it does not take ends a session,
//! and the next one would begin with the same message: one line of a broken trainer would cost the whole worker.

use proto::convert::{self, BadMessage};
use proto::wire;
use proto::wire::report::Body;
use proto::wire::worker_message::Body as Says;
use sweeps::scheduler::AttemptEnd;

/// The report as the coordinator takes it, and what was wrong with it. Nothing where nothing is left; but that an attempt
/// has ended, or an epoch, is told whatever else was said of it: others wait for it.
#[must_use]
pub fn sound(report: wire::Report) -> (Option<wire::Report>, Option<BadMessage>) {
    let Err(bad) = convert::saying(Says::Report(report.clone())) else { return (Some(report), None) };
    let wire::Report { token, body } = report;
    let body = match body {
        Some(Body::Ended(_)) => {
            let reason = format!("its trainer ended it with words that cannot be told: {bad}");
            let end_json = convert::to_json(&AttemptEnd::Crashed { reason });
            Some(Body::Ended(wire::Ended { end_json }))
        }
        Some(Body::EpochFinished(wire::EpochFinished { epoch, .. })) => {
            Some(Body::EpochFinished(wire::EpochFinished { epoch, duration_ms: 0, points: Vec::new() }))
        }
        _ => None,
    };
    let mended = wire::Report { token, body };
    let is_good = convert::saying(Says::Report(mended.clone())).is_ok();
    (is_good.then_some(mended), Some(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_coordinator_would_not_take_is_left_out_or_mended() {
        let point = |value| wire::Point { name: "val_top1".to_owned(), step: 1, value };
        let epoch =
            |epoch, duration_ms, points| Body::EpochFinished(wire::EpochFinished { epoch, duration_ms, points });
        let ended = |reason: &str| {
            let end = AttemptEnd::Failed { reason: reason.to_owned() };
            Body::Ended(wire::Ended { end_json: convert::to_json(&end) })
        };
        let started = |device: &str| {
            let word = "none".to_owned();
            let device = device.to_owned();
            let (instruction_set, libtorch) = (word.clone(), word);
            Body::Started(wire::Started { device, threads: 1, instruction_set, libtorch, resumed_epoch: 0 })
        };
        for (body, expected) in [
            (epoch(1, 5, vec![point(0.5)]), Some(epoch(1, 5, vec![point(0.5)]))),
            (epoch(1, u64::MAX, vec![point(0.5)]), Some(epoch(1, 0, vec![]))),
            (epoch(2, 5, vec![point(0.5); 10_001]), Some(epoch(2, 0, vec![]))),
            (epoch(0, 5, vec![]), None),
            (Body::Points(wire::Points { points: vec![point(f64::NAN)] }), None),
            (started("cpu"), Some(started("cpu"))),
            (started("\u{1b}[2J"), None),
            (ended("short"), Some(ended("short"))),
            (Body::Listening(wire::Listening { address: "no address".to_owned() }), None),
        ] {
            let report = wire::Report { token: Some(wire::Token::default()), body: Some(body) };
            let (sound, bad) = sound(report.clone());
            assert_eq!(bad.is_none(), sound.as_ref() == Some(&report), "{report:?}");
            assert_eq!(sound.and_then(|sound| sound.body), expected);
        }
        let report = wire::Report { token: Some(wire::Token::default()), body: Some(ended(&"long".repeat(20_000))) };
        let Some(Body::Ended(wire::Ended { end_json })) = sound(report).0.and_then(|sound| sound.body) else {
            panic!("its end is not told")
        };
        assert!(matches!(convert::attempt_end(&end_json), Ok(AttemptEnd::Crashed { .. })), "{end_json}");
    }
}
