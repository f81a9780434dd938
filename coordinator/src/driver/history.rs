//! Which workers were lost or came back: for people, and forgotten with the worker itself.

use proto::wire;
use std::collections::BTreeMap;
use sweeps::event::Happening;
use sweeps::ids::WorkerId;

/// Lost workers that are shown, those seen last.
const LOST_SHOWN_MAX: usize = 64;

/// All workers that have not said goodbye.
#[derive(Debug, Default)]
pub(super) struct History {
    workers: BTreeMap<WorkerId, Box<Past>>,
}

#[derive(Debug, Default)]
struct Past {
    host: String,
    devices: Vec<String>,
    times_lost: u32,
    times_returned: u32,
    is_lost: bool,
    last_seen_ms: i64,
}

impl From<Vec<(i64, Happening)>> for History {
    fn from(happenings: Vec<(i64, Happening)>) -> Self {
        let mut history = Self::default();
        for (at_ms, happening) in &happenings {
            if let Happening::WorkerLost { worker, .. } = happening {
                history.seen_last(*worker, *at_ms);
            }
            history.learn(happening);
        }
        history
    }
}

impl History {
    pub(super) fn learn(&mut self, happening: &Happening) {
        match happening {
            Happening::WorkerJoined { worker, host, devices } => {
                let is_known = self.workers.contains_key(worker);
                let past = self.workers.entry(*worker).or_default();
                past.times_returned += u32::from(is_known);
                past.is_lost = false;
                past.host.clone_from(host);
                past.devices.clone_from(devices);
            }
            Happening::WorkerLost { worker, .. } => {
                let past = self.workers.entry(*worker).or_default();
                past.times_lost += 1;
                past.is_lost = true;
                self.forget_old();
            }
            Happening::WorkerLeft { worker } => {
                self.workers.remove(worker);
            }
            _ => {}
        }
    }

    /// When a worker that is lost now was heard last.
    pub(super) fn seen_last(&mut self, worker: WorkerId, at_ms: i64) {
        self.workers.entry(worker).or_default().last_seen_ms = at_ms;
    }

    /// How often it was lost, and how often it came back.
    pub(super) fn times(&self, worker: WorkerId) -> (u32, u32) {
        self.workers.get(&worker).map_or((0, 0), |past| (past.times_lost, past.times_returned))
    }

    /// Those that are lost now.
    pub(super) fn lost(&self) -> impl Iterator<Item = wire::WorkerStatus> {
        self.workers.iter().filter(|(_, past)| past.is_lost).map(|(worker, past)| wire::WorkerStatus {
            id: worker.0,
            host: past.host.clone(),
            state: "lost".to_owned(),
            slots: past
                .devices
                .iter()
                .map(|device| wire::SlotStatus { device: device.clone(), ..wire::SlotStatus::default() })
                .collect(),
            last_seen_ms: u64::try_from(past.last_seen_ms).unwrap_or(0),
            times_lost: past.times_lost,
            times_returned: past.times_returned,
            ..wire::WorkerStatus::default()
        })
    }

    fn forget_old(&mut self) {
        let mut lost: Vec<(i64, WorkerId)> =
            self.workers.iter().filter(|(_, past)| past.is_lost).map(|(id, past)| (past.last_seen_ms, *id)).collect();
        lost.sort_unstable();
        for (_, worker) in &lost[..lost.len().saturating_sub(LOST_SHOWN_MAX)] {
            self.workers.remove(worker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comings_and_losses_are_counted_and_lost_ones_bounded() {
        let joined =
            |id| Happening::WorkerJoined { worker: WorkerId(id), host: "h".into(), devices: vec!["cpu".into()] };
        let lost = |id| Happening::WorkerLost { worker: WorkerId(id), reason: String::new() };
        let left = |id| Happening::WorkerLeft { worker: WorkerId(id) };
        let happened = [joined(1), lost(1), joined(1), joined(1), joined(2), lost(2), joined(3), left(3)];
        let history = History::from(happened.into_iter().map(|happening| (7, happening)).collect::<Vec<_>>());
        assert_eq!(history.times(WorkerId(1)), (1, 2));
        let words = |history: &History| history.lost().map(|lost| (lost.id, lost.slots.len())).collect::<Vec<_>>();
        assert_eq!(words(&history), [(2, 1)]);
        assert_eq!(history.times(WorkerId(3)), (0, 0));
        let mut history = History::default();
        for id in 0..200 {
            history.learn(&joined(id));
            history.seen_last(WorkerId(id), i64::try_from(id).unwrap());
            history.learn(&lost(id));
        }
        assert_eq!((words(&history).len(), words(&history)[0]), (LOST_SHOWN_MAX, (136, 1)));
    }
}
