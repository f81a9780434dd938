//! Programs that work while a bench measures, and end with it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::house::House;

/// How long a coordinator may take to open a store.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// A program that is killed when this is dropped.
pub(crate) struct Background(Child);

impl Background {
    /// Starts it, without input and output.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self(child))
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // What it holds is a bench's.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a coordinator of a store on any free port; with its address.
pub(crate) fn coordinator(house: &House, alpharho: &Path, store: &Path) -> Result<(Background, String)> {
    let mut command = house.command(alpharho);
    command.args(["coordinator", "--listen", "127.0.0.1:0", "--store"]).arg(store);
    let mut coordinator = Background::start(&mut command)?;
    let lock = store.with_extension("db.lock");
    let until = Instant::now() + OPEN_MAX;
    loop {
        if let Some(address) = fs::read_to_string(&lock).ok().filter(|address| address.starts_with("http")) {
            return Ok((coordinator, address.trim().to_owned()));
        }
        if Instant::now() > until || coordinator.0.try_wait()?.is_some() {
            bail!("the coordinator of {} did not start", store.display());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
