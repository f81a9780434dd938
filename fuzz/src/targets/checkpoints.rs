//! Checkpoints: read into a network, as a trial is that goes on.

use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use proto::link;
use serde_json::json;
use sweeps::ids::{Token, TrialId};
use sweeps::network::Network;
use sweeps::trial::Trial;
use tch::Device;
use tempfile::TempDir;
use trainer::checkpoint::save;
use trainer::member::{Member, Progress};
use trainer::model::Model;

const SAMPLES: u64 = 1_000;
const WORDS: &[&[u8]] = &[
    b"\"F32\"",
    b"\"F64\"",
    b"\"F8_E4M3\"",
    b"\"BOOL\"",
    b"[0,0]",
    b"[18446744073709551615,18446744073709551615]",
    b"[4294967296,4294967296]",
    b"[-1]",
    b"\"data_offsets\":",
    b"\"shape\":",
    b"\"__metadata__\":{}",
    b"#average",
    b"#evaluated",
    b"[[[[[[",
    b"\\u0000",
    b"\xFF",
    b"\\\"epochs_done\\\":4294967295",
    b"\\\"next_sample\\\":18446744073709551615",
    b"\\\"step\\\":18446744073709551615",
    b"\\\"holes\\\":[[5,3],[0,18446744073709551615]]",
    b"1e999",
    b"null",
];

struct Checkpoints {
    folder: TempDir,
    trial: Trial,
    good: Vec<u8>,
}

#[expect(clippy::expect_used, reason = "without a folder and a good file there is nothing to try")]
pub(super) fn open() -> Box<dyn Target> {
    let trial = json!({
        "key": "0123456789abcdef0123456789abcdef", "parameters": {}, "network": "mobilenet", "alpha": 0.03, "resolution": 32,
        "seed": 3, "data": {"format": "image_folder", "classes": 2, "train": "t", "validation": {"fraction": 0.5}},
        "training": {"epochs": 5, "weight_ema": 0.9}, "checkpoint": {}, "best": {"name": "val_top1", "goal": "maximize"},
    });
    let trial: Trial = serde_json::from_value(trial).expect("a trial");
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes).expect("a network");
    let model = Model::new(network, &trial.training, trial.seed, Device::Cpu).expect("a model");
    let progress =
        Progress { epochs_done: 2, step: 77, next_sample: 320, holes: vec![(32, 64)], ..Progress::default() };
    let path = folder.path().join("good.safetensors");
    save(&path, &model, &trial, &progress).expect("a checkpoint");
    let good = std::fs::read(&path).expect("a checkpoint");
    Box::new(Checkpoints { folder, trial, good })
}

impl Target for Checkpoints {
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut file = self.good.clone();
        let length = 8 + u64::from_le_bytes(*file.first_chunk().unwrap_or(&[0; 8])) as usize;
        match dice.below(20) {
            0 => {}
            1 => spoil(&mut file, &[], &[], self.good.len() + 4096, dice),
            // The header with its length mended, in front of the tensors.
            _ => {
                let mut header = file[8..length].to_vec();
                let from = header.windows(8).position(|part| part == b"progress").unwrap_or(0);
                if dice.one_in(2) {
                    // Close to what says how far it is.
                    let tail = &mut header.split_off(from);
                    spoil(tail, &[], WORDS, 4_096, dice);
                    header.extend_from_slice(tail);
                } else {
                    spoil(&mut header, &self.good[8..length], WORDS, 64 << 10, dice);
                }
                let said = (header.len() as u64).to_le_bytes();
                file.splice(..length, said.into_iter().chain(header));
            }
        }
        file
    }

    fn take(&mut self, case: &[u8]) -> Result<bool, String> {
        let path = self.folder.path().join("case.safetensors");
        std::fs::write(&path, case).map_err(|error| error.to_string())?;
        let token = Token::chief(TrialId(1), 1);
        let member = link::Member { token, trial: self.trial.clone(), resume: Some(path), threads: 1, exchange: None };
        let member = match Member::new(member, Device::Cpu, SAMPLES) {
            Ok(member) => member,
            Err(error) if format!("{error:#}").is_empty() => return Err("it was refused without a word".to_owned()),
            Err(_) => return Ok(false),
        };
        let Progress { epochs_done, next_sample, holes, epoch, window, .. } = &member.progress;
        let is_sound = *epochs_done <= self.trial.training.epochs
            && *next_sample <= SAMPLES
            && holes.iter().all(|(first, next)| first < next && next <= next_sample)
            && holes.windows(2).all(|pair| pair[0].1 <= pair[1].0)
            && [epoch, window]
                .iter()
                .all(|sums| sums.loss.is_finite() && sums.right.is_finite() && sums.norm.is_finite());
        if is_sound { Ok(true) } else { Err(format!("it goes on from {:?}", member.progress)) }
    }
}
