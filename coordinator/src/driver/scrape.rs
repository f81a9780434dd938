//! What is now, as numbers for operators.

use super::Driver;
use crate::clock::unix_ms;
use sweeps::scheduler::WorkerState;

impl Driver {
    /// Labels of what is gone go with it.
    pub(super) fn refresh_metrics(&self) {
        let metrics = &self.metrics;
        metrics.queue_inputs.set(self.inputs.len() as f64);
        metrics.trials.reset();
        metrics.progress.reset();
        for sweep in self.scheduler.sweeps() {
            metrics.put_trials(sweep.sweep, sweep.counts);
        }
        metrics.heartbeat_age_seconds.reset();
        metrics.images_per_second.reset();
        let (mut attached, mut draining, mut disconnected, mut set_aside) = (0.0, 0.0, 0.0, 0.0);
        let (mut busy, mut free) = (0.0, 0.0);
        let now_ms = unix_ms();
        for worker in self.scheduler.workers() {
            match worker.state {
                WorkerState::Attached => attached += 1.0,
                WorkerState::Draining => draining += 1.0,
                WorkerState::SetAside => set_aside += 1.0,
                WorkerState::Disconnected => disconnected += 1.0,
            }
            let id = worker.worker.to_string();
            let guest = self.guests.get(&worker.worker);
            if let Some(guest) = guest {
                let age_ms = now_ms.saturating_sub(guest.last_seen_ms).max(0);
                let age = metrics.heartbeat_age_seconds.with_label_values(&[id.as_str(), worker.host]);
                age.set(age_ms as f64 / 1000.0);
            }
            for slot in &worker.slots {
                *(if slot.trials.is_empty() { &mut free } else { &mut busy }) += 1.0;
                let speed = guest.and_then(|guest| guest.images_per_second.get(&slot.index)).copied();
                if let (Some(speed), false) = (speed, slot.trials.is_empty()) {
                    let labels = [id.as_str(), worker.host, &slot.index.to_string(), slot.device];
                    metrics.images_per_second.with_label_values(&labels).set(speed);
                }
            }
        }
        let states =
            [("attached", attached), ("draining", draining), ("set aside", set_aside), ("disconnected", disconnected)];
        for (state, count) in states {
            metrics.workers.with_label_values(&[state]).set(count);
        }
        for (state, count) in [("busy", busy), ("free", free)] {
            metrics.slots.with_label_values(&[state]).set(count);
        }
    }
}
