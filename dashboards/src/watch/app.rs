//! The dashboard as a whole: what came goes in, what is wanted comes out, and it draws.

use super::actions::{self, Ask};
use super::detail::Detail;
use super::dialog::Dialog;
use super::events::EventsState;
use super::fold::Wanted;
use super::grid::GridState;
use super::hits::Hits;
use super::input::{Input, Link};
use super::model::{Model, Standing, Trial};
use super::theme::Theme;
use super::tradeoff::TradeoffState;
use super::workers::WorkersState;
use crate::happenings;
use std::collections::VecDeque;

/// Between two askings for the status that events make necessary.
const STATUS_PAUSE_MS: u64 = 1_000;
/// Between two askings for the workers while they are looked at.
const WORKERS_PAUSE_MS: u64 = 2_000;
/// Between two askings for what changes of an open trial without an event.
const TRIAL_PAUSE_MS: u64 = 5_000;
/// How long a note stays.
const NOTE_MS: u64 = 8_000;

/// One of the five screens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// Accuracy against cost.
    #[default]
    Tradeoff,
    /// The matrix, or the table.
    Grid,
    /// One trial.
    Trial,
    /// Who trains.
    Workers,
    /// What happened.
    Events,
}

/// All screens, in order of their keys.
pub(super) const SCREENS: [(Screen, &str); 5] = [
    (Screen::Tradeoff, "Trade-off"),
    (Screen::Grid, "Grid"),
    (Screen::Trial, "Trial"),
    (Screen::Workers, "Workers"),
    (Screen::Events, "Events"),
];

/// How it was started.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// What the terminal shows.
    pub theme: Theme,
    /// Nothing can be asked of the coordinator.
    pub read_only: bool,
    /// The coordinator is this very process: nobody else trains for it, and it ends with the dashboard.
    pub embedded: bool,
}

/// The dashboard.
#[derive(Clone, Debug)]
pub struct Watch {
    pub(super) setup: Setup,
    pub(super) model: Model,
    pub(super) detail: Option<Detail>,
    pub(super) screen: Screen,
    pub(super) tradeoff: TradeoffState,
    pub(super) grid: GridState,
    pub(super) workers: WorkersState,
    pub(super) events: EventsState,
    pub(super) dialog: Dialog,
    pub(super) link: Link,
    /// What was said last, whether it is bad news, and until when it stays.
    pub(super) note: Option<(String, bool, u64)>,
    pub(super) hits: Hits,
    pub(super) now_ms: u64,
    /// The terminal has to be drawn from nothing.
    pub(super) anew: bool,
    known: bool,
    dirty: bool,
    asks: VecDeque<Ask>,
    wanted: Wanted,
    status_asked_ms: u64,
    workers_asked_ms: u64,
    trial_asked_ms: u64,
}

impl Watch {
    /// Nothing known yet; the first [`Ask`] is for the status.
    #[must_use]
    pub fn new(setup: Setup, now_ms: u64) -> Self {
        Self {
            setup,
            model: Model::default(),
            detail: None,
            screen: Screen::default(),
            tradeoff: TradeoffState::default(),
            grid: GridState::default(),
            workers: WorkersState::default(),
            events: EventsState::default(),
            dialog: Dialog::default(),
            link: Link::Live,
            note: None,
            hits: Hits::default(),
            now_ms,
            anew: false,
            known: false,
            dirty: true,
            asks: VecDeque::from([Ask::Status { metrics: Model::default().metrics() }, Ask::Workers]),
            wanted: Wanted::default(),
            status_asked_ms: now_ms,
            workers_asked_ms: now_ms,
            trial_asked_ms: 0,
        }
    }

    /// Takes what came, at this Unix time.
    pub fn handle(&mut self, now_ms: u64, input: Input) {
        self.now_ms = now_ms;
        if !matches!(input, Input::Tick) {
            self.dirty = true;
        }
        match input {
            Input::Key(key) => self.key(key),
            Input::Mouse(mouse) => self.mouse(mouse),
            Input::Resized => {}
            Input::Tick => self.tick(),
            Input::Status(reply) => {
                let asked = self.model.metrics();
                self.model.status(*reply);
                if self.model.metrics().len() > asked.len() {
                    // Only now it is known what decides which epoch is the best.
                    self.ask(Ask::Status { metrics: self.model.metrics() });
                }
                if !self.known && self.model.has_choices() {
                    self.grid.shows_table = true;
                }
                self.known = true;
            }
            Input::Event(event) => {
                let of_detail = self.detail.as_mut().filter(|detail| event.trial == Some(detail.trial));
                let newer = event.sequence > self.model.sequence;
                if let (Some(detail), true, Ok(happening)) = (of_detail, newer, happenings::read(&event)) {
                    detail.event(&event, &happening);
                }
                let wanted = self.model.event(&event);
                self.wanted.status |= wanted.status;
                self.wanted.workers |= wanted.workers;
                if self.detail.as_ref().is_some_and(|detail| wanted.trial == Some(detail.trial)) {
                    self.wanted.trial = wanted.trial;
                }
            }
            Input::Workers(workers) => {
                self.dirty = self.screen == Screen::Workers || workers.len() != self.model.workers.len();
                self.model.workers = workers;
            }
            Input::Points { trial, first, points } => {
                let Some(detail) = self.opened(trial) else { return };
                if first {
                    for point in &points {
                        detail.curves.remove(&point.name);
                    }
                }
                detail.points(points);
            }
            Input::Attempts(trial, attempts) => {
                if let Some(detail) = self.opened(trial) {
                    detail.attempts = attempts;
                }
            }
            Input::Checkpoints(trial, checkpoints) => {
                if let Some(detail) = self.opened(trial) {
                    detail.checkpoints = checkpoints;
                }
            }
            Input::Log(trial, first, lines) => {
                if let Some(detail) = self.opened(trial) {
                    if first {
                        detail.log.clear();
                    }
                    detail.lines(lines);
                }
            }
            Input::Explained(trial, text) => {
                if let Some(detail) = self.opened(trial) {
                    detail.explained = text;
                }
            }
            Input::Done(words) => self.say(words, false),
            Input::Refused(words) => self.say(words, true),
            Input::Link(link) => {
                let back = link == Link::Live && self.link != Link::Live;
                self.link = link;
                if back {
                    self.say("the coordinator is back".to_owned(), false);
                    self.asks.extend([Ask::Status { metrics: self.model.metrics() }, Ask::Workers]);
                    self.asks.extend(self.detail.as_ref().map(|detail| Ask::Open(detail.trial)));
                }
            }
        }
        self.ask_what_is_wanted();
    }

    /// What is to be done next.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// Whether there is something to draw that was not drawn yet.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Whether the terminal has to be cleared before the next drawing; asked once.
    pub fn take_anew(&mut self) -> bool {
        std::mem::take(&mut self.anew)
    }

    /// Whether time alone changes something: `Tick` about once a second then.
    #[must_use]
    pub fn wants_ticks(&self) -> bool {
        let looks = matches!(self.screen, Screen::Workers | Screen::Trial);
        (looks && !self.model.is_over())
            || self.note.is_some()
            || self.link != Link::Live
            || self.wanted != Wanted::default()
    }

    /// The screen that is shown.
    #[must_use]
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// What is known.
    #[must_use]
    pub fn model(&self) -> &Model {
        &self.model
    }

    pub(super) fn drawn(&mut self) {
        self.dirty = false;
    }

    pub(super) fn ask(&mut self, ask: Ask) {
        self.asks.push_back(ask);
    }

    pub(super) fn say(&mut self, words: String, bad: bool) {
        self.note = Some((words, bad, self.now_ms + NOTE_MS));
    }

    /// Shows a screen; the trial's, of the trial under the cursor if none is open.
    pub(super) fn show(&mut self, screen: Screen) {
        if screen == Screen::Trial && self.detail.is_none() {
            let under = self.under_cursor().map(|trial| trial.id);
            let first = || self.model.trials.iter().find(|trial| trial.standing == Standing::Running);
            let id = under.or_else(|| first().map(|trial| trial.id));
            if let Some(id) = id.or_else(|| self.model.trials.first().map(|trial| trial.id)) {
                self.open(id);
            }
        }
        if screen == Screen::Workers {
            self.wanted.workers = true;
        }
        self.screen = screen;
    }

    /// Opens a trial.
    pub(super) fn open(&mut self, id: u64) {
        if self.detail.as_ref().is_none_or(|detail| detail.trial != id) {
            self.detail = Some(Detail::new(id));
            self.ask(Ask::Open(id));
            self.trial_asked_ms = self.now_ms;
        }
        self.screen = Screen::Trial;
    }

    /// The trial that is meant on this screen.
    pub(super) fn under_cursor(&self) -> Option<&Trial> {
        let of = |place: Option<usize>| self.model.trials.get(place?);
        match self.screen {
            Screen::Tradeoff => of(self.tradeoff.trial(&self.model)),
            Screen::Grid => of(self.grid.trial(&self.model)),
            Screen::Trial => self.model.by_id(self.detail.as_ref()?.trial),
            Screen::Workers => self.model.by_id(self.workers.trial(&self.model)?),
            Screen::Events => None,
        }
    }

    /// What can be asked for now.
    pub(super) fn choices(&self) -> Vec<actions::Choice> {
        actions::choices(&self.model, self.screen, self.under_cursor(), self.workers.worker(&self.model))
    }

    fn opened(&mut self, trial: u64) -> Option<&mut Detail> {
        self.detail.as_mut().filter(|detail| detail.trial == trial)
    }

    fn tick(&mut self) {
        // Times since are shown there.
        self.dirty |= self.screen == Screen::Workers || self.link != Link::Live;
        if self.note.as_ref().is_some_and(|(_, _, until)| *until <= self.now_ms) {
            self.note = None;
            self.dirty = true;
        }
        if self.link != Link::Live || self.model.is_over() {
            return;
        }
        if self.screen == Screen::Workers && self.now_ms >= self.workers_asked_ms + WORKERS_PAUSE_MS {
            self.wanted.workers = true;
        }
        if let (Screen::Trial, Some(detail)) = (self.screen, &self.detail)
            && self.now_ms >= self.trial_asked_ms + TRIAL_PAUSE_MS
            && self.model.by_id(detail.trial).is_some_and(|trial| !trial.standing.is_over())
        {
            self.wanted.trial = Some(detail.trial);
            self.dirty = true;
        }
    }

    /// Not more often than makes sense: what is wanted too early is asked for at a later tick.
    fn ask_what_is_wanted(&mut self) {
        if self.link != Link::Live {
            return;
        }
        if self.wanted.status && self.now_ms >= self.status_asked_ms + STATUS_PAUSE_MS {
            self.wanted.status = false;
            self.status_asked_ms = self.now_ms;
            self.ask(Ask::Status { metrics: self.model.metrics() });
        }
        if self.wanted.workers && self.now_ms >= self.workers_asked_ms + STATUS_PAUSE_MS {
            self.wanted.workers = false;
            self.workers_asked_ms = self.now_ms;
            self.ask(Ask::Workers);
        }
        if let Some(trial) = self.wanted.trial
            && self.now_ms >= self.trial_asked_ms + STATUS_PAUSE_MS
        {
            self.wanted.trial = None;
            self.trial_asked_ms = self.now_ms;
            self.ask(Ask::Refresh(trial));
        }
    }
}
