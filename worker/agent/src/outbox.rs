//! What was reported and is not yet acknowledged: kept while the coordinator is away, sent again when it is
//! back. Pure.

use crate::sound::sound;
use proto::wire;
use proto::wire::report::Body;
use std::collections::VecDeque;

/// Messages on their way at a time.
pub(crate) const WINDOW: usize = 512;
/// Points, lines and reports kept; more than this are thinned.
const WEIGHT_MAX: usize = 50_000;

/// Unacknowledged reports, oldest first.
#[derive(Default)]
pub(crate) struct Outbox {
    entries: VecDeque<Entry>,
    /// How many of the oldest were sent in this session.
    sent: usize,
    weight: usize,
}

struct Entry {
    slot: u32,
    report: wire::Report,
    /// Given when sent; forgotten with the session.
    sequence: u64,
}

impl Entry {
    fn weight(&self) -> usize {
        1 + match &self.report.body {
            Some(Body::Points(points)) => points.points.len(),
            Some(Body::EpochFinished(epoch)) => epoch.points.len(),
            Some(Body::Log(log)) => log.lines.len(),
            Some(Body::Started(_) | Body::Ended(_) | Body::Listening(_) | Body::Progress(_)) | None => 0,
        }
    }

    fn is_within_epoch(&self) -> bool {
        matches!(self.report.body, Some(Body::Points(_) | Body::Progress(_)))
    }

    fn is_log(&self) -> bool {
        matches!(self.report.body, Some(Body::Log(_)))
    }
}

impl Outbox {
    /// Keeps a report of a slot's trainer until it is acknowledged, as far as the coordinator will take it.
    pub(crate) fn push(&mut self, slot: u32, report: wire::Report) {
        let (report, bad) = sound(report);
        if let Some(bad) = bad {
            tracing::warn!("the trainer of slot {slot} said what makes no sense: {bad}");
        }
        let Some(report) = report else { return };
        let entry = Entry { slot, report, sequence: 0 };
        self.weight += entry.weight();
        self.entries.push_back(entry);
        if self.weight > WEIGHT_MAX {
            self.thin(WEIGHT_MAX / 2);
        }
    }

    /// The oldest report not yet sent in this session, if the window has room: it counts as sent under `sequence`.
    pub(crate) fn send(&mut self, sequence: u64) -> Option<wire::Report> {
        if self.sent >= WINDOW {
            return None;
        }
        let entry = self.entries.get_mut(self.sent)?;
        entry.sequence = sequence;
        self.sent += 1;
        Some(entry.report.clone())
    }

    /// All that was sent up to `sequence` is on the coordinator's disk; what that was.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> Vec<wire::Report> {
        let mut heard = Vec::new();
        while self.sent > 0 && self.entries.front().is_some_and(|entry| entry.sequence <= sequence) {
            self.sent -= 1;
            if let Some(entry) = self.entries.pop_front() {
                self.weight -= entry.weight();
                heard.push(entry.report);
            }
        }
        heard
    }

    /// A new session began: everything is to be sent again.
    pub(crate) fn resend(&mut self) {
        self.sent = 0;
    }

    /// Nobody wants to hear of that token any more.
    pub(crate) fn forget(&mut self, token: wire::Token) {
        self.retain(|entry| entry.report.token != Some(token));
    }

    /// Slots and tokens of attempts whose end is not yet acknowledged.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (u32, wire::Token)> {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.report.body, Some(Body::Ended(_))))
            .filter_map(|entry| Some((entry.slot, entry.report.token?)))
    }

    /// Reports that are not acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes away progress within epochs, every second report of it, oldest first; when none is left, the oldest
    /// lines of logs. Never epochs, starts or ends.
    fn thin(&mut self, weight_wanted: usize) {
        while self.weight > weight_wanted && self.entries.iter().any(Entry::is_within_epoch) {
            let mut surplus = self.weight.saturating_sub(weight_wanted);
            let mut every_second = true;
            self.retain(|entry| {
                if !entry.is_within_epoch() || surplus == 0 {
                    return true;
                }
                every_second = !every_second;
                if !every_second {
                    surplus = surplus.saturating_sub(entry.weight());
                }
                every_second
            });
        }
        let mut surplus = self.weight.saturating_sub(weight_wanted);
        self.retain(|entry| {
            if !entry.is_log() || surplus == 0 {
                return true;
            }
            surplus = surplus.saturating_sub(entry.weight());
            false
        });
    }

    fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        let (sent, mut place) = (self.sent, 0);
        let (weight, still_sent) = (&mut self.weight, &mut self.sent);
        self.entries.retain(|entry| {
            let kept = keep(entry);
            if !kept {
                *weight -= entry.weight();
                if place < sent {
                    *still_sent -= 1;
                }
            }
            place += 1;
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(trial: u64) -> wire::Token {
        wire::Token { trial, attempt: 1, replica: 0, incarnation: 1 }
    }

    fn report(trial: u64, body: Body) -> wire::Report {
        wire::Report { token: Some(token(trial)), body: Some(body) }
    }

    fn points(step: u64) -> Body {
        Body::Points(wire::Points { points: vec![wire::Point { name: "step_loss".into(), step, value: 1.0 }] })
    }

    fn epoch(epoch: u32) -> Body {
        Body::EpochFinished(wire::EpochFinished { epoch, duration_ms: 1, points: vec![] })
    }

    fn ended() -> Body {
        Body::Ended(wire::Ended { end_json: r#"{"end":"completed"}"#.into() })
    }

    fn send_all(outbox: &mut Outbox, mut sequence: u64) -> Vec<Body> {
        let mut sent = Vec::new();
        while let Some(report) = outbox.send(sequence) {
            sequence += 1;
            sent.push(report.body.unwrap());
        }
        sent
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_in_order() {
        let mut outbox = Outbox::default();
        for body in [epoch(1), epoch(2), epoch(3), ended()] {
            outbox.push(0, report(7, body));
        }
        assert_eq!(send_all(&mut outbox, 10), [epoch(1), epoch(2), epoch(3), ended()]);
        assert_eq!(send_all(&mut outbox, 14), []);
        outbox.acknowledge(11);
        outbox.resend();
        assert_eq!(send_all(&mut outbox, 2), [epoch(3), ended()]);
        assert_eq!(outbox.ended().collect::<Vec<_>>(), [(0, token(7))]);
        outbox.acknowledge(3);
        assert!(outbox.is_empty());
        assert_eq!(outbox.ended().count(), 0);
    }

    #[test]
    fn an_acknowledgement_of_an_old_session_takes_nothing_unsent() {
        let mut outbox = Outbox::default();
        outbox.push(0, report(7, epoch(1)));
        assert!(outbox.send(5).is_some());
        outbox.resend();
        outbox.acknowledge(9);
        assert_eq!(send_all(&mut outbox, 2), [epoch(1)]);
    }

    #[test]
    fn the_window_bounds_what_is_on_its_way() {
        let mut outbox = Outbox::default();
        for step in 0..2 * WINDOW as u64 {
            outbox.push(0, report(7, points(step)));
        }
        assert_eq!(send_all(&mut outbox, 1).len(), WINDOW);
        outbox.acknowledge(10);
        assert_eq!(send_all(&mut outbox, WINDOW as u64 + 1).len(), 10);
    }

    #[test]
    fn a_long_absence_thins_progress_and_never_epochs_or_ends() {
        let mut outbox = Outbox::default();
        for number in 1..=200_u32 {
            for step in 0..500 {
                outbox.push(0, report(7, points(u64::from(number) * 500 + step)));
            }
            outbox.push(0, report(7, epoch(number)));
        }
        outbox.push(0, report(7, ended()));
        assert!(outbox.weight <= WEIGHT_MAX);
        let kept = |wanted: fn(&Body) -> bool| {
            outbox.entries.iter().filter(|entry| entry.report.body.as_ref().is_some_and(wanted)).count()
        };
        assert_eq!(kept(|body| matches!(body, Body::EpochFinished(_))), 200);
        assert_eq!(kept(|body| matches!(body, Body::Ended(_))), 1);
        assert!(kept(|body| matches!(body, Body::Points(_))) > 1000);
        let weight: usize = outbox.entries.iter().map(Entry::weight).sum();
        assert_eq!(weight, outbox.weight);
    }

    #[test]
    fn logs_go_when_no_progress_is_left() {
        let mut outbox = Outbox::default();
        for line in 0..60_000 {
            outbox.push(0, report(7, Body::Log(wire::LogLines { lines: vec![line.to_string()] })));
        }
        outbox.push(0, report(7, ended()));
        assert!(outbox.weight <= WEIGHT_MAX);
        assert_eq!(outbox.ended().count(), 1);
    }

    #[test]
    fn forgetting_a_token_keeps_the_place_of_the_others() {
        let mut outbox = Outbox::default();
        for trial in [7, 8, 7, 8] {
            outbox.push(0, report(trial, epoch(u32::try_from(trial).unwrap())));
        }
        assert!(outbox.send(1).is_some());
        assert!(outbox.send(2).is_some());
        outbox.forget(token(7));
        assert_eq!((outbox.sent, outbox.entries.len()), (1, 2));
        assert_eq!(send_all(&mut outbox, 3), [epoch(8)]);
    }
}
