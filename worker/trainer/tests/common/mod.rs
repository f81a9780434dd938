//! What tests of the trainer share: photographs, a trial of them, and an ear for what is said.

#![allow(dead_code, reason = "each test file uses some of it")]

use image::{Rgb, RgbImage};
use proto::link::Said;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use sweeps::scheduler::AttemptEnd;
use sweeps::trial::Trial;
use trainer::checkpoint::read_header;

/// Where a trainer under test speaks to.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<Vec<u8>>>);

impl Ear {
    /// All that was said so far.
    pub(crate) fn heard(&self) -> Vec<Said> {
        let heard = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Two classes, told apart by their colour, with some noise: 40 training and 10 validation images each.
pub(crate) fn photographs(folder: &Path) {
    for (set, count) in [("train", 40_u32), ("val", 10)] {
        for (class, hue) in [("red", 0_usize), ("green", 1)] {
            let place = folder.join(set).join(class);
            std::fs::create_dir_all(&place).unwrap();
            for number in 0..count {
                let image = RgbImage::from_fn(24, 20, |x, y| {
                    let noise = u8::try_from((x * 31 + y * 17 + number * 13) % 97).unwrap();
                    let mut pixel = [noise; 3];
                    pixel[hue] += 100;
                    Rgb(pixel)
                });
                image.save(place.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

pub(crate) fn trial(folder: &Path, resolution: u32, training: serde_json::Value) -> Trial {
    serde_json::from_value(serde_json::json!({
        "key": format!("{resolution:032}"), "parameters": {}, "network": "mobilenet",
        "alpha": 0.25, "resolution": resolution, "seed": 3,
        "data": {
            "format": "image_folder", "classes": 2,
            "train": folder.join("train"), "validation": folder.join("val"),
        },
        "training": training,
        "checkpoint": {},
        "best": {"name": "val_top1", "goal": "maximize"},
    }))
    .unwrap()
}

/// The newest checkpoint that was said of a trial.
pub(crate) fn newest(said: &[Said], id: u64) -> PathBuf {
    said.iter()
        .rev()
        .find_map(|said| match said {
            Said::CheckpointSaved { token, path, .. } if token.trial.0 == id => Some(path.clone()),
            _ => None,
        })
        .expect("a checkpoint was saved")
}

/// Everything measured of a trial that does not depend on the clock, by epoch.
pub(crate) fn metrics(said: &[Said], id: u64) -> Vec<(u32, String, f64)> {
    let clocks = ["images_per_second", "data_wait_seconds", "epoch_seconds", "eval_seconds"];
    said.iter()
        .filter_map(|said| match said {
            Said::EpochFinished { token, epoch, points, .. } if token.trial.0 == id => Some((*epoch, points)),
            _ => None,
        })
        .flat_map(|(epoch, points)| points.iter().map(move |point| (epoch, point.name.clone(), point.value)))
        .filter(|(_, name, _)| !clocks.contains(&name.as_str()))
        .collect()
}

pub(crate) fn end(said: &[Said], id: u64) -> AttemptEnd {
    said.iter()
        .find_map(|said| match said {
            Said::Ended { token, end } if token.trial.0 == id => Some(end.clone()),
            _ => None,
        })
        .expect("the member was said to have ended")
}

pub(crate) fn tensors(path: &Path) -> String {
    read_header(&std::fs::read(path).unwrap()).unwrap().tensors_sha256
}
