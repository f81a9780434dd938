//! What lies over a screen: the keys, the menu, a question, a line to type.

use super::actions::{Ask, Choice};
use super::app::Screen;
use super::hits::{Hit, Hits};
use super::paint::{Paper, middle, span};
use super::tradeoff_cell::wrapped;
use ratatui::layout::Rect;
use ratatui::text::Line;

/// What lies over the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Dialog {
    #[default]
    None,
    /// All keys.
    Help,
    /// What can be done.
    Menu { choices: Vec<Choice>, cursor: usize },
    /// Really?
    Confirm { question: String, ask: Ask },
    /// A number for `max_concurrent_trials`.
    Number { typed: String, problem: &'static str },
    /// Words that rows must have; those before are restored when it is left.
    Filter { before: String },
}

/// Keys that work everywhere.
const EVERYWHERE: [(&str, &str); 9] = [
    ("1 … 5, Tab", "another screen"),
    ("arrows, h j k l", "move the cursor"),
    ("Enter", "open the trial under the cursor"),
    ("/", "filter trials or events"),
    ("a", "act: pause, resume, cancel, retry, limit, drain"),
    ("Esc", "close, or go back"),
    ("Ctrl-L", "draw everything anew"),
    ("?", "these keys"),
    ("q, Ctrl-C", "leave; the sweep goes on"),
];

/// Keys of one screen.
fn keys(screen: Screen) -> &'static [(&'static str, &'static str)] {
    match screen {
        Screen::Tradeoff => &[
            ("x", "across: Mult-Adds, parameters, time per image"),
            ("y", "up: top-1, top-5, loss"),
            ("g", "lines by ρ, by α, none"),
            ("f", "the fitted line"),
            ("p", "the paper's published points, for ImageNet"),
        ],
        Screen::Grid => &[
            ("m", "heat: accuracy, progress, state"),
            ("t", "the table of trials, and back"),
            ("s, ← →", "table: sort by another column"),
            ("S", "table: the other way round"),
            ("b", "table: the best of each cell"),
        ],
        Screen::Trial => &[("← →", "the trial before or after")],
        Screen::Workers => &[("Enter", "open what the slot trains"), ("a", "drain the worker")],
        Screen::Events => &[("End", "the newest, and follow"), ("PgUp PgDn", "a page")],
    }
}

impl Dialog {
    pub(super) fn draw(&self, paper: &mut Paper<'_>, area: Rect, screen: Screen, read_only: bool, hits: &mut Hits) {
        match self {
            Self::None | Self::Filter { .. } => {}
            Self::Help => help(paper, area, screen, read_only),
            Self::Menu { choices, cursor } => menu(paper, area, choices, *cursor, hits),
            Self::Confirm { question, .. } => {
                let width = area.width.saturating_sub(4).min(66);
                let lines = wrapped(question, usize::from(width).saturating_sub(4));
                let inside = over(paper, area, width, lines.len() as u16 + 4, "please confirm");
                for (y, line) in lines.iter().enumerate() {
                    paper.put(inside, 1, y as u16, line, paper.theme.ink());
                }
                let y = inside.height.saturating_sub(1);
                let answer = Line::from(vec![
                    span("y", paper.theme.accent()),
                    span(" yes   ", paper.theme.ink()),
                    span("n", paper.theme.accent()),
                    span(" no", paper.theme.ink()),
                ]);
                paper.line(inside, 1, y, &answer);
            }
            Self::Number { typed, problem } => {
                let inside = over(paper, area, 58, 6, "max_concurrent_trials");
                paper.put(inside, 1, 0, "At most so many trials at a time (none: no limit):", paper.theme.ink());
                paper.put(inside, 1, 1, &format!("{typed}_"), paper.theme.strong());
                paper.put(inside, 1, 2, problem, paper.theme.bad());
                let foot = inside.height.saturating_sub(1);
                paper.put(inside, 1, foot, "Enter takes it   Esc leaves it as it is", paper.theme.faint());
            }
        }
    }
}

fn help(paper: &mut Paper<'_>, area: Rect, screen: Screen, read_only: bool) {
    let own = keys(screen);
    let height = (EVERYWHERE.len() + own.len() + 5) as u16;
    let inside = over(paper, area, 66, height, "keys");
    let theme = paper.theme;
    let mut y = 0;
    let mut row = |paper: &mut Paper<'_>, key: &str, words: &str| {
        paper.put(inside, 2, y, key, theme.accent());
        paper.put(inside, 19, y, words, theme.ink());
        y += 1;
    };
    for (key, words) in EVERYWHERE.iter().filter(|(key, _)| !read_only || *key != "a") {
        row(paper, key, words);
    }
    row(paper, "", "");
    for (key, words) in own.iter().filter(|(key, _)| !read_only || *key != "a") {
        row(paper, key, words);
    }
    let foot = inside.height.saturating_sub(1);
    paper.put(inside, 2, foot, "The mouse works too: click, click again to open, wheel.", theme.faint());
}

fn menu(paper: &mut Paper<'_>, area: Rect, choices: &[Choice], cursor: usize, hits: &mut Hits) {
    let widest = choices.iter().map(|choice| choice.label.chars().count()).max().unwrap_or(0) as u16;
    let inside = over(paper, area, (widest + 10).max(40), choices.len() as u16 + 4, "act");
    let theme = paper.theme;
    for (place, choice) in choices.iter().enumerate() {
        let y = place as u16;
        let line = Line::from(vec![
            span(format!(" {} ", choice.key), theme.accent()),
            span(format!(" {} ", choice.label), theme.ink()),
        ]);
        paper.line(inside, 1, y, &line);
        let row = Rect::new(inside.x, inside.y + y, inside.width, 1).intersection(inside);
        hits.add(row, Hit::Choice(place));
        if place == cursor {
            paper.shine(row, theme.selected());
        }
    }
    if choices.is_empty() {
        paper.put(inside, 1, 0, "nothing can be asked for now", theme.faint());
    }
    let foot = inside.height.saturating_sub(1);
    paper.put(inside, 1, foot, "Enter or its letter; then a question   Esc closes", theme.faint());
}

/// An empty framed area in the middle.
fn over(paper: &mut Paper<'_>, area: Rect, width: u16, height: u16, title: &str) -> Rect {
    let place = middle(area, width, height);
    paper.clear(place);
    let title = Line::from(span(title, paper.theme.strong()));
    paper.frame(place, &title, &Line::default())
}
