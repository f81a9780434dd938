//! Something small to learn, for tests of real training.

use crate::Stage;
use std::process::Command;

const SIDE: usize = 20;

/// Pictures of two classes in the format of MNIST: bars that stand, or bars that lie, with some noise.
///
/// # Panics
/// When the disk is full.
pub fn write_pictures(stage: &Stage, name: &str, count: usize) {
    let header = |kind: u8, sizes: &[usize]| {
        let mut bytes = vec![0, 0, 8, kind];
        for size in sizes {
            bytes.extend(u32::try_from(*size).unwrap().to_be_bytes());
        }
        bytes
    };
    let (mut images, mut labels) = (header(3, &[count, SIDE, SIDE]), header(1, &[count]));
    let mut noise = 12_345_u32;
    for picture in 0..count {
        let label = picture % 2;
        labels.push(u8::try_from(label).unwrap());
        for row in 0..SIDE {
            for column in 0..SIDE {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let across = if label == 0 { column } else { row };
                let light = if (across + picture / 2) % 10 < 5 { 180 } else { 40 };
                images.push(u8::try_from(light + (noise >> 24) % 40).unwrap());
            }
        }
    }
    stage.file(&format!("data/pictures/{name}-images-idx3-ubyte"), images);
    stage.file(&format!("data/pictures/{name}-labels-idx1-ubyte"), labels);
}

/// A command that looks for libtorch as it would on a machine where nothing is set.
#[must_use]
pub fn plain(stage: &Stage, name: &str) -> Command {
    let mut command = stage.command(name);
    command.env_remove("ALPHARHO_SCRIPTED_ONLY").env_remove("LD_LIBRARY_PATH");
    command
}
