//! How much memory there is: what the machine has left, or less where a control group allows less.

use std::fs;
use std::path::Path;

/// Bytes that this process could still take. Nothing where the system does not say.
#[must_use]
pub fn available() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_path(&text));
    let allowed = group.and_then(|group| left_in_groups(Path::new("/sys/fs/cgroup"), &group));
    Some(machine.min(allowed.unwrap_or(u64::MAX)))
}

/// Whether libtorch says that a device has too little memory.
#[must_use]
pub fn is_short(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["out of memory", "can't allocate memory", "not enough memory"].iter().any(|words| text.contains(words))
}

/// `MemAvailable` in bytes.
fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The path of this process's group (version 2).
fn group_path(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(str::to_owned)
}

/// The least that a group and those above it leave; nothing where none has a limit.
fn left_in_groups(root: &Path, group: &str) -> Option<u64> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |folder: &Path| {
        Some(number(&folder.join("memory.max"))?.saturating_sub(number(&folder.join("memory.current"))?))
    };
    root.join(group).ancestors().take_while(|folder| folder.starts_with(root)).filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_is_left() {
        let text = "MemTotal:       24627280 kB\nMemFree:         1000000 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(meminfo(text), Some(20_480_000 * 1024));
        assert_eq!(meminfo("MemTotal: 1 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn libtorch_is_understood_when_memory_is_short() {
        let kind = (tch::Kind::Float, tch::Device::Cpu);
        let refused = tch::Tensor::f_empty([1 << 50], kind).map_err(anyhow::Error::from);
        assert!(is_short(&refused.unwrap_err().context("a step")));
        let other = tch::Tensor::f_zeros([2], kind).unwrap().f_view([3]).map_err(anyhow::Error::from);
        assert!(!is_short(&other.unwrap_err()));
    }

    #[test]
    fn the_narrowest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = group_path("12:memory:/old\n0::/pod/trainer\n").unwrap();
        assert_eq!(group, "pod/trainer");
        fs::create_dir_all(root.path().join(&group)).unwrap();
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
        assert_eq!(left_in_groups(root.path(), &group), None);
        write("pod/trainer/memory.max", "max\n");
        write("pod/trainer/memory.current", "500\n");
        assert_eq!(left_in_groups(root.path(), &group), None);
        write("pod/memory.max", "4000\n");
        write("pod/memory.current", "1500\n");
        assert_eq!(left_in_groups(root.path(), &group), Some(2500));
        write("pod/trainer/memory.max", "600\n");
        assert_eq!(left_in_groups(root.path(), &group), Some(100));
    }
}
