//! Progress on standard error: bars on a terminal, lines elsewhere.

use super::track::{Line, Track, Trial};
use dashboards::format;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Redraws a second, at most.
const REDRAWS: u8 = 10;
/// The sweep's bar counts thousandths of its work.
const WHOLE: u64 = 1000;

/// Shows a [`Track`].
pub(super) enum Display {
    /// Redrawn in place.
    Bars(Bars),
    /// A line for each change.
    Lines,
}

/// Progress bars: the sweep, and below it the trials that run.
pub(super) struct Bars {
    all: MultiProgress,
    sweep: ProgressBar,
    trials: BTreeMap<u64, ProgressBar>,
    begun: Instant,
    progress_at_begin: f64,
}

impl Display {
    /// What standard error can show.
    pub(super) fn new(name: &str, track: &Track) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines;
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        let sweep = all.add(ProgressBar::new(WHOLE));
        sweep.set_style(style("{prefix:.bold}  {bar:30.cyan/dim}  {msg}"));
        sweep.set_prefix(name.to_owned());
        sweep.enable_steady_tick(Duration::from_millis(500));
        let bars =
            Bars { all, sweep, trials: BTreeMap::new(), begun: Instant::now(), progress_at_begin: track.progress() };
        bars.show_sweep(track);
        Self::Bars(bars)
    }

    /// Prints a line: above the bars, or in the log.
    pub(super) fn line(&self, line: &Line) {
        let text = format!("{}  {}", format::time(line.time_ms), line.text);
        match self {
            Self::Bars(_) if line.in_bars => {}
            Self::Bars(bars) => bars.print(&text),
            Self::Lines => eprintln!("{text}"),
        }
    }

    /// Says something that is no event.
    pub(super) fn say(&self, text: &str) {
        match self {
            Self::Bars(bars) => bars.print(text),
            Self::Lines => eprintln!("{text}"),
        }
    }

    /// Brings the bars up to date.
    pub(super) fn show(&mut self, track: &Track) {
        if let Self::Bars(bars) = self {
            bars.show(track);
        }
    }

    /// Takes the bars away.
    pub(super) fn clear(&mut self) {
        if let Self::Bars(bars) = self {
            // A terminal that is gone needs no clearing.
            let _ = bars.all.clear();
        }
    }
}

impl Bars {
    fn print(&self, text: &str) {
        // A terminal that is gone reads nothing.
        let _ = self.all.println(text);
    }

    fn show(&mut self, track: &Track) {
        let running: BTreeMap<u64, &Trial> = track.running().collect();
        self.trials.retain(|id, bar| {
            let stays = running.contains_key(id);
            if !stays {
                bar.finish_and_clear();
                self.all.remove(bar);
            }
            stays
        });
        for (id, trial) in running {
            let bar = self.trials.entry(id).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new(u64::from(trial.epochs)));
                bar.set_style(style("  {prefix:24}  {bar:20.green/dim}  {pos:>3}/{len}  {msg:.dim}"));
                bar.set_prefix(trial.name.clone());
                bar
            });
            bar.set_position(u64::from(trial.epochs_done));
            bar.set_message(trial_message(trial));
        }
        self.show_sweep(track);
    }

    fn show_sweep(&self, track: &Track) {
        self.sweep.set_position((track.progress() * WHOLE as f64) as u64);
        self.sweep.set_message(sweep_message(track, self.progress_at_begin, self.begun.elapsed()));
    }
}

fn trial_message(trial: &Trial) -> String {
    let mut words = Vec::new();
    if let Some(top1) = trial.top1 {
        words.push(format!("top-1 {:.2} %", top1 * 100.0));
    }
    if let Some(speed) = trial.images_per_second {
        words.push(format!("{} images/s", format::rate(Some(speed))));
    }
    words.join("  ")
}

/// `5/16 trials  42 %  3 min 05 s, about 4 min left`.
fn sweep_message(track: &Track, progress_at_begin: f64, elapsed: Duration) -> String {
    let mut message = format!("{}/{} trials", track.count("completed"), track.total());
    let failed = track.count("failed");
    if failed > 0 {
        message.push_str(&format!(", {failed} failed"));
    }
    message.push_str(&format!("  {:.0} %  {}", track.progress() * 100.0, format::duration(elapsed.as_secs_f64())));
    let done = track.progress() - progress_at_begin;
    // Before that it is a guess from one or two epochs.
    if done > 0.02 && track.progress() < 1.0 {
        let left = elapsed.as_secs_f64() * (1.0 - track.progress()) / done;
        message.push_str(&format!(", about {} left", format::duration(left)));
    }
    message
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants; were one wrong, a plain bar is better than none.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}
