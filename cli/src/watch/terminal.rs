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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Takes the terminal and panics: what the test below runs in a terminal of its own.
    #[test]
    #[ignore = "takes the terminal that it runs in"]
    fn takes_the_terminal_and_panics() {
        let _screen = Screen::open().unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let myself = std::env::current_exe().unwrap();
        let name = "watch::terminal::tests::takes_the_terminal_and_panics";
        let line = format!(
            "stty -g; '{}' --exact {name} --ignored --nocapture; echo ended with $?; stty -g",
            myself.display()
        );
        let output = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            // A trace has lines that look like a terminal's settings.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in {text:?}"));
        let (entered, left) = (place("\x1b[?1049h"), place("\x1b[?1049l"));
        assert!(
            entered < left && left < place("on purpose"),
            "the reason is on the screen one comes back to: {text:?}"
        );
        assert!(left < text.rfind("\x1b[?25h").unwrap(), "the cursor shows: {text:?}");
        place("ended with 101");
        let settings: Vec<&str> = text.lines().map(str::trim).filter(|line| line.matches(':').count() > 10).collect();
        assert_eq!(settings.len(), 2, "{text:?}");
        assert_eq!(settings[0], settings[1], "raw mode is over");
    }
}
