//! Keys, the mouse, and what they ask for.

use crate::made_up::{NOW_MS, PLAIN, WORKER, asks, drawn, id, press, status, watch};
use dashboards::watch::{Ask, Input, Screen, Setup, Watch};
use proto::wire::Action;
use ratatui::crossterm::event::{KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

fn check(keys: &str, expected: &[Ask]) {
    let mut watch = watch(PLAIN, status());
    drawn(&mut watch, 120, 40);
    press(&mut watch, keys);
    assert_eq!(asks(&mut watch), expected, "{keys}");
}

#[test]
fn nothing_is_done_without_a_question() {
    // Trial 14 waits; the first cell is complete and offers nothing but what the sweep does.
    let pending = Some(id(14));
    check("2aP", &[]);
    check("2aPn", &[]);
    check("2aP<Esc>", &[]);
    check("2aPxy", &[Ask::Control(None, Action::Pause)]);
    check("2aPy", &[Ask::Control(None, Action::Pause)]);
    check("2aCy", &[Ask::Control(None, Action::Cancel)]);
    check("2aTy", &[Ask::Control(None, Action::Retry)]);
    check("2apy", &[]);
    check("2<Down><Down><Down><Right>apy", &[Ask::Control(pending, Action::Pause)]);
    check("2<Down><Down><Down><Right>acy", &[Ask::Control(pending, Action::Cancel)]);
    check("2<Down><Down><Down>aty", &[Ask::Control(Some(id(13)), Action::Retry)]);
    check("2<Enter>apy", &[Ask::Open(id(1))]);
    check("2aMnone<Enter>y", &[Ask::Limit(None)]);
    check("2aM12<Enter>y", &[Ask::Limit(Some(12))]);
    check("2aM0<Enter>y<Esc>", &[]);
    check("2aM8<Enter>n", &[]);
    check("4ady", &[Ask::Drain(WORKER)]);
    check("4<Down><Down>ady", &[]);
    check("2a<Down><Enter>y", &[Ask::Control(None, Action::Cancel)]);
}

#[test]
fn read_only_offers_nothing() {
    let mut watch = Watch::new(Setup { theme: PLAIN, read_only: true, embedded: false }, NOW_MS);
    watch.handle(NOW_MS, Input::Status(Box::new(status())));
    asks(&mut watch);
    for keys in ["aPy", "2aPy", "4ady", "aMy"] {
        press(&mut watch, keys);
        let asked = asks(&mut watch);
        assert!(asked.iter().all(|ask| matches!(ask, Ask::Workers)), "{keys}: {asked:?}");
    }
    assert!(!drawn(&mut watch, 120, 40).contains(" act"));
    press(&mut watch, "?");
    assert!(!drawn(&mut watch, 120, 40).contains("cancel, retry"));
}

#[test]
fn leaving() {
    check("q", &[Ask::Quit]);
    check("?q", &[]);
    check("?qq", &[Ask::Quit]);
    check("/q<Esc>q", &[Ask::Quit]);
}

#[test]
fn a_coordinator_inside_is_not_left_by_mistake() {
    let mut watch = Watch::new(Setup { theme: PLAIN, read_only: false, embedded: true }, NOW_MS);
    watch.handle(NOW_MS, Input::Status(Box::new(status())));
    watch.handle(NOW_MS, Input::Workers(crate::made_up::workers()));
    asks(&mut watch);
    press(&mut watch, "q");
    assert_eq!(asks(&mut watch), []);
    assert!(drawn(&mut watch, 80, 24).contains("Workers are attached"));
    press(&mut watch, "y");
    assert_eq!(asks(&mut watch), [Ask::Quit]);
}

#[test]
fn screens_by_number_and_tab() {
    let mut watch = watch(PLAIN, status());
    for (keys, expected) in [
        ("2", Screen::Grid),
        ("<Tab>", Screen::Trial),
        ("<Esc>", Screen::Grid),
        ("<Esc>", Screen::Tradeoff),
        ("5", Screen::Events),
        ("<Tab>", Screen::Tradeoff),
        ("<Enter>", Screen::Trial),
        ("4", Screen::Workers),
    ] {
        press(&mut watch, keys);
        assert_eq!(watch.screen(), expected, "{keys}");
    }
}

#[test]
fn neighbours_of_an_open_trial() {
    check("2<Enter><Right><Right><Left>", &[Ask::Open(id(1)), Ask::Open(id(2)), Ask::Open(id(3)), Ask::Open(id(2))]);
    check("2<Enter><Left>", &[Ask::Open(id(1))]);
}

#[test]
fn the_mouse_selects_then_opens() {
    let mut watch = watch(PLAIN, status());
    press(&mut watch, "2");
    let screen = drawn(&mut watch, 120, 40);
    // The cell of α 0.5 and ρ 224 holds its Mult-Adds.
    let (y, line) = screen.lines().enumerate().find(|(_, line)| line.contains("149.5 M")).unwrap();
    let x = line.split("149.5 M").next().unwrap().chars().count();
    let mut click = |x: usize, y: usize| {
        let kind = MouseEventKind::Down(MouseButton::Left);
        let mouse = MouseEvent { kind, column: x as u16, row: y as u16, modifiers: KeyModifiers::NONE };
        watch.handle(NOW_MS, Input::Mouse(mouse));
        drawn(&mut watch, 120, 40);
        asks(&mut watch)
    };
    assert_eq!(click(x, y), []);
    assert_eq!(click(x, y), [Ask::Open(id(9))]);
    let tab = screen.lines().next().unwrap().split("4 Workers").next().unwrap().chars().count();
    click(tab, 0);
    click(119, 39);
    assert_eq!(watch.screen(), Screen::Workers);
}

#[test]
fn filters_find_words_in_rows() {
    let mut watch = watch(PLAIN, status());
    press(&mut watch, "2/0.75 224<Enter>");
    let screen = drawn(&mut watch, 120, 40);
    assert!(screen.contains("1 of 16") && screen.contains("325.4 M"), "{screen}");
    press(&mut watch, "<Esc>");
    assert!(drawn(&mut watch, 120, 40).contains("16 of 16"));
}

#[test]
fn a_redraw_only_when_something_changed() {
    let mut watch = watch(PLAIN, status());
    assert!(watch.is_dirty());
    drawn(&mut watch, 80, 24);
    assert!(!watch.is_dirty());
    watch.handle(NOW_MS + 1_000, Input::Tick);
    assert!(!watch.is_dirty(), "nothing on the trade-off depends on the time");
    watch.handle(NOW_MS + 1_000, Input::Workers(crate::made_up::workers()));
    assert!(!watch.is_dirty());
    press(&mut watch, "x");
    assert!(watch.is_dirty());
}
