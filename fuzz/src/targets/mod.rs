//! The doors, and what each may take.

mod checkpoints;
mod coordinator;
mod data_sets;
mod gradients;
mod images;
mod messages;
mod pipe;
mod scripted;
mod sweep_file;
mod trainer;
mod words;

use crate::run::{Door, Limits};
use std::path::{Path, PathBuf};
use std::time::Duration;

const MIB: usize = 1 << 20;
/// Machines are slow at times; what hangs takes longer than anything.
const HANGS: Duration = Duration::from_secs(60);

/// All of them.
pub const DOORS: &[Door] = &[
    Door { name: "sweep-file", limits: limits(256, 1_024), round: 1, open: sweep_file::open },
    Door { name: "messages", limits: limits(16, 64), round: 1, open: messages::open },
    Door { name: "pipe", limits: limits(16, 64), round: 1, open: pipe::open },
    Door { name: "trainer", limits: limits(16, 64), round: 1, open: trainer::open },
    Door { name: "scripted", limits: limits(16, 64), round: 1, open: scripted::open },
    // As the decoder's own limit says, and a copy with other channels.
    Door { name: "images", limits: limits(864, 1_300), round: 1, open: images::open },
    Door { name: "data-sets", limits: limits(128, 256), round: 1, open: data_sets::open },
    Door { name: "checkpoints", limits: limits(64, 128), round: 1, open: checkpoints::open },
    Door { name: "coordinator", limits: limits(16, 128), round: 200, open: coordinator::open },
    Door { name: "gradients", limits: limits(16, 64), round: 100, open: gradients::open },
];

const fn limits(largest_mib: usize, most_mib: usize) -> Limits {
    Limits { time: HANGS, largest: largest_mib * MIB, most: most_mib * MIB }
}

/// A file or folder of this repository.
fn in_house(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// The files of a folder with that ending, in the order of their names.
fn files(folder: &str, ending: &str) -> Vec<Vec<u8>> {
    let listed = std::fs::read_dir(in_house(folder)).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|of| of == ending));
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}
