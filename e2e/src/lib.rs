//! Starts the built executables as a person would, on port 0 and in a folder of its own, and ends them all.
//!
//! For tests: everything here panics with what the processes wrote when something is not as it should be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod calls;
pub mod chaos;
mod events;
mod pictures;
mod process;
mod proxy;
mod random;
mod stage;
mod terminal;

pub use events::{Happened, Watcher, attempts, epochs_of};
pub use pictures::{plain, write_pictures};
pub use process::{Process, children, is_alive};
pub use proxy::{Proxy, Way};
pub use random::Random;
pub use stage::{Coordinator, Stage};
pub use terminal::{Terminal, has_tmux};

use std::time::{Duration, Instant};

/// Far more than anything here takes: a machine may be busy with other things.
pub const CAP: Duration = Duration::from_secs(120);

/// Waits until there is something.
///
/// # Panics
/// When it takes longer than [`CAP`].
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + CAP;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come within {} s", CAP.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
