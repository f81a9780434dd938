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

/// What a process has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Of all its threads.
    pub(crate) cpu_seconds: f64,
    /// Now.
    pub(crate) resident_bytes: f64,
    /// At most.
    pub(crate) peak_bytes: f64,
}

/// Bytes of a mebibyte.
pub(crate) const MIB: f64 = 1_048_576.0;
/// Linux counts a process's time in these.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
            number.with_context(|| format!("/proc/{process}/status has no {name}"))
        };
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // After the name, which may hold spaces: user's and system's ticks are the 12th and 13th.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().skip(11).take(2));
        let ticks = fields.into_iter().flatten().filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
        Ok(Self {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            resident_bytes: kilobytes("VmRSS:")? * 1024.0,
            peak_bytes: kilobytes("VmHWM:")? * 1024.0,
        })
    }
}

/// Starts a coordinator of a store on any free port; with its address.
pub(crate) fn coordinator(house: &House, alpharho: &Path, store: &Path) -> Result<(Background, String)> {
    coordinator_with(house, alpharho, store, &["--listen", "127.0.0.1:0"])
}

/// Starts a coordinator of a store with those arguments, `--listen ADDRESS` among them.
pub(crate) fn coordinator_with(
    house: &House,
    alpharho: &Path,
    store: &Path,
    arguments: &[&str],
) -> Result<(Background, String)> {
    let mut command = house.command(alpharho);
    command.arg("coordinator").args(arguments).arg("--store").arg(store);
    let lock = store.with_extension("db.lock");
    // One that was killed has left its address.
    let _ = fs::write(&lock, "");
    let mut coordinator = Background::start(&mut command)?;
    let until = Instant::now() + OPEN_MAX;
    loop {
        if let Some(address) = fs::read_to_string(&lock).ok().filter(|address| address.starts_with("http")) {
            return Ok((coordinator, address.trim().to_owned()));
        }
        if Instant::now() > until || coordinator.0.try_wait()?.is_some() {
            bail!("the coordinator of {} did not start", store.display());
        }
        thread::sleep(Duration::from_millis(5));
    }
}
