//! Sweeps that people pause and resume on workers that come and go, until every kind of call and message has met every
//! fault.

use super::cast::Cast;
use super::{Chaos, Sweep};
use crate::calls::{Calls, unmet};
use std::time::{Duration, Instant};

/// Submits sweeps one after the other until all was met, or time is over; the sweeps.
pub(super) fn play(cast: &mut Cast<'_>, chaos: Chaos, say: fn(&str)) -> Vec<Sweep> {
    let until = Instant::now() + chaos.how_long;
    let mut sweeps = vec![sweep(cast, chaos, 1)];
    cast.submit(&sweeps[0]);
    let mut told_at = Instant::now();
    while Instant::now() < until {
        let open = unmet(&cast.calls.as_ref().map(Calls::met).unwrap_or_default());
        if open.is_empty() {
            break;
        }
        if told_at.elapsed() > Duration::from_secs(5) {
            told_at = Instant::now();
            say(&format!("{} sweeps; not met yet: {}", sweeps.len(), open.join(", ")));
        }
        pause(cast, 50, 400);
        if sweeps.last().is_some_and(|last| cast.is_over(last)) {
            let next = sweep(cast, chaos, sweeps.len() + 1);
            cast.submit(&next);
            sweeps.push(next);
        }
        let Some(name) = sweeps.last().map(|last| last.name.clone()) else { break };
        // What is rare is asked for; all else comes by itself.
        let wanted = |what: &str| open.iter().any(|open| open.starts_with(what));
        match cast.random.between(0, 9) {
            0..=3 if wanted("< stop") || wanted("Download") => {
                cast.order("pause", &["pause", &name]);
                pause(cast, 50, 300);
                cast.order("resume", &["resume", &name]);
            }
            0 => {
                cast.order("pause", &["pause", &name]);
                cast.order("resume", &["resume", &name]);
            }
            4..=6 if wanted("< leave") => {
                if let Some(worker) = cast.some_worker() {
                    cast.order("drain worker", &["drain", &worker]);
                }
            }
            4..=8 if wanted("> draining") || wanted("> goodbye") => {
                let place = cast.random.place(cast.workers.len());
                cast.dismiss_worker(place);
            }
            _ => {}
        }
        cast.hire();
    }
    for sweep in &sweeps {
        cast.order("resume", &["resume", &sweep.name]);
    }
    sweeps
}

fn pause(cast: &mut Cast<'_>, ms_min: u64, ms_max: u64) {
    let ms = cast.random.between(ms_min, ms_max);
    std::thread::sleep(Duration::from_millis(ms));
}

/// Trials that several replicas may train, and that crash once, if they come to it: the last words are log lines.
fn sweep(cast: &mut Cast<'_>, chaos: Chaos, number: usize) -> Sweep {
    let name = format!("calls-{}-{number}", chaos.seed);
    let epochs = cast.random.between(4, 8);
    let sleep_ms = cast.random.between(40, 150);
    let yaml = format!(
        "name: {name}\nparameters: {{alpha: {{values: [1, 0.75, 0.5, 0.25]}}, resolution: {{values: [160, 128]}}}}\n\
         data: {{format: idx, train: nowhere, validation: nowhere-too, classes: 10}}\n\
         training: {{epochs: {epochs}, replicas: {{min: 1, max: 2}}}}\nmax_restarts: 1000\nmax_losses: 1000\n\
         checkpoint: {{every_epochs: 1}}\n\
         script: [{{do: sleep, ms: {sleep_ms}}}, {{do: crash, when: {{attempt: 1, epoch: 2}}}}]\n"
    );
    let file = cast.file(&format!("{name}.yaml"), &yaml);
    Sweep { name, file, yaml, epochs, trials: 8 }
}
