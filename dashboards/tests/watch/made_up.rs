//! A sweep half-way, as a coordinator would tell of it.

use crate::cells::PAPER;
use dashboards::watch::detail::Attempt;
use dashboards::watch::theme::{Depth, Theme};
use dashboards::watch::{Ask, Input, Setup, Watch};
use proto::wire::{
    Checkpoint, Event, GpuUse, LogLine, MetricPoint, SlotStatus, StatusReply, SweepSummary, TrialStatus, WorkerStatus,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;
use std::collections::BTreeMap;
use sweeps::event::Happening;

/// 2026-11-23 02:07:32Z.
pub(crate) const NOW_MS: u64 = 1_795_399_652_000;
pub(crate) const PLAIN: Theme = Theme { depth: Depth::Plain, ascii: false };
/// Of the worker that trains.
pub(crate) const WORKER: u64 = 0x940_273c_f6f9_ec18;

/// The id of a trial by its number: not the same, as in a store with several sweeps.
pub(crate) fn id(number: u32) -> u64 {
    u64::from(number) + 100
}

fn trial(number: u32) -> TrialStatus {
    let (alpha, resolution, mult_adds, params, percent) = PAPER[number as usize - 1];
    // Ten are done, two train, one failed, the rest wait.
    let (state, done, reason) = match number {
        1..=10 => ("completed", 100, ""),
        11 => ("running", 62, ""),
        12 => ("running", 17, "worker 00000000000000aa was lost: its lease ran out"),
        13 => ("failed", 3, "the loss is not finite"),
        _ => ("pending", 0, ""),
    };
    let reached = percent / 100.0 * (0.6 + 0.4 * f64::from(done) / 100.0);
    let values = |factor: f64| -> BTreeMap<String, f64> {
        if done == 0 {
            return BTreeMap::new();
        }
        BTreeMap::from([
            ("val_top1".to_owned(), reached * factor),
            ("val_top5".to_owned(), (reached * factor + 0.2).min(0.99)),
            ("val_loss".to_owned(), 3.2 - 2.0 * reached),
            ("images_per_second".to_owned(), 5e11 / mult_adds as f64),
        ])
    };
    TrialStatus {
        id: id(number),
        key: format!("{number:032x}"),
        number,
        alpha,
        resolution,
        seed: 1,
        parameters_json: json!({"alpha": alpha, "resolution": resolution}).to_string(),
        mult_adds,
        params,
        epochs: 100,
        epochs_done: done,
        state: state.to_owned(),
        reason: reason.to_owned(),
        attempts: if number == 12 { 2 } else { u32::from(done > 0) },
        worker: if done > 0 { "gpu-1".to_owned() } else { String::new() },
        device: if done > 0 { format!("cuda:{}", number % 2) } else { String::new() },
        best_epoch: done,
        best: values(1.0),
        last: values(0.999),
        started_ms: NOW_MS - 9_000_000,
        ended_ms: 0,
        scripted: false,
        train_seconds: f64::from(done) * 61.0,
        ..TrialStatus::default()
    }
}

fn spec(further: &[&str]) -> String {
    let mut parameters =
        json!({"alpha": {"values": [1, 0.75, 0.5, 0.25]}, "resolution": {"values": [224, 192, 160, 128]}});
    for axis in further {
        parameters[*axis] = json!({"values": [0.01, 0.045]});
    }
    let yaml = json!({
        "name": "mobilenet-imagenet",
        "parameters": parameters,
        "data": {"format": "image_folder", "train": "imagenet/train", "validation": "imagenet/val", "classes": 1000},
        "training": {"epochs": 100},
    });
    let sweep = sweeps::spec::parse("made-up.yaml", &yaml.to_string());
    serde_json::to_string(&sweep.unwrap_or_else(|problems| panic!("{problems:?}"))).unwrap()
}

/// The sixteen cells, half-way.
pub(crate) fn status() -> StatusReply {
    reply((1..=16).map(trial).collect(), &[])
}

/// Three learning rates and two seeds of each cell, all done.
pub(crate) fn searched() -> StatusReply {
    let mut trials = Vec::new();
    for cell in 1..=16 {
        for (place, rate) in [0.01, 0.045, 0.1].into_iter().enumerate() {
            for seed in [1, 2] {
                let number = trials.len() as u32 + 1;
                let mut trial = trial(cell);
                let worse = [0.96, 1.0, 0.98][place] - 0.002 * seed as f64;
                trial.parameters_json =
                    json!({"alpha": trial.alpha, "resolution": trial.resolution, "training.learning_rate": rate})
                        .to_string();
                trial.best.values_mut().for_each(|value| *value *= worse);
                trials.push(TrialStatus { id: id(number), number, seed, ..trial });
            }
        }
    }
    reply(trials, &["training.learning_rate"])
}

fn reply(trials: Vec<TrialStatus>, further: &[&str]) -> StatusReply {
    let summary = SweepSummary {
        name: "mobilenet-imagenet".to_owned(),
        max_concurrent_trials: Some(4),
        ..SweepSummary::default()
    };
    StatusReply { summary: Some(summary), yaml: String::new(), spec_json: spec(further), trials, sequence: 1_000 }
}

/// An event of a trial by its number; 0: of none.
pub(crate) fn event(sequence: u64, number: u32, happening: &Happening) -> Input {
    Input::Event(Event {
        sequence,
        time_ms: NOW_MS - 600_000 + sequence * 100,
        sweep: "mobilenet-imagenet".to_owned(),
        trial: (number > 0).then(|| id(number)),
        json: serde_json::to_string(happening).unwrap(),
    })
}

pub(crate) fn happening(value: serde_json::Value) -> Happening {
    serde_json::from_value(value).unwrap()
}

/// The same from JSON.
pub(crate) fn told(sequence: u64, number: u32, value: serde_json::Value) -> Input {
    event(sequence, number, &happening(value))
}

pub(crate) fn workers() -> Vec<WorkerStatus> {
    let slot = |device: &str, trials: Vec<u64>| SlotStatus {
        device: device.to_owned(),
        trials,
        mult_adds_per_second: 5e11,
        images_per_second: if device == "cuda:1" { 6543.0 } else { 0.0 },
        gpu: (device == "cuda:1").then(|| GpuUse {
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            memory_used_bytes: 23_400_000_000,
            memory_total_bytes: 85_520_809_984,
            utilisation: 0.93,
        }),
        ..SlotStatus::default()
    };
    let worker = |id, host: &str, state: &str, slots, ago_ms: u64| WorkerStatus {
        id,
        host: host.to_owned(),
        version: "0.1.0".to_owned(),
        state: state.to_owned(),
        slots,
        last_seen_ms: NOW_MS - ago_ms,
        times_lost: u32::from(id == 0xaa),
        times_returned: 0,
        reason: String::new(),
    };
    vec![
        worker(WORKER, "gpu-1", "attached", vec![slot("cuda:0", vec![id(12)]), slot("cuda:1", vec![id(11)])], 900),
        worker(0xaa, "gpu-2", "disconnected", vec![slot("cuda:0", vec![])], 42_000),
    ]
}

/// A dashboard that knows the sweep, its workers and some of what happened, and has asked for nothing else.
pub(crate) fn watch(theme: Theme, status: StatusReply) -> Watch {
    let mut watch = Watch::new(Setup { theme, read_only: false, embedded: false }, NOW_MS);
    watch.handle(NOW_MS, Input::Status(Box::new(status)));
    watch.handle(NOW_MS, Input::Workers(workers()));
    let history = [
        (0, json!({"kind": "worker_joined", "worker": 170, "host": "gpu-2", "devices": ["cuda:0"]})),
        (11, json!({"kind": "attempt_started", "attempt": 1, "worker": WORKER, "host": "gpu-1", "device": "cuda:1"})),
        (12, json!({"kind": "attempt_started", "attempt": 1, "worker": 170, "host": "gpu-2", "device": "cuda:0"})),
        (0, json!({"kind": "worker_lost", "worker": 170, "reason": "its lease ran out"})),
        (
            12,
            json!({"kind": "attempt_ended", "attempt": 1, "end": "lost", "reason": "worker 00000000000000aa was lost"}),
        ),
        (12, json!({"kind": "attempt_started", "attempt": 2, "worker": WORKER, "host": "gpu-1", "device": "cuda:0"})),
        (13, json!({"kind": "trial_changed", "state": {"state": "failed", "reason": "the loss is not finite"}})),
        (10, json!({"kind": "trial_changed", "state": {"state": "completed"}})),
        (
            11,
            json!({"kind": "epoch_finished", "attempt": 1, "epoch": 62, "points": [
            {"name": "val_top1", "step": 62, "value": 0.5}, {"name": "val_loss", "step": 62, "value": 2.2},
            {"name": "images_per_second", "step": 62, "value": 6534.0}]}),
        ),
        (11, json!({"kind": "checkpoint_saved", "attempt": 1, "epoch": 62, "bytes": 16_000_000, "best": true})),
    ];
    for (place, (number, value)) in history.into_iter().enumerate() {
        watch.handle(NOW_MS, told(900 + place as u64, number, value));
    }
    asks(&mut watch);
    watch
}

/// All that is asked for.
pub(crate) fn asks(watch: &mut Watch) -> Vec<Ask> {
    std::iter::from_fn(|| watch.poll_ask()).collect()
}

/// What a coordinator would answer about the open trial.
pub(crate) fn answer_trial(watch: &mut Watch, number: u32) {
    let trial = id(number);
    let mut points = Vec::new();
    for (name, from, to) in [
        ("data_wait_seconds", 6.0, 4.0),
        ("epoch_seconds", 62.0, 60.0),
        ("eval_seconds", 5.0, 5.0),
        ("images_per_second", 6400.0, 6534.0),
        ("learning_rate", 0.045, 0.0066),
        ("train_loss", 5.1, 2.1),
        ("train_top1", 0.05, 0.52),
        ("val_loss", 4.6, 2.2),
        ("val_top1", 0.09, 0.502),
        ("val_top5", 0.2, 0.74),
    ] {
        for step in 1..=62u32 {
            let way = 1.0 - (-f64::from(step) / 14.0).exp();
            let wave = (f64::from(step) * 1.7).sin() * 0.01 * (to - from);
            let value = from + (to - from) * way + wave;
            points.push(MetricPoint { trial, attempt: 1, name: name.to_owned(), step: u64::from(step), value });
        }
    }
    watch.handle(NOW_MS, Input::Points { trial, first: true, points });
    let attempt = |attempt, end: &str, from: u64, to: u64| Attempt {
        attempt,
        host: "gpu-1".to_owned(),
        device: "cuda:1".to_owned(),
        started_ms: NOW_MS - from,
        ended_ms: if to > 0 { NOW_MS - to } else { 0 },
        end: end.to_owned(),
        resumed_epoch: if attempt > 1 { 20 } else { 0 },
    };
    let lost = "was lost: worker 00000000000000aa was lost: its lease ran out";
    watch.handle(
        NOW_MS,
        Input::Attempts(trial, vec![attempt(1, lost, 4_000_000, 2_700_000), attempt(2, "", 2_600_000, 0)]),
    );
    let kept = |epoch, best, latest| Checkpoint {
        id: u64::from(epoch),
        trial,
        attempt: 2,
        epoch,
        step: 0,
        bytes: 16_000_000,
        sha256: format!("{:064x}", u64::from(epoch).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        best,
        latest,
    };
    watch.handle(NOW_MS, Input::Checkpoints(trial, vec![kept(60, true, false), kept(62, false, true)]));
    let line =
        |place: u64, text: &str| LogLine { attempt: 2, time_ms: NOW_MS - 9_000 + place * 1_000, text: text.to_owned() };
    let log = vec![
        line(0, "INFO resumes from epoch 20 of /var/lib/alpharho/artifacts/sweep/11/20.safetensors"),
        line(1, "INFO device cuda:1, libtorch 2.11.0, 1281167 training and 50000 validation images"),
        line(2, "WARN 3 broken images were skipped"),
    ];
    watch.handle(NOW_MS, Input::Log(trial, true, log));
    let why = "Trial 114 (number 14 of mobilenet-imagenet, alpha 0.25, resolution 192) waits because all 3 slots are busy; \
               it is next; 0 of 100 epochs are done.";
    watch.handle(NOW_MS, Input::Explained(trial, why.to_owned()));
}

/// Presses keys: characters, or `<Enter>` and the like.
pub(crate) fn press(watch: &mut Watch, keys: &str) {
    let mut rest = keys;
    while let Some(letter) = rest.chars().next() {
        let (code, used) = match rest.split_once('>') {
            Some((name, _)) if letter == '<' => {
                let code = match &name[1..] {
                    "Enter" => KeyCode::Enter,
                    "Esc" => KeyCode::Esc,
                    "Up" => KeyCode::Up,
                    "Down" => KeyCode::Down,
                    "Left" => KeyCode::Left,
                    "Right" => KeyCode::Right,
                    "End" => KeyCode::End,
                    "Home" => KeyCode::Home,
                    "Tab" => KeyCode::Tab,
                    "Backspace" => KeyCode::Backspace,
                    other => panic!("no key {other}"),
                };
                (code, name.len() + 1)
            }
            _ => (KeyCode::Char(letter), letter.len_utf8()),
        };
        watch.handle(NOW_MS, Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
        rest = &rest[used..];
    }
}

/// What a terminal of that size shows.
pub(crate) fn drawn(watch: &mut Watch, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| watch.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| format!("{}\n", line(y).trim_end())).collect()
}
