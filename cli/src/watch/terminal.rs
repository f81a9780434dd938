//! The terminal, which is left as it was found: at the end, after an error, a signal or a panic.

use dashboards::watch::Watch;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::{cursor, execute, style, terminal};
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the terminal is ours at the moment.
static OPEN: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// Clicks and the wheel, but not every movement: that would wake us for nothing.
const MOUSE_ON: &[u8] = b"\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &[u8] = b"\x1b[?1006l\x1b[?1000l";

/// The terminal while it is ours; given back when dropped.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn open() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        terminal::enable_raw_mode()?;
        OPEN.store(true, Ordering::SeqCst);
        // From here on dropping it gives the terminal back.
        let screen = Self { terminal: Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout())))? };
        let mut out = io::stdout();
        execute!(out, terminal::EnterAlternateScreen, cursor::Hide)?;
        out.write_all(MOUSE_ON)?;
        out.flush()?;
        Ok(screen)
    }

    /// Draws what there is to draw.
    pub(super) fn draw(&mut self, watch: &mut Watch) -> io::Result<()> {
        if !OPEN.load(Ordering::SeqCst) {
            return Err(io::Error::other("a part of the dashboard has panicked"));
        }
        if watch.take_anew() {
            self.terminal.clear()?;
        }
        self.terminal.draw(|frame| watch.draw(frame)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back; once.
fn give_back() {
    if !OPEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // Nothing can be done if the terminal itself is gone.
    let mut out = io::stdout();
    let _ = out.write_all(MOUSE_OFF);
    let _ = execute!(out, style::ResetColor, terminal::LeaveAlternateScreen, cursor::Show);
    let _ = terminal::disable_raw_mode();
}
