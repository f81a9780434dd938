//! Numbers for operators: what is counted, and under which names.
//!
//! Counters grow where things happen. What is now (trials, workers, slots) is asked of the driver when somebody
//! scrapes, so that nobody pays for it otherwise.

use crate::driver::{Input, Shared};
use std::sync::Arc;
use std::time::Duration;
use sweeps::scheduler::{AttemptEnd, StateCounts};
use telemetry::registry::{LONG_SECONDS, SECONDS};
use telemetry::{Counter, Counters, Family, Gauge, Gauges, Histogram, Histograms, MetricError, Registry};

/// How long a scrape waits for the driver; then the last known numbers are given.
const DRIVER_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes, from 64 KiB to 4 GiB.
const BYTES: &[f64] =
    &[65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0, 268_435_456.0, 4_294_967_296.0];
/// Updates of the parameters.
const UPDATES: &[f64] = &[0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 32.0, 64.0];
/// Images a second.
const RATES: &[f64] = &[10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0];

/// All that a coordinator counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,

    pub(crate) leases_granted: Counter,
    pub(crate) attempts_ended: Counters,
    pub(crate) reports: Counters,
    pub(crate) reports_refused: Counter,
    pub(crate) points: Counter,
    pub(crate) epochs: Counter,
    pub(crate) epoch_seconds: Histogram,
    pub(crate) epoch_images_per_second: Histogram,
    pub(crate) staleness_mean: Histogram,
    pub(crate) staleness_max: Histogram,
    pub(crate) checkpoints: Counter,
    pub(crate) checkpoint_bytes: Histogram,
    pub(crate) workers_joined: Counter,
    pub(crate) workers_lost: Counter,
    pub(crate) transaction_seconds: Histogram,
    pub(crate) transactions_failed: Counter,
    pub(crate) grpc_requests: Counters,
    pub(crate) grpc_seconds: Histograms,

    pub(crate) trials: Gauges,
    pub(crate) progress: Gauges,
    pub(crate) queue_inputs: Gauge,
    pub(crate) workers: Gauges,
    pub(crate) slots: Gauges,
    pub(crate) heartbeat_age_seconds: Gauges,
    pub(crate) images_per_second: Gauges,
    pub(crate) store_writable: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, MetricError> {
        let registry = Registry::default();
        let of = &registry;
        let build = of.gauges("alpharho_coordinator_info", "1, labelled with what runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let metrics = Self {
            leases_granted: of.counter("alpharho_leases_granted_total", "Leases granted: attempts begun.")?,
            attempts_ended: of.counters("alpharho_attempts_ended_total", "Attempts that ended, by how.", &["end"])?,
            reports: of.counters("alpharho_reports_total", "What workers said, by kind.", &["kind"])?,
            reports_refused: of.counter(
                "alpharho_reports_refused_total",
                "Reports refused because the attempt was not current any more.",
            )?,
            points: of.counter("alpharho_metric_points_total", "Measured values taken from trainers.")?,
            epochs: of.counter("alpharho_epochs_total", "Epochs finished.")?,
            epoch_seconds: of.histogram(
                "alpharho_epoch_seconds",
                "How long epochs took, evaluation included.",
                LONG_SECONDS,
            )?,
            epoch_images_per_second: of.histogram(
                "alpharho_epoch_images_per_second",
                "Training throughput of finished epochs.",
                RATES,
            )?,
            staleness_mean: of.histogram(
                "alpharho_epoch_staleness_mean_updates",
                "Mean staleness of an epoch's gradients, of trials with several replicas.",
                UPDATES,
            )?,
            staleness_max: of.histogram(
                "alpharho_epoch_staleness_max_updates",
                "Largest staleness among an epoch's gradients, of trials with several replicas.",
                UPDATES,
            )?,
            checkpoints: of.counter("alpharho_checkpoints_total", "Checkpoints taken from workers.")?,
            checkpoint_bytes: of.histogram("alpharho_checkpoint_bytes", "Sizes of checkpoints.", BYTES)?,
            workers_joined: of.counter("alpharho_workers_joined_total", "Registrations of workers.")?,
            workers_lost: of.counter("alpharho_workers_lost_total", "Workers whose leases ran out.")?,
            transaction_seconds: of.histogram(
                "alpharho_store_transaction_seconds",
                "How long transactions of the store took, until they were on disk.",
                SECONDS,
            )?,
            transactions_failed: of.counter(
                "alpharho_store_transactions_failed_total",
                "Tries to write the store that failed; each is tried again.",
            )?,
            grpc_requests: of.counters(
                "alpharho_grpc_requests_total",
                "gRPC calls that ended, by method and status code.",
                &["method", "code"],
            )?,
            grpc_seconds: of.histograms(
                "alpharho_grpc_response_seconds",
                "How long gRPC calls waited for their answer to begin.",
                SECONDS,
                &["method"],
            )?,
            trials: of.gauges("alpharho_trials", "Trials, by sweep and state.", &["sweep", "state"])?,
            progress: of.gauges(
                "alpharho_sweep_completed_ratio",
                "Share of a sweep's trials completed.",
                &["sweep"],
            )?,
            queue_inputs: of.gauge("alpharho_queue_inputs", "Messages waiting for the coordinator's driver.")?,
            workers: of.gauges("alpharho_workers", "Workers, by state.", &["state"])?,
            slots: of.gauges("alpharho_slots", "Slots of workers that are there, by state.", &["state"])?,
            heartbeat_age_seconds: of.gauges(
                "alpharho_worker_heartbeat_age_seconds",
                "Time since a worker was heard last.",
                &["worker", "host"],
            )?,
            images_per_second: of.gauges(
                "alpharho_slot_images_per_second",
                "Training throughput of a slot, as reported last.",
                &["worker", "host", "slot", "device"],
            )?,
            store_writable: of.gauge("alpharho_store_writable", "0 while the store cannot be written.")?,
            registry,
        };
        metrics.begin();
        Ok(metrics)
    }

    #[cfg(test)]
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// What can be counted is there from the start, at 0: else its first increase is not seen as one.
    fn begin(&self) {
        for end in AttemptEnd::WORDS {
            self.attempts_ended.with_label_values(&[end]);
        }
        for kind in
            ["heartbeat", "started", "points", "progress", "epoch", "ended", "log", "listening", "draining", "goodbye"]
        {
            self.reports.with_label_values(&[kind]);
        }
        self.store_writable.set(1.0);
    }

    pub(crate) fn attempt_ended(&self, end: &AttemptEnd) {
        self.attempts_ended.with_label_values(&[end.word()]).inc();
    }

    pub(crate) fn put_trials(&self, sweep: &str, counts: StateCounts) {
        let StateCounts { pending, running, paused, completed, failed, cancelled } = counts;
        for (state, count) in [
            ("pending", pending),
            ("running", running),
            ("paused", paused),
            ("completed", completed),
            ("failed", failed),
            ("cancelled", cancelled),
        ] {
            self.trials.with_label_values(&[sweep, state]).set(count as f64);
        }
        let completed = completed as f64 / counts.total().max(1) as f64;
        self.progress.with_label_values(&[sweep]).set(completed);
    }
}

/// Gives a coordinator's numbers in Prometheus' text format.
#[derive(Clone, Debug)]
pub struct Scraper {
    pub(crate) shared: Arc<Shared>,
}

impl Scraper {
    /// What there is now; should the driver be stuck, for instance on a full disk, what was known last.
    pub async fn text(&self) -> String {
        let (reply, done) = tokio::sync::oneshot::channel();
        let asked = async {
            // A driver that is gone has left its numbers.
            if self.shared.inputs.send(Input::Scrape { reply }).await.is_ok() {
                let _ = done.await;
            }
        };
        let _ = tokio::time::timeout(DRIVER_PATIENCE, asked).await;
        let metrics = &self.shared.metrics;
        metrics.store_writable.set(if self.shared.trouble.borrow().is_none() { 1.0 } else { 0.0 });
        metrics.registry.text()
    }
}

impl Scraper {
    /// Has the scheduler look at itself, for tests: the driver panics should anything not fit together.
    pub async fn check_invariants(&self) {
        let (reply, done) = tokio::sync::oneshot::channel();
        if self.shared.inputs.send(Input::CheckInvariants { reply }).await.is_ok() {
            let _ = done.await;
        }
    }
}

/// All names under which a coordinator counts.
///
/// # Errors
/// Never, as a test holds: when a name is no good, or there twice.
pub fn families() -> Result<Vec<Family>, MetricError> {
    Ok(Metrics::new()?.registry.families())
}
