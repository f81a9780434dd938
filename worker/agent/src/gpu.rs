//! What the GPUs of the slots do, by NVIDIA's management library where the driver has brought it.

use crate::config::SlotPlan;
use crate::metrics::Metrics;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use proto::wire;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Between looks. A look takes the driver some milliseconds.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Looks from time to time, for as long as it is kept.
#[derive(Debug, Default)]
pub(crate) struct GpuWatch {
    /// What was seen and not yet told.
    news: Arc<Mutex<Vec<wire::SlotGpu>>>,
}

impl GpuWatch {
    /// Begins to look, if some slot is a GPU's.
    pub(crate) fn start(slots: &[SlotPlan], metrics: Metrics) -> Self {
        let watch = Self::default();
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let slots: Vec<(u32, Which)> = (0_u32..)
            .zip(slots)
            .filter_map(|(slot, plan)| Some((slot, which(&plan.device, visible.as_deref())?)))
            .collect();
        if slots.is_empty() {
            return watch;
        }
        let news = Arc::downgrade(&watch.news);
        // A thread of its own: the library's calls block.
        let thread = std::thread::Builder::new().name("gpu-watch".to_owned()).spawn(move || {
            let nvml = match Nvml::init() {
                Ok(nvml) => nvml,
                Err(error) => {
                    tracing::info!("the use of GPUs is not known: {error}");
                    return;
                }
            };
            let mut told = false;
            while let Some(news) = news.upgrade() {
                let seen: Vec<wire::SlotGpu> = slots
                    .iter()
                    .filter_map(|(slot, which)| match look(&nvml, which) {
                        Ok(gpu) => Some(wire::SlotGpu { slot: *slot, gpu: Some(gpu) }),
                        Err(error) => {
                            if !std::mem::replace(&mut told, true) {
                                tracing::warn!(slot, "the use of its GPU is not known: {error}");
                            }
                            None
                        }
                    })
                    .collect();
                for SlotSeen { slot, gpu } in seen.iter().filter_map(SlotSeen::of) {
                    let labels = [slot.as_str(), gpu.name.as_str()];
                    metrics.gpu_memory_used_bytes.with_label_values(&labels).set(gpu.memory_used_bytes as f64);
                    metrics.gpu_memory_total_bytes.with_label_values(&labels).set(gpu.memory_total_bytes as f64);
                    metrics.gpu_utilisation.with_label_values(&labels).set(gpu.utilisation);
                }
                *news.lock().unwrap_or_else(PoisonError::into_inner) = seen;
                drop(news);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        if let Err(error) = thread {
            tracing::warn!("the use of GPUs is not watched: {error}");
        }
        watch
    }

    /// What was seen since the last call.
    pub(crate) fn news(&self) -> Vec<wire::SlotGpu> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct SlotSeen<'a> {
    slot: String,
    gpu: &'a wire::GpuUse,
}

impl<'a> SlotSeen<'a> {
    fn of(seen: &'a wire::SlotGpu) -> Option<Self> {
        Some(Self { slot: seen.slot.to_string(), gpu: seen.gpu.as_ref()? })
    }
}

/// A GPU as the management library finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// Its place in the library's own list.
    Index(u32),
    /// `GPU-..` or `MIG-..`.
    Uuid(String),
}

/// The GPU that CUDA calls so, where `CUDA_VISIBLE_DEVICES` is this; none for a device that is no GPU, or is hidden.
fn which(device: &str, visible: Option<&str>) -> Option<Which> {
    let index: u32 = device.strip_prefix("cuda:")?.parse().ok()?;
    let Some(visible) = visible else { return Some(Which::Index(index)) };
    let word = visible.split(',').nth(usize::try_from(index).ok()?)?.trim();
    match word.parse() {
        Ok(index) => Some(Which::Index(index)),
        Err(_) if word.starts_with("GPU-") || word.starts_with("MIG-") => Some(Which::Uuid(word.to_owned())),
        Err(_) => None,
    }
}

fn look(nvml: &Nvml, which: &Which) -> Result<wire::GpuUse, NvmlError> {
    let device: Device<'_> = match which {
        Which::Index(index) => nvml.device_by_index(*index)?,
        Which::Uuid(uuid) => nvml.device_by_uuid(uuid.as_str())?,
    };
    let memory = device.memory_info()?;
    // A part of a GPU has a memory of its own, but no utilisation.
    let percent = device.utilization_rates().map_or(0, |rates| rates.gpu.min(100));
    Ok(wire::GpuUse {
        name: device.name()?,
        memory_used_bytes: memory.used,
        memory_total_bytes: memory.total,
        utilisation: f64::from(percent) / 100.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_names_are_found_through_what_is_visible() {
        let index = |index| Some(Which::Index(index));
        let uuid = |uuid: &str| Some(Which::Uuid(uuid.to_owned()));
        for (device, visible, expected) in [
            ("cpu", None, None),
            ("cuda:1", None, index(1)),
            ("cuda:1", Some("3, 5"), index(5)),
            ("cuda:0", Some("GPU-1234,MIG-5"), uuid("GPU-1234")),
            ("cuda:1", Some("GPU-1234,MIG-5"), uuid("MIG-5")),
            ("cuda:2", Some("3,5"), None),
            ("cuda:0", Some(""), None),
        ] {
            assert_eq!(which(device, visible), expected, "{device} of {visible:?}");
        }
    }

    #[test]
    fn without_a_gpu_nothing_is_seen() {
        let slots = [SlotPlan { device: "cpu".to_owned(), threads: 1 }];
        assert_eq!(GpuWatch::start(&slots, Metrics::new().unwrap()).news(), []);
    }
}
