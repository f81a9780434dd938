//! Images a second of training steps on made-up images, for `cargo xtask bench step` and `bench grid`:
//!
//!     steps each|together THREADS SECONDS [ALPHA:RESOLUTION,..]
//!
//! Batches of 32: forward, backward, update. `each`: each cell alone with all threads, a line of JSON each. `together`: all
//! of them side by side, with all threads in turn and with 1 thread each: the seconds that a batch of each cell takes. What
//! a grid takes without any loading is that times its batches.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what is wrong here is to be seen at once")]

use proto::link;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use sweeps::ids::{Token, TrialId};
use tch::{Device, Kind, Tensor};
use trainer::crew::Crew;
use trainer::member::{DeviceBatch, Member};

trainer::keep_large_buffers!();

const BATCH: u32 = 32;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [how, threads, seconds, cells @ ..] = &arguments[..] else {
        panic!("steps each|together THREADS SECONDS [ALPHA:RESOLUTION,..]")
    };
    let (threads, seconds): (u32, f64) = (threads.parse().unwrap(), seconds.parse().unwrap());
    let cells: Vec<(f64, u32)> = match cells {
        [] => [1.0, 0.75, 0.5, 0.25].iter().flat_map(|alpha| [224, 192, 160, 128].map(|side| (*alpha, side))).collect(),
        [list, ..] => list.split(',').map(cell).collect(),
    };
    let at_least = Duration::from_secs_f64(seconds);
    match how.as_str() {
        "each" => each(&cells, threads, at_least),
        "together" => together(&cells, threads, at_least),
        other => panic!("each or together, not {other}"),
    }
}

fn each(cells: &[(f64, u32)], threads: u32, at_least: Duration) {
    for &(alpha, resolution) in cells {
        let mut one = [member(alpha, resolution, threads)];
        let rate = f64::from(BATCH) / per_batch(&mut one, threads, at_least);
        println!("{}", json!({"what": "ours", "alpha": alpha, "resolution": resolution, "images_per_second": rate}));
    }
}

fn together(cells: &[(f64, u32)], threads: u32, at_least: Duration) {
    let mut tried = vec![threads];
    if threads > 1 {
        tried.push(1);
    }
    for each in tried {
        let mut all: Vec<Member> = cells.iter().map(|&(alpha, resolution)| member(alpha, resolution, each)).collect();
        let took = per_batch(&mut all, threads, at_least);
        println!("{}", json!({"what": "together", "threads": each, "seconds": took}));
    }
}

fn cell(text: &str) -> (f64, u32) {
    let (alpha, resolution) = text.split_once(':').unwrap();
    (alpha.parse().unwrap(), resolution.parse().unwrap())
}

fn member(alpha: f64, resolution: u32, threads: u32) -> Member {
    let trial = serde_json::from_value(json!({
        "key": "0".repeat(32), "parameters": {}, "network": "mobilenet", "alpha": alpha, "resolution": resolution, "seed": 1,
        "data": {"format": "idx", "train": "x", "validation": "y", "classes": 1000},
        "training": {"epochs": 1, "batch_size": BATCH, "dropout": 0.0}, "checkpoint": {},
        "best": {"name": "val_top1", "goal": "maximize"},
    }));
    let token = Token::chief(TrialId(1), 1);
    let order = link::Member { token, trial: trial.unwrap(), resume: None, threads, exchange: None };
    Member::new(order, Device::Cpu, 1_000_000).unwrap()
}

/// Seconds that a batch of each member takes.
fn per_batch(members: &mut [Member], threads: u32, at_least: Duration) -> f64 {
    let mut crew = Crew::new(Device::Cpu, threads);
    let indices: Vec<u32> = (0..BATCH).collect();
    let sides = members.iter().map(|member| member.trial.resolution);
    let made: BTreeMap<u32, Vec<u8>> = sides
        .map(|side| {
            (side, (0..BATCH * side * side * 3).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect())
        })
        .collect();
    let mut round = || {
        let done = crew.each(members, |member| {
            let side = i64::from(member.trial.resolution);
            let images = Tensor::from_slice(&made[&member.trial.resolution]).view([i64::from(BATCH), side, side, 3]);
            let labels = Tensor::zeros([i64::from(BATCH)], (Kind::Int64, Device::Cpu));
            member.step(&DeviceBatch { images, labels, indices: &indices, next: 0 }).map(drop)
        });
        done.unwrap().into_iter().for_each(|step| step.unwrap());
    };
    for _ in 0..3 {
        round();
    }
    let (mut rounds, began) = (0, Instant::now());
    while rounds < 3 || began.elapsed() < at_least {
        round();
        rounds += 1;
    }
    began.elapsed().as_secs_f64() / f64::from(rounds)
}
