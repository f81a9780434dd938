//! The dashboard on a terminal: keys and answers go in, requests come out, and it draws ten times a second at most.

mod link;
mod terminal;

use crate::arguments::{Place, Watch as Arguments};
use crate::exit::End;
use crate::session::Session;
use dashboards::watch::theme::Theme;
use dashboards::watch::{Ask, Input, Setup, Watch};
use link::Link;
use ratatui::crossterm::event::{self, Event, KeyEventKind, MouseEventKind};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use terminal::Screen;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Between two drawings, and how long the first one waits for something to show.
const DRAW_PAUSE: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_secs(1);
/// Answers folded before it is looked whether to draw.
const BATCH: usize = 512;
/// Answers on their way.
const ANSWERS_MAX: usize = 64;

/// Shows a sweep, the newest one if none is named, until somebody leaves.
pub(crate) async fn dashboard(session: &mut Session, place: &Place, arguments: &Arguments) -> anyhow::Result<End> {
    let sweep = session.sweep_name(arguments.sweep.as_deref()).await?;
    let theme = Theme::detect(arguments.ascii, |name| std::env::var(name).ok());
    let setup = Setup { theme, read_only: arguments.read_only, embedded: session.is_embedded() };
    let (tell, answers) = mpsc::channel(ANSWERS_MAX);
    let store = place.coordinator.is_none().then(|| place.store.clone());
    let link = Link::new(session, sweep, store, tell);
    let signals = Signals::new()?;
    let keys = keys();
    let screen = Screen::open()?;
    Loop { watch: Watch::new(setup, now_ms()), screen, link, keys, answers, signals, last_tick: Instant::now() }
        .run()
        .await
}

struct Loop {
    watch: Watch,
    screen: Screen,
    link: Link,
    keys: mpsc::UnboundedReceiver<Input>,
    answers: mpsc::Receiver<Result<Input, tonic::Status>>,
    signals: Signals,
    last_tick: Instant,
}

impl Loop {
    async fn run(mut self) -> anyhow::Result<End> {
        // What is known is worth waiting for a moment: the first screen is then a full one.
        let mut draw_at = Instant::now() + DRAW_PAUSE;
        let mut known = false;
        loop {
            while let Some(ask) = self.watch.poll_ask() {
                if ask == Ask::Quit {
                    return Ok(End::Done);
                }
                self.link.ask(ask);
            }
            if !known && !self.watch.model().name.is_empty() {
                known = true;
                draw_at = Instant::now();
            }
            if self.watch.is_dirty() && Instant::now() >= draw_at {
                self.screen.draw(&mut self.watch)?;
                draw_at = Instant::now() + DRAW_PAUSE;
            }
            let tick_at = self.last_tick + TICK;
            tokio::select! {
                biased;
                () = self.signals.next() => return Ok(End::Interrupted),
                key = self.keys.recv() => match key {
                    Some(key) => self.watch.handle(now_ms(), key),
                    // The terminal is gone.
                    None => return Ok(End::Interrupted),
                },
                () = sleep_until(draw_at), if self.watch.is_dirty() => {}
                () = sleep_until(tick_at), if self.watch.wants_ticks() => {
                    self.last_tick = Instant::now();
                    self.watch.handle(now_ms(), Input::Tick);
                }
                answer = self.answers.recv() => self.take(answer)?,
            }
        }
    }

    /// Takes an answer and those that came with it.
    fn take(&mut self, answer: Option<Result<Input, tonic::Status>>) -> anyhow::Result<()> {
        let mut next = answer;
        for _ in 0..BATCH {
            match next {
                Some(Ok(input)) => {
                    self.watch.handle(now_ms(), input);
                }
                // Without the sweep there is nothing to show.
                Some(Err(status)) => return Err(crate::exit::refused(&status).into()),
                None => break,
            }
            next = self.answers.try_recv().ok();
        }
        Ok(())
    }
}

/// What is typed, read by a thread of its own: it sleeps until something is.
fn keys() -> mpsc::UnboundedReceiver<Input> {
    let (tell, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let input = match event {
                Event::Key(key) if key.kind != KeyEventKind::Release => Input::Key(key),
                Event::Mouse(mouse) if !matches!(mouse.kind, MouseEventKind::Moved | MouseEventKind::Up(_)) => {
                    Input::Mouse(mouse)
                }
                Event::Resize(..) => Input::Resized,
                Event::Key(_) | Event::Mouse(_) | Event::FocusGained | Event::FocusLost | Event::Paste(_) => continue,
            };
            if tell.send(input).is_err() {
                break;
            }
        }
    });
    keys
}

/// Unix time.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Being told to end, in any way that leaves a chance to.
struct Signals([Signal; 4]);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup(), SignalKind::quit()];
        let [interrupt, terminate, hangup, quit] = kinds.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?, quit?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup, quit] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = quit.recv() => {}
        }
    }
}
