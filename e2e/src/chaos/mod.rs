//! Real sweeps while everything around them is killed, stopped, cut off and damaged, at moments that a seed chooses;
//! then healing, and the demand that nothing of it can be seen in the results.
//!
//! `cast` has the processes and breaks them; `acts` chooses what to break, and `orders` what people and calls do to a
//! sweep where all processes live; `check` holds the end against an undisturbed run of the same sweep.

mod acts;
mod cast;
mod check;
mod orders;

use crate::calls::Met;
use crate::{Stage, plain, write_pictures};
use cast::Cast;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How to break things.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// Decides what is broken, and which sweeps are trained.
    pub seed: u64,
    /// How long things are broken; healing comes after.
    pub how_long: Duration,
    /// What is broken.
    pub what: What,
}

/// Sweeps, and what is done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Scripted sweeps; processes, connections and checkpoints are broken.
    Processes,
    /// The same, and single calls are lost, doubled, delayed.
    ProcessesAndCalls,
    /// Scripted sweeps; people pause and resume, workers come and go, and every kind of call and message meets every
    /// fault of [`crate::calls`]. Over when all was met, at the latest after [`Chaos::how_long`].
    Calls,
    /// One short sweep with libtorch; processes, connections and checkpoints are broken.
    Trained,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// What happened to single calls.
    pub calls: Met,
    /// Sweeps that were trained to their end.
    pub sweeps: u64,
    /// Their trials.
    pub trials: u64,
    /// Attempts that it took, by how they ended.
    pub attempts: BTreeMap<String, u64>,
    /// Values that were compared with those of the undisturbed run.
    pub values: u64,
    /// All that is not as it should be.
    pub problems: Vec<String>,
}

impl Report {
    /// Processes that got SIGKILL.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.faults.iter().filter(|(kind, _)| kind.starts_with("kill ")).map(|(_, count)| count).sum()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "seed": self.seed, "kills": self.kills(), "faults": self.faults, "sweeps": self.sweeps,
            "trials": self.trials, "attempts": self.attempts, "values": self.values, "problems": self.problems,
        })
    }
}

/// Breaks things for as long as it was told, heals them, and looks at what is left. Says what it does if `say`.
///
/// # Panics
/// When a process does not start or end as it should, at a moment when nothing was broken.
#[must_use]
pub fn run(chaos: Chaos, say: fn(&str)) -> Report {
    let stage = Stage::new();
    let mut report = Report { seed: chaos.seed, ..Report::default() };
    let trained = chaos.what == What::Trained;
    if trained {
        write_pictures(&stage, "train", 320);
        write_pictures(&stage, "t10k", 32);
    }
    let mut cast = Cast::new(&stage, chaos);
    let sweeps = match chaos.what {
        What::Calls => orders::play(&mut cast, chaos, say),
        What::Processes | What::ProcessesAndCalls | What::Trained => acts::play(&mut cast, chaos, say),
    };
    say("healing");
    cast.heal();
    let over = cast.wait_until_over(&sweeps);
    report.problems.extend(over.err());
    let events: Vec<_> = if report.problems.is_empty() {
        sweeps.iter().map(|sweep| stage.events(&sweep.name)).collect()
    } else {
        Vec::new()
    };
    report.calls = cast.calls.as_ref().map(crate::calls::Calls::met).unwrap_or_default();
    report.faults = std::mem::take(&mut cast.faults);
    for (&(_, fault), times) in &report.calls {
        *report.faults.entry(fault.of_a_call()).or_default() += times;
    }
    report.problems.extend(cast.leave());
    for (sweep, events) in sweeps.iter().zip(&events) {
        say(&format!("{}: compared with an undisturbed run", sweep.name));
        check::sweep(&stage, sweep, events, trained, &mut report);
    }
    report.problems.extend(check::store(&stage));
    report.problems.extend(check::left_over(&stage));
    report
}

/// A sweep as it was submitted.
#[derive(Clone, Debug)]
struct Sweep {
    name: String,
    file: String,
    yaml: String,
    epochs: u64,
    trials: u64,
}

/// The executables that train for it, without anything broken, to the end; its store stays in the stage.
fn undisturbed(stage: &Stage, sweep: &Sweep, trained: bool) -> Stage {
    let other = Stage::new();
    let mut command = if trained { plain(&other, "alpharho") } else { other.command("alpharho") };
    let file = other.file(&format!("{}.yaml", sweep.name), &sweep.yaml);
    command.arg("run").arg(file).args(["--store", "store.db", "--device", "cpu"]);
    if trained {
        let data = stage.folder().join("data");
        command.args(["--slots", "1", "--threads", "1", "--data-folder"]).arg(data);
    } else {
        command.args(["--slots", "8"]);
    }
    let mut run = other.start("run", command);
    let status = run.wait();
    assert!(status.success(), "the undisturbed run ended with {status}: {}", run.written());
    other
}

/// Until it is so, or for too long.
fn wait_at_most(how_long: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + how_long;
    while Instant::now() < until {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}
