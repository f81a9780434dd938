//! Keys and the mouse.

use super::actions::{self, Ask, Choice};
use super::app::{SCREENS, Screen, Watch};
use super::dialog::Dialog;
use super::hits::Hit;
use ratatui::crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

/// Characters of a filter.
const FILTER_MAX: usize = 60;

impl Watch {
    pub(super) fn key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c') => self.ask(Ask::Quit),
                KeyCode::Char('l') => self.anew = true,
                _ => {}
            }
            return;
        }
        match std::mem::take(&mut self.dialog) {
            Dialog::None => self.screen_key(key.code),
            Dialog::Help => {}
            Dialog::Menu { choices, cursor } => self.menu_key(key.code, choices, cursor),
            Dialog::Confirm { question, ask } => match key.code {
                KeyCode::Char('y' | 'Y') => self.ask(ask),
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {}
                _ => self.dialog = Dialog::Confirm { question, ask },
            },
            Dialog::Number { typed, problem } => self.number_key(key.code, typed, problem),
            Dialog::Filter { before } => self.filter_key(key.code, before),
        }
    }

    fn screen_key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('q') => return self.leave(),
            KeyCode::Char('?') | KeyCode::F(1) => {
                self.dialog = Dialog::Help;
                return;
            }
            KeyCode::Char('a') if !self.setup.read_only => {
                self.dialog = Dialog::Menu { choices: self.choices(), cursor: 0 };
                return;
            }
            KeyCode::Char('/') => return self.begin_filter(),
            KeyCode::Char(digit @ '1'..='5') => return self.show(SCREENS[digit as usize - '1' as usize].0),
            KeyCode::Tab => return self.turn(1),
            KeyCode::BackTab => return self.turn(SCREENS.len() - 1),
            KeyCode::Enter => return self.enter(),
            KeyCode::Esc => return self.back(),
            _ => {}
        }
        match self.screen {
            Screen::Tradeoff => self.tradeoff.key(&self.model, key),
            Screen::Grid => self.grid.key(&self.model, key),
            Screen::Trial => match key {
                KeyCode::Left | KeyCode::Up | KeyCode::Char('h' | 'k') => self.neighbour(-1),
                KeyCode::Right | KeyCode::Down | KeyCode::Char('l' | 'j') => self.neighbour(1),
                _ => false,
            },
            Screen::Workers => self.workers.key(&self.model, key),
            Screen::Events => self.events.key(key),
        };
    }

    fn leave(&mut self) {
        let trained = self.model.workers.iter().any(|worker| worker.state == "attached");
        if self.setup.embedded && trained {
            let question =
                "Leave? Workers are attached to the coordinator inside this dashboard; it ends with it, and \
                            they wait for another one."
                    .to_owned();
            self.dialog = Dialog::Confirm { question, ask: Ask::Quit };
        } else {
            self.ask(Ask::Quit);
        }
    }

    fn turn(&mut self, by: usize) {
        let at = SCREENS.iter().position(|(screen, _)| *screen == self.screen).unwrap_or(0);
        self.show(SCREENS[(at + by) % SCREENS.len()].0);
    }

    fn enter(&mut self) {
        if self.screen != Screen::Trial
            && let Some(id) = self.under_cursor().map(|trial| trial.id)
        {
            self.open(id);
        }
    }

    fn back(&mut self) {
        match self.screen {
            Screen::Grid if !self.grid.table.filter.is_empty() => self.grid.table.filter.clear(),
            Screen::Events if !self.events.filter.is_empty() => self.events.filter.clear(),
            Screen::Trial => self.screen = Screen::Grid,
            _ => self.screen = Screen::Tradeoff,
        }
        self.note = None;
    }

    /// The trial before or after, in the sweep's order.
    fn neighbour(&mut self, by: i64) -> bool {
        let Some(number) = self.under_cursor().map(|trial| trial.number) else { return false };
        let at = self.model.trials.iter().position(|trial| trial.number == number).unwrap_or(0);
        let to = (at as i64 + by).clamp(0, self.model.trials.len() as i64 - 1) as usize;
        if let Some(id) = self.model.trials.get(to).map(|trial| trial.id) {
            self.open(id);
        }
        true
    }

    fn menu_key(&mut self, key: KeyCode, choices: Vec<Choice>, cursor: usize) {
        let last = choices.len().saturating_sub(1);
        let chosen = match key {
            KeyCode::Esc | KeyCode::Char('q' | 'a') => return,
            KeyCode::Up | KeyCode::Char('k') => {
                self.dialog = Dialog::Menu { cursor: cursor.saturating_sub(1), choices };
                return;
            }
            KeyCode::Down | KeyCode::Char('j') => {
                self.dialog = Dialog::Menu { cursor: (cursor + 1).min(last), choices };
                return;
            }
            KeyCode::Enter => choices.get(cursor).cloned(),
            KeyCode::Char(letter) => choices.iter().find(|choice| choice.key == letter).cloned(),
            _ => None,
        };
        self.dialog = match chosen {
            Some(Choice { question: Some(question), ask, .. }) => Dialog::Confirm { question, ask },
            Some(Choice { question: None, .. }) => Dialog::Number { typed: String::new(), problem: "" },
            None => Dialog::Menu { choices, cursor },
        };
    }

    fn number_key(&mut self, key: KeyCode, mut typed: String, problem: &'static str) {
        match key {
            KeyCode::Esc => return,
            KeyCode::Enter => {
                match actions::limit(&typed) {
                    Ok(limit) => {
                        let most = limit.map_or_else(|| "no limit".to_owned(), |limit| format!("at most {limit}"));
                        let question = format!("{most} trials of {} at a time?", self.model.name);
                        self.dialog = Dialog::Confirm { question, ask: Ask::Limit(limit) };
                    }
                    Err(problem) => self.dialog = Dialog::Number { typed, problem },
                }
                return;
            }
            KeyCode::Backspace => drop(typed.pop()),
            KeyCode::Char(letter) if typed.len() < 10 && letter.is_ascii_alphanumeric() => typed.push(letter),
            _ => {}
        }
        self.dialog = Dialog::Number { typed, problem };
    }

    fn begin_filter(&mut self) {
        if self.screen != Screen::Events {
            self.screen = Screen::Grid;
            self.grid.shows_table = true;
        }
        self.dialog = Dialog::Filter { before: self.filter().clone() };
    }

    /// The words of the screen that is filtered.
    pub(super) fn filter(&mut self) -> &mut String {
        if self.screen == Screen::Events { &mut self.events.filter } else { &mut self.grid.table.filter }
    }

    fn filter_key(&mut self, key: KeyCode, before: String) {
        match key {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                *self.filter() = before;
                return;
            }
            KeyCode::Backspace => drop(self.filter().pop()),
            KeyCode::Char(letter) if self.filter().chars().count() < FILTER_MAX => self.filter().push(letter),
            _ => {}
        }
        self.dialog = Dialog::Filter { before };
    }

    pub(super) fn mouse(&mut self, mouse: MouseEvent) {
        let code = match mouse.kind {
            MouseEventKind::ScrollUp => KeyCode::Up,
            MouseEventKind::ScrollDown => KeyCode::Down,
            MouseEventKind::Down(MouseButton::Left) => return self.click(mouse.column, mouse.row),
            _ => return,
        };
        self.key(KeyEvent::new(code, KeyModifiers::NONE));
    }

    /// A click selects; on what is selected it opens.
    fn click(&mut self, x: u16, y: u16) {
        let Some(hit) = self.hits.at(x, y) else { return };
        if let Hit::Choice(place) = hit {
            if let Dialog::Menu { choices, .. } = std::mem::take(&mut self.dialog) {
                self.menu_key(KeyCode::Enter, choices, place);
            }
            return;
        }
        if self.dialog != Dialog::None {
            return;
        }
        let before = self.under_cursor().map(|trial| trial.id);
        match hit {
            Hit::Screen(screen) => return self.show(screen),
            Hit::Cell(cell) if self.screen == Screen::Tradeoff => self.tradeoff.put_cursor(&self.model, cell),
            Hit::Cell(cell) => self.grid.put_cursor(&self.model, cell),
            Hit::Row(row) if self.screen == Screen::Workers => return self.workers.put_cursor(row),
            Hit::Row(row) => self.grid.table.put_cursor(row),
            Hit::Choice(_) => {}
        }
        if before.is_some() && self.under_cursor().map(|trial| trial.id) == before {
            self.enter();
        }
    }
}
