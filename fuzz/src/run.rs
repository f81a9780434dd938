//! Tries one target for a while: case after case, each made from the seed and its number.

use crate::dice::Dice;
use crate::memory::{Took, measured};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Exit code of a process in which a case took too long.
pub const EXIT_HANGS: i32 = 3;

/// What no case of a target may exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Generous: machines are slow at times, and this finds what does not end.
    pub time: Duration,
    /// Of a single piece of memory, in bytes.
    pub largest: usize,
    /// In use at a time beyond what was in use before, in bytes.
    pub most: usize,
}

/// A door.
pub trait Target {
    /// Makes a case up.
    fn make(&self, dice: &mut Dice) -> Vec<u8>;

    /// Has it taken by the code that takes such things. True: it was good and was taken; false: it was refused, as
    /// it should be.
    ///
    /// # Errors
    /// When something is not as it must be: a finding.
    fn take(&mut self, case: &[u8]) -> Result<bool, String>;

    /// Looks at what a round has left behind, and begins anew.
    ///
    /// # Errors
    /// As [`Target::take`].
    fn end_round(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// A target, by name.
pub struct Door {
    /// For people.
    pub name: &'static str,
    /// What no case may exceed.
    pub limits: Limits,
    /// Cases that build upon each other: one is repeated from the first of its round on.
    pub round: u64,
    /// Makes it ready.
    pub open: fn() -> Box<dyn Target>,
}

/// What to try.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Decides all cases.
    pub seed: u64,
    /// The first case's number.
    pub from: u64,
    /// How long; at least one round is tried.
    pub time: Duration,
    /// At most so many cases.
    pub cases_max: u64,
    /// Where cases that fail are written, and what is tried now.
    pub folder: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Of the target.
    pub target: String,
    /// Tried.
    pub cases: u64,
    /// Taken as good; all others were refused.
    pub taken: u64,
    /// How long that took.
    pub seconds: f64,
    /// The slowest case, in milliseconds, and its number.
    pub slowest_ms: f64,
    /// Its number.
    pub slowest_case: u64,
    /// The largest piece of memory, in bytes.
    pub largest: u64,
    /// The most memory of a case, in bytes.
    pub most: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Number of the case.
    pub case: u64,
    /// What happened.
    pub what: String,
    /// Where the case was written.
    pub file: PathBuf,
}

/// Findings after which a run ends: more of them say nothing new.
const FINDINGS_MAX: usize = 20;
/// Between two words about how far a run is.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Panics of all threads, since they were looked at last.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Tries cases until time, cases or patience are over. `tell` is told how far it is now and then.
///
/// # Errors
/// When the folder cannot be written to.
pub fn run(door: &Door, wish: &Wish, mut tell: impl FnMut(&Report)) -> io::Result<Report> {
    std::fs::create_dir_all(&wish.folder)?;
    note_panics();
    let now = File::create(wish.folder.join(format!("{}.now", door.name)))?;
    let watch = Watch::start(door, wish);
    let mut target = (door.open)();
    let mut report = Report { target: door.name.to_owned(), ..Report::default() };
    let started = Instant::now();
    let mut told_at = started;
    let first = wish.from - wish.from % door.round;
    for index in first.. {
        let is_last = report.cases >= wish.cases_max || report.findings.len() >= FINDINGS_MAX;
        let is_new_round = index % door.round == 0 && index > first;
        let is_over = is_last || is_new_round && started.elapsed() >= wish.time;
        if is_over || is_new_round {
            let ended = target.end_round().and_then(|()| panics().map_or(Ok(()), Err));
            if let Err(what) = ended {
                report.findings.push(finding(wish, door, index - 1, what, &[])?);
            }
        }
        if is_over {
            break;
        }
        // Should the process die, this is what it died of.
        now.write_all_at(format!("{index:<20}").as_bytes(), 0)?;
        let case = target.make(&mut Dice::of(wish.seed, index));
        watch.begin(index);
        let begun = Instant::now();
        let (taken, took) = measured(|| catch_unwind(AssertUnwindSafe(|| target.take(&case))));
        let time = begun.elapsed();
        watch.end();
        let problem = match taken {
            Ok(Ok(is_good)) => {
                report.taken += u64::from(is_good);
                exceeded(&door.limits, took)
            }
            Ok(Err(what)) => Some(what),
            Err(_) => Some("it panicked".to_owned()),
        };
        if let Some(what) = panics().or(problem) {
            report.findings.push(finding(wish, door, index, what, &case)?);
        }
        count(&mut report, index, time, took);
        report.seconds = started.elapsed().as_secs_f64();
        if told_at.elapsed() >= TELL_EVERY {
            told_at = Instant::now();
            tell(&report);
        }
    }
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

fn count(report: &mut Report, index: u64, time: Duration, took: Took) {
    report.cases += 1;
    let ms = time.as_secs_f64() * 1e3;
    if ms > report.slowest_ms {
        (report.slowest_ms, report.slowest_case) = (ms, index);
    }
    report.largest = report.largest.max(took.largest as u64);
    report.most = report.most.max(took.most as u64);
}

fn exceeded(limits: &Limits, took: Took) -> Option<String> {
    let Limits { largest, most, time: _ } = *limits;
    if took.largest > largest {
        return Some(format!("{} bytes were asked for at once; the limit is {largest}", took.largest));
    }
    (took.most > most).then(|| format!("{} bytes were in use; the limit is {most}", took.most))
}

fn finding(wish: &Wish, door: &Door, case: u64, what: String, bytes: &[u8]) -> io::Result<Finding> {
    let file = wish.folder.join(format!("{}-{}-{case}.case", door.name, wish.seed));
    std::fs::write(&file, bytes)?;
    Ok(Finding { case, what, file })
}

/// What was tried when a process died.
#[must_use]
pub fn tried_last(folder: &Path, target: &str) -> Option<u64> {
    std::fs::read_to_string(folder.join(format!("{target}.now"))).ok()?.trim().parse().ok()
}

/// Panics are kept for the report instead of being printed; those of other threads too.
fn note_panics() {
    static NOTED: OnceLock<()> = OnceLock::new();
    NOTED.get_or_init(|| {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let words = info.payload_as_str().unwrap_or("without words");
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("panic at {place}: {words}"));
        }));
    });
}

/// Those since they were looked at last.
fn panics() -> Option<String> {
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    (!panics.is_empty()).then(|| panics.join("; "))
}

/// Ends the process when a case does not end.
struct Watch {
    /// When the case began, in milliseconds since the start; 0: none is tried.
    begun_ms: Arc<AtomicU64>,
    index: Arc<AtomicU64>,
    started: Instant,
}

impl Watch {
    fn start(door: &Door, wish: &Wish) -> Self {
        let watch = Self { begun_ms: Arc::default(), index: Arc::default(), started: Instant::now() };
        let (begun_ms, index, started) = (Arc::clone(&watch.begun_ms), Arc::clone(&watch.index), watch.started);
        let (name, seed, limit_ms) = (door.name, wish.seed, millis(door.limits.time));
        std::thread::spawn(move || {
            while Arc::strong_count(&begun_ms) > 1 {
                std::thread::sleep(Duration::from_millis(100));
                let begun = begun_ms.load(Ordering::Relaxed);
                if begun > 0 && millis(started.elapsed()).saturating_sub(begun) > limit_ms {
                    let case = index.load(Ordering::Relaxed);
                    eprintln!("case {case} of {name} with seed {seed} has not ended after {limit_ms} ms");
                    std::process::exit(EXIT_HANGS);
                }
            }
        });
        watch
    }

    fn begin(&self, index: u64) {
        self.index.store(index, Ordering::Relaxed);
        self.begun_ms.store(millis(self.started.elapsed()).max(1), Ordering::Relaxed);
    }

    fn end(&self) {
        self.begun_ms.store(0, Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
