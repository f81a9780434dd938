//! Every screen at three sizes, as text. `UPDATE_SNAPSHOTS=1` writes them anew.

use crate::made_up::{PLAIN, answer_trial, asks, drawn, press, searched, status, watch};
use dashboards::watch::theme::{Depth, Theme};
use dashboards::watch::{Input, Link, Watch};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use std::path::PathBuf;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

fn check(name: &str, mut watch: Watch) {
    for (width, height) in SIZES {
        let screen = drawn(&mut watch, width, height);
        let file = format!("tests/watch/screens/{name}-{width}x{height}.txt");
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&file);
        if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&path, &screen).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            screen == expected,
            "{file} is not what is drawn now; UPDATE_SNAPSHOTS=1 writes it anew. Drawn:\n{screen}"
        );
    }
}

fn after(keys: &str) -> Watch {
    let mut watch = watch(PLAIN, status());
    press(&mut watch, keys);
    asks(&mut watch);
    watch
}

#[test]
fn tradeoff() {
    check("tradeoff", after("<Left>"));
    check("tradeoff-by-alpha-and-loss", after("gyyx<Left><Left>"));
}

#[test]
fn tradeoff_of_a_search() {
    let mut watch = watch(PLAIN, searched());
    press(&mut watch, "<Right>");
    check("tradeoff-of-a-search", watch);
}

#[test]
fn grid() {
    check("grid", after("2<Down><Right>"));
    check("grid-of-states", after("2mm"));
}

#[test]
fn table() {
    let mut watch = watch(PLAIN, searched());
    press(&mut watch, "2ssssss/0.25 completed");
    check("table-being-filtered", watch);
    check("table", after("2t<End>"));
}

#[test]
fn trial() {
    let mut watch = after("2<Down><Down><Right><Right><Enter>");
    answer_trial(&mut watch, 11);
    check("trial", watch);
    let mut watch = after("2<Down><Down><Down><Right><Enter>");
    answer_trial(&mut watch, 14);
    check("trial-that-waits", watch);
}

#[test]
fn workers() {
    check("workers", after("4<Down>"));
}

#[test]
fn events() {
    check("events", after("5"));
    check("events-filtered", after("5/lost<Enter>"));
}

#[test]
fn what_lies_over_a_screen() {
    check("keys", after("?"));
    check("menu", after("2<Down><Down><Down>a<Down>"));
    check("question", after("aC"));
    check("limit", after("aMx<Enter>"));
}

#[test]
fn a_coordinator_that_is_away() {
    let mut watch = after("");
    let since_ms = crate::made_up::NOW_MS - 12_000;
    let why = "Connection refused (os error 111)".to_owned();
    watch.handle(crate::made_up::NOW_MS, Input::Link(Link::Away { since_ms, why }));
    check("away", watch);
}

#[test]
fn ascii() {
    let mut watch = watch(Theme { depth: Depth::Plain, ascii: true }, status());
    for keys in ["", "2", "3", "4", "5", "?"] {
        press(&mut watch, keys);
        let screen = drawn(&mut watch, 100, 30);
        assert!(screen.is_ascii(), "{screen}");
        assert!(!screen.contains("Mult?Adds") && screen.matches('?').count() <= 4, "{screen}");
    }
    press(&mut watch, "<Esc>1");
    check("tradeoff-in-ascii", watch);
}

#[test]
fn a_small_terminal_is_told_so() {
    let mut watch = after("");
    assert!(drawn(&mut watch, 59, 24).contains("59 x 24; it takes 60 x 16."));
    assert!(drawn(&mut watch, 60, 15).contains("too small"));
    assert!(!drawn(&mut watch, 60, 16).contains("too small"));
}

#[test]
fn colours_are_those_that_the_terminal_has() {
    for depth in [Depth::Plain, Depth::Sixteen, Depth::Indexed, Depth::True] {
        let mut watch = watch(Theme { depth, ascii: false }, status());
        for keys in ["1", "2", "m", "m", "3", "4", "5", "?"] {
            press(&mut watch, keys);
            let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
            terminal.draw(|frame| watch.draw(frame)).unwrap();
            let mut colors = 0;
            for cell in &terminal.backend().buffer().content {
                for color in [cell.fg, cell.bg] {
                    let allowed = match (depth, color) {
                        (_, Color::Reset) => true,
                        (Depth::Plain, _) => false,
                        (Depth::Sixteen, Color::Rgb(..) | Color::Indexed(_)) => false,
                        (Depth::Indexed, Color::Rgb(..)) => false,
                        _ => true,
                    };
                    assert!(allowed, "{color:?} on a terminal with {depth:?}");
                    colors += usize::from(color != Color::Reset);
                }
            }
            assert_eq!(colors > 0, depth != Depth::Plain, "{keys} {depth:?}");
        }
    }
}
