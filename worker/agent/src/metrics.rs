//! Numbers for operators: what an agent counts, and under which names.

use sweeps::scheduler::AttemptEnd;
use telemetry::registry::SECONDS;
use telemetry::{Counter, Counters, Family, Gauge, Gauges, Histogram, MetricError, Registry};

/// All that an agent counts. Copies count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    pub(crate) attached: Gauge,
    pub(crate) sessions: Counter,
    pub(crate) heartbeats: Counter,
    pub(crate) slots: Gauges,
    pub(crate) leases: Counter,
    pub(crate) attempts_ended: Counters,
    pub(crate) images_per_second: Gauges,
    pub(crate) outbox_reports: Gauge,
    pub(crate) uploads: Counters,
    pub(crate) upload_bytes: Counter,
    pub(crate) upload_seconds: Histogram,
    pub(crate) gpu_memory_used_bytes: Gauges,
    pub(crate) gpu_memory_total_bytes: Gauges,
    pub(crate) gpu_utilisation: Gauges,
}

impl Metrics {
    /// Everything at 0.
    ///
    /// # Errors
    /// Never, as a test holds: when a name is no good, or there twice.
    pub fn new() -> Result<Self, MetricError> {
        let registry = Registry::default();
        let of = &registry;
        let gpu = ["slot", "name"];
        let build = of.gauges("alpharho_worker_info", "1, labelled with what runs.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let metrics = Self {
            attached: of.gauge("alpharho_worker_attached", "1 while the coordinator has this worker registered.")?,
            sessions: of.counter("alpharho_worker_sessions_total", "Registrations that the coordinator took.")?,
            heartbeats: of.counter("alpharho_worker_heartbeats_total", "Heartbeats sent.")?,
            slots: of.gauges("alpharho_worker_slots", "Slots, by state.", &["state"])?,
            leases: of.counter("alpharho_worker_leases_total", "Leases taken: trainers started.")?,
            attempts_ended: of.counters(
                "alpharho_worker_attempts_ended_total",
                "Attempts that ended here, by how.",
                &["end"],
            )?,
            images_per_second: of.gauges(
                "alpharho_worker_images_per_second",
                "Training throughput of a slot in its last epoch.",
                &["slot", "device"],
            )?,
            outbox_reports: of
                .gauge("alpharho_worker_outbox_reports", "Reports that the coordinator has not acknowledged yet.")?,
            uploads: of.counters(
                "alpharho_worker_uploads_total",
                "Tries to send a checkpoint, by result: stored, again, refused.",
                &["result"],
            )?,
            upload_bytes: of.counter("alpharho_worker_upload_bytes_total", "Bytes of checkpoints stored.")?,
            upload_seconds: of.histogram(
                "alpharho_worker_upload_seconds",
                "How long checkpoints took until they were stored.",
                SECONDS,
            )?,
            gpu_memory_used_bytes: of.gauges(
                "alpharho_worker_gpu_memory_used_bytes",
                "Memory in use on the GPU of a slot, by all processes.",
                &gpu,
            )?,
            gpu_memory_total_bytes: of.gauges(
                "alpharho_worker_gpu_memory_total_bytes",
                "Memory of the GPU of a slot.",
                &gpu,
            )?,
            gpu_utilisation: of.gauges(
                "alpharho_worker_gpu_utilisation_ratio",
                "Share of the last moments in which the GPU of a slot computed anything.",
                &gpu,
            )?,
            registry,
        };
        for end in AttemptEnd::WORDS {
            metrics.attempts_ended.with_label_values(&[end]);
        }
        for result in ["stored", "again", "refused"] {
            metrics.uploads.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// What there is now, in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        self.registry.text()
    }
}

/// All names under which an agent counts.
///
/// # Errors
/// As [`Metrics::new`].
pub fn families() -> Result<Vec<Family>, MetricError> {
    Ok(Metrics::new()?.registry.families())
}
