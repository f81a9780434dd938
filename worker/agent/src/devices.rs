//! Slots: what this machine offers to train on. No libtorch here: GPUs are counted by the driver's device files.

use std::path::Path;
use std::str::FromStr;

/// What `--device` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// GPUs if there are any, else the CPU.
    #[default]
    Auto,
    /// The CPU, even where there are GPUs.
    Cpu,
    /// That GPU alone.
    Cuda(u32),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            other => match other.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(index)) => Ok(Self::Cuda(index)),
                _ => Err(format!("{other:?} is none of auto, cpu, cuda:N")),
            },
        }
    }
}

/// `auto`, or a number of at least 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// As the machine allows.
    #[default]
    Auto,
    /// Exactly so many.
    Exactly(u32),
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        match text.parse() {
            Ok(number @ 1..=1024) => Ok(Self::Exactly(number)),
            _ => Err(format!("{text:?} is neither auto nor a number from 1 to 1024")),
        }
    }
}

/// One slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPlan {
    /// `cpu`, or `cuda:N`.
    pub device: String,
    /// CPU threads for its trainer.
    pub threads: u32,
}

/// The slots of a machine with so many GPUs and CPU threads.
#[must_use]
pub fn plan(device: &DeviceChoice, slots: Count, threads: Count, gpus: &[u32], cores: u32) -> Vec<SlotPlan> {
    let cuda: Vec<u32> = match device {
        DeviceChoice::Auto => gpus.to_vec(),
        DeviceChoice::Cpu => Vec::new(),
        DeviceChoice::Cuda(index) => vec![*index],
    };
    let number = match slots {
        Count::Exactly(number) => number,
        Count::Auto if cuda.is_empty() => cores.clamp(1, 4),
        Count::Auto => u32::try_from(cuda.len()).unwrap_or(u32::MAX),
    };
    let threads = match threads {
        Count::Exactly(threads) => threads,
        Count::Auto => (cores / number).max(1),
    };
    let devices = cuda.iter().map(|index| format!("cuda:{index}"));
    let devices: Vec<String> = if cuda.is_empty() { vec!["cpu".to_owned()] } else { devices.collect() };
    let turns = devices.into_iter().cycle();
    turns.take(usize::try_from(number).unwrap_or(1)).map(|device| SlotPlan { device, threads }).collect()
}

/// NVIDIA GPUs, by the driver's device files `/dev/nvidia0`, `/dev/nvidia1`, ..: numbered from 0 as CUDA does.
#[must_use]
pub fn gpus(device_files: &Path) -> Vec<u32> {
    let names = std::fs::read_dir(device_files).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.file_name()));
    let count = names
        .filter(|name| {
            let number = name.to_str().and_then(|name| name.strip_prefix("nvidia"));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        })
        .count();
    // A container may be lent nvidia3 alone: CUDA calls it 0.
    (0..u32::try_from(count).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(slots: &[SlotPlan]) -> Vec<String> {
        slots.iter().map(|slot| format!("{}x{}", slot.device, slot.threads)).collect()
    }

    #[test]
    fn slots_follow_the_machine_unless_told() {
        use Count::{Auto, Exactly};
        let check = |device: &str, slots, threads, gpus: &[u32], cores, expected: &[&str]| {
            let slots = plan(&device.parse().unwrap(), slots, threads, gpus, cores);
            assert_eq!(devices(&slots), expected, "{device}");
        };
        check("auto", Auto, Auto, &[], 2, &["cpux1", "cpux1"]);
        check("auto", Auto, Auto, &[], 1, &["cpux1"]);
        check("auto", Auto, Auto, &[], 16, &["cpux4"; 4]);
        check("auto", Exactly(1), Auto, &[], 2, &["cpux2"]);
        check("auto", Exactly(3), Exactly(5), &[], 2, &["cpux5"; 3]);
        check("auto", Auto, Auto, &[0, 1], 16, &["cuda:0x8", "cuda:1x8"]);
        check("auto", Exactly(3), Auto, &[0, 1], 16, &["cuda:0x5", "cuda:1x5", "cuda:0x5"]);
        check("cpu", Auto, Auto, &[0, 1], 2, &["cpux1", "cpux1"]);
        check("cuda:1", Auto, Auto, &[0, 1], 16, &["cuda:1x16"]);
    }

    #[test]
    fn bad_words_are_refused() {
        for word in ["gpu", "cuda", "cuda:", "cuda:x", "CPU", ""] {
            assert!(word.parse::<DeviceChoice>().is_err(), "{word}");
        }
        for word in ["0", "-1", "x", "", "1025"] {
            assert!(word.parse::<Count>().is_err(), "{word}");
        }
    }

    #[test]
    fn gpus_are_counted_by_their_device_files() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm", "null"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(gpus(folder.path()), [0, 1]);
        assert_eq!(gpus(Path::new("/nowhere")), [] as [u32; 0]);
    }
}
