//! What is broken, one fault after the other.

use super::cast::Cast;
use super::{Chaos, Sweep, What};
use crate::{Random, Way};
use std::time::{Duration, Instant};

/// Faults, and how often each is chosen.
const FAULTS: [(Fault, u64); 14] = [
    (Fault::KillTrainer, 22),
    (Fault::KillWorker, 16),
    (Fault::KillCoordinator, 12),
    (Fault::KillCoordinatorTwice, 3),
    (Fault::StopTrainer, 7),
    (Fault::StopWorker, 7),
    (Fault::StopCoordinator, 6),
    (Fault::Cut, 8),
    (Fault::SilenceIn, 5),
    (Fault::SilenceOut, 5),
    (Fault::DismissWorker, 4),
    (Fault::Blackout, 3),
    (Fault::Damage, 4),
    (Fault::MoveClock, 6),
];

#[derive(Clone, Copy)]
enum Fault {
    KillTrainer,
    KillWorker,
    KillCoordinator,
    KillCoordinatorTwice,
    StopTrainer,
    StopWorker,
    StopCoordinator,
    Cut,
    SilenceIn,
    SilenceOut,
    DismissWorker,
    Blackout,
    Damage,
    MoveClock,
}

/// Submits sweeps one after the other and breaks things until time is over; the sweeps.
pub(super) fn play(cast: &mut Cast<'_>, chaos: Chaos, say: fn(&str)) -> Vec<Sweep> {
    let until = Instant::now() + chaos.how_long;
    let mut sweeps = vec![sweep(cast, chaos, 1)];
    cast.submit(&sweeps[0]);
    let mut told_at = Instant::now();
    while Instant::now() < until {
        let pause_ms = cast.random.between(50, 600);
        std::thread::sleep(Duration::from_millis(pause_ms));
        cast.wake(Instant::now());
        let last = sweeps.len() - 1;
        if chaos.what != What::Trained && cast.is_coordinated() && cast.is_over(&sweeps[last]) {
            let next = sweep(cast, chaos, sweeps.len() + 1);
            cast.submit(&next);
            sweeps.push(next);
        }
        let fault = choose(&mut cast.random);
        let last = sweeps.len() - 1;
        commit(cast, fault, &sweeps[last]);
        if told_at.elapsed() > Duration::from_secs(10) {
            told_at = Instant::now();
            let faults: u64 = cast.faults.values().sum();
            say(&format!("{faults} faults, {} sweeps", sweeps.len()));
        }
    }
    sweeps
}

fn choose(random: &mut Random) -> Fault {
    let all: u64 = FAULTS.iter().map(|(_, weight)| weight).sum();
    let mut place = random.between(1, all);
    for (fault, weight) in FAULTS {
        if place <= weight {
            return fault;
        }
        place -= weight;
    }
    Fault::KillTrainer
}

fn commit(cast: &mut Cast<'_>, fault: Fault, sweep: &Sweep) {
    let ms = |random: &mut Random, low, high| Duration::from_millis(random.between(low, high));
    match fault {
        Fault::KillTrainer => {
            let trainers = cast.trainers();
            if !trainers.is_empty() {
                let trainer = cast.random.pick(&trainers);
                cast.kill_trainer(trainer);
            }
        }
        Fault::KillWorker => {
            let place = cast.random.place(cast.workers.len());
            cast.kill_worker(place);
            pause(cast, 500);
            cast.hire();
        }
        Fault::KillCoordinator => {
            cast.kill_coordinator();
            pause(cast, 1_500);
            cast.start_coordinator();
        }
        Fault::KillCoordinatorTwice => {
            cast.kill_coordinator();
            let after = ms(&mut cast.random, 0, 120);
            cast.kill_starting_coordinator(after);
            cast.start_coordinator();
        }
        Fault::StopTrainer => {
            let trainers = cast.trainers();
            if !trainers.is_empty() {
                let trainer = cast.random.pick(&trainers);
                let how_long = ms(&mut cast.random, 100, 8_000);
                cast.stop("stop trainer", trainer, how_long);
            }
        }
        Fault::StopWorker => {
            let place = cast.random.place(cast.workers.len());
            let how_long = ms(&mut cast.random, 100, 4_000);
            cast.stop("stop worker", cast.workers[place].id(), how_long);
        }
        Fault::StopCoordinator => {
            let how_long = ms(&mut cast.random, 100, 3_000);
            if let Some(coordinator) = cast.coordinator.as_ref().map(|coordinator| coordinator.process.id()) {
                cast.stop("stop coordinator", coordinator, how_long);
            }
        }
        Fault::Cut => cast.cut(),
        Fault::SilenceIn | Fault::SilenceOut => {
            let how_long = ms(&mut cast.random, 100, 4_000);
            let way = if matches!(fault, Fault::SilenceIn) { Way::In } else { Way::Out };
            cast.silence(way, how_long);
        }
        Fault::DismissWorker => {
            let place = cast.random.place(cast.workers.len());
            cast.dismiss_worker(place);
            cast.hire();
        }
        Fault::MoveClock => cast.move_clock(),
        Fault::Blackout | Fault::Damage => {
            cast.kill_coordinator();
            while !cast.workers.is_empty() {
                cast.kill_worker(0);
            }
            if matches!(fault, Fault::Damage) {
                cast.damage_checkpoints(sweep);
            }
            cast.start_coordinator();
            cast.hire();
        }
    }
}

fn pause(cast: &mut Cast<'_>, ms_max: u64) {
    let ms = cast.random.between(0, ms_max);
    std::thread::sleep(Duration::from_millis(ms));
}

fn sweep(cast: &mut Cast<'_>, chaos: Chaos, number: usize) -> Sweep {
    let random = &mut cast.random;
    let name = format!("chaos-{}-{number}", chaos.seed);
    let (yaml, epochs, trials) = if chaos.what == What::Trained {
        let yaml = format!(
            "name: {name}\nparameters: {{alpha: {{values: [0.25, 0.5]}}, resolution: {{values: [32, 24]}}}}\n\
             data: {{format: idx, train: pictures/train-images-idx3-ubyte, validation: pictures/t10k-images-idx3-ubyte, \
             classes: 2, crop: {{area: [0.8, 1.0]}}}}\n\
             training: {{epochs: 6, batch_size: 16, learning_rate: 0.002, optimizer: {{epsilon: 0.001}}}}\n\
             max_restarts: 1000\nmax_losses: 1000\n"
        );
        (yaml, 6, 4)
    } else {
        let (epochs, every, sleep_ms) = (random.between(3, 8), random.between(1, 2), random.between(20, 150));
        let alphas = random.pick(&["1, 0.75, 0.5, 0.25", "1, 0.5", "0.75, 0.5, 0.25"]);
        let resolutions = random.pick(&["224, 192, 160, 128", "160, 128", "224, 128, 96"]);
        let replicas = random.pick(&["1", "1", "{min: 1, max: 3}"]);
        let trials = alphas.split(',').count() * resolutions.split(',').count();
        let yaml = format!(
            "name: {name}\nparameters: {{alpha: {{values: [{alphas}]}}, resolution: {{values: [{resolutions}]}}}}\n\
             data: {{format: idx, train: nowhere, validation: nowhere-too, classes: 10}}\n\
             training: {{epochs: {epochs}, replicas: {replicas}}}\nmax_restarts: 1000\nmax_losses: 1000\n\
             checkpoint: {{every_epochs: {every}}}\nscript: [{{do: sleep, ms: {sleep_ms}}}]\n"
        );
        (yaml, epochs, trials as u64)
    };
    let file = cast.file(&format!("{name}.yaml"), &yaml);
    Sweep { name, file, yaml, epochs, trials }
}
