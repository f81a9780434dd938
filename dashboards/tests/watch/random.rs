//! No screen panics or draws outside the terminal, whatever is known, pressed, or how small it is.

use crate::made_up::{NOW_MS, answer_trial, searched, status, told, workers};
use dashboards::watch::theme::{Depth, Theme};
use dashboards::watch::{Input, Link, Setup, Watch};
use proptest::prelude::*;
use proto::wire::{StatusReply, TrialStatus};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use serde_json::json;

fn key() -> impl Strategy<Value = Input> {
    let code = prop_oneof![
        prop::sample::select("12345xyglfpmtsSbacrPRCTMdyn?/hjkq0 ".chars().collect::<Vec<_>>()).prop_map(KeyCode::Char),
        prop::sample::select(vec![
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::Left,
            KeyCode::Right,
            KeyCode::Tab,
            KeyCode::BackTab,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Backspace,
        ]),
    ];
    code.prop_map(|code| Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn mouse() -> impl Strategy<Value = Input> {
    let kind = prop::sample::select(vec![
        MouseEventKind::Down(MouseButton::Left),
        MouseEventKind::ScrollUp,
        MouseEventKind::ScrollDown,
    ]);
    (kind, 0u16..250, 0u16..80)
        .prop_map(|(kind, column, row)| Input::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }))
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..1.0f64,
        1 => -1e9..1e9f64,
        1 => prop::sample::select(vec![0.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, f64::MAX, -f64::MAX]),
    ]
}

fn state() -> impl Strategy<Value = String> {
    let words = ["pending", "running", "paused", "completed", "failed", "cancelled", "nonsense", ""];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

prop_compose! {
    fn trial()(
        alpha in prop_oneof![prop::sample::select(vec![1.0, 0.5, 0.25]), 0.01..2.0f64],
        resolution in prop_oneof![prop::sample::select(vec![224u32, 128]), 1u32..100_000],
        cost in prop_oneof![1_000_000u64..1_000_000_000, Just(0), Just(u64::MAX)],
        epochs in prop_oneof![1u32..200, Just(0), Just(u32::MAX)],
        done in prop_oneof![0u32..200, Just(u32::MAX)],
        state in state(),
        values in prop::collection::btree_map(
            prop::sample::select(vec!["val_top1", "val_top5", "val_loss", "images_per_second"]).prop_map(str::to_owned),
            number(), 0..5),
        reason in "\\PC{0,80}",
        rate in prop::option::of(number()),
    ) -> TrialStatus {
        let parameters = json!({"alpha": alpha, "resolution": resolution, "training.learning_rate": rate});
        TrialStatus {
            alpha, resolution, mult_adds: cost, params: cost / 7, epochs, epochs_done: done, state, reason,
            parameters_json: parameters.to_string(), best: values.clone(), last: values, best_epoch: done, attempts: 2,
            worker: "a-host-with-a-name-that-is-rather-long.example".to_owned(), device: "cuda:0".to_owned(),
            train_seconds: 1e7, ..TrialStatus::default()
        }
    }
}

fn known() -> impl Strategy<Value = StatusReply> {
    let random = (prop::collection::vec(trial(), 0..40), "[a-z0-9-]{1,70}").prop_map(|(mut trials, name)| {
        for (place, trial) in trials.iter_mut().enumerate() {
            trial.number = place as u32 + 1;
            trial.id = place as u64 + 101;
        }
        let mut reply = status();
        reply.summary.as_mut().unwrap().name = name;
        StatusReply { trials, ..reply }
    });
    prop_oneof![2 => random, 1 => Just(status()), 1 => Just(searched())]
}

fn input() -> impl Strategy<Value = Input> {
    let happened = prop::sample::select(vec![
        json!({"kind": "sweep_paused"}),
        json!({"kind": "trial_changed", "state": {"state": "failed", "reason": "a\nreason\twith ünïcode 🦀 in it"}}),
        json!({"kind": "attempt_started", "attempt": 3, "worker": 5, "host": "h", "device": "cpu"}),
        json!({"kind": "attempt_ended", "attempt": 3, "end": "stopped"}),
        json!({"kind": "checkpoint_saved", "attempt": 1, "epoch": 1, "bytes": 5, "best": false}),
        json!({"kind": "epoch_finished", "attempt": 1, "epoch": 7, "points": [{"name": "val_top1", "step": 7, "value": 0.5}]}),
        json!({"kind": "worker_lost", "worker": 5, "reason": "x"}),
    ]);
    prop_oneof![
        12 => key(),
        3 => mouse(),
        2 => (1001u64..2000, 0u32..45, happened).prop_map(|(sequence, number, value)| told(sequence, number, value)),
        1 => Just(Input::Tick),
        1 => Just(Input::Workers(workers())),
        1 => Just(Input::Workers(Vec::new())),
        1 => known().prop_map(|reply| Input::Status(Box::new(reply))),
        1 => prop::sample::select(vec![Link::Live, Link::Away { since_ms: 5, why: "gone".to_owned() }]).prop_map(Input::Link),
        1 => "\\PC{0,40}".prop_map(Input::Refused),
    ]
}

fn size() -> impl Strategy<Value = (u16, u16)> {
    prop_oneof![
        (1u16..=220, 1u16..=70),
        (1u16..=70, 1u16..=20),
        prop::sample::select(vec![(1, 1), (60, 16), (80, 24), (120, 40), (200, 60), (300, 16), (60, 100)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_drawn_outside(
        reply in prop::option::of(known()),
        inputs in prop::collection::vec(input(), 0..30),
        sizes in prop::collection::vec(size(), 1..5),
        depth in prop::sample::select(vec![Depth::Plain, Depth::Sixteen, Depth::Indexed, Depth::True]),
        ascii: bool,
        opened in prop::option::of(1u32..20),
    ) {
        let mut watch = Watch::new(Setup { theme: Theme { depth, ascii }, read_only: false, embedded: false }, NOW_MS);
        if let Some(reply) = reply {
            watch.handle(NOW_MS, Input::Status(Box::new(reply)));
        }
        let mut now_ms = NOW_MS;
        let mut sizes = sizes.into_iter().cycle();
        for (place, input) in inputs.into_iter().enumerate() {
            now_ms += 700;
            watch.handle(now_ms, input);
            if let Some(number) = opened.filter(|_| place % 5 == 4) {
                answer_trial(&mut watch, number);
            }
            while watch.poll_ask().is_some() {}
            let (width, height) = sizes.next().unwrap();
            // A buffer of exactly that size: to write outside of it is to panic.
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| watch.draw(frame)).unwrap();
            let buffer = terminal.backend().buffer();
            prop_assert_eq!((buffer.area.width, buffer.area.height), (width, height));
            if ascii {
                prop_assert!(buffer.content.iter().all(|cell| cell.symbol().is_ascii()));
            }
        }
    }
}
