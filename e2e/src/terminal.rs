//! A terminal for programs that want one: tmux, without any configuration of its user's.

use crate::wait_for;
use std::path::PathBuf;
use std::process::Command;

/// A tmux server of its own with one window; ended when dropped.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

/// Whether there is a tmux; says on standard error what is skipped without one.
#[must_use]
pub fn has_tmux() -> bool {
    let found = Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: tmux is not on PATH; install it (Debian, Ubuntu: apt-get install tmux), see docs/setup.md");
    }
    found
}

impl Terminal {
    /// Runs a command of the shell in a window of so many columns and rows. The window stays when it has ended.
    ///
    /// # Panics
    /// When tmux does not start.
    #[must_use]
    pub fn start(socket: PathBuf, columns: u16, rows: u16, command: &str) -> Self {
        let terminal = Self { socket };
        let size = [columns.to_string(), rows.to_string()];
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &size[0], "-y", &size[1], command]);
        terminal
    }

    /// Presses keys, by tmux's names for them.
    ///
    /// # Panics
    /// When the window is gone.
    pub fn press(&self, keys: &[&str]) {
        for key in keys {
            self.tmux(&["send-keys", key]);
        }
    }

    /// Gives the window another size.
    ///
    /// # Panics
    /// When the window is gone.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]);
    }

    /// What can be seen, a line a row.
    ///
    /// # Panics
    /// When the window is gone.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Whether a program shows its own screen instead of the shell's lines.
    ///
    /// # Panics
    /// When the window is gone.
    #[must_use]
    pub fn shows_program(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{alternate_on}"]).trim() == "1"
    }

    /// Waits until all of these can be seen at once; the screen then.
    ///
    /// # Panics
    /// When they do not appear in time: with what can be seen instead.
    pub fn until(&self, words: &[&str]) -> String {
        let mut seen = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(&format!("{words:?} on the screen"), || {
                seen = self.screen();
                words.iter().all(|word| seen.contains(word)).then_some(())
            });
        }));
        assert!(found.is_ok(), "{words:?} did not appear on:\n{seen}");
        seen
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        // UTF-8 and 256 colours, whatever the machine's own settings are.
        command.env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR").env_remove("TMUX").arg("-S").arg(&self.socket);
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended by itself when its command has.
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}
