//! `alpharho pack`: a data set into one file.

use crate::arguments::{Pack, Place};
use crate::exit::{End, Failure};
use crate::output;
use anyhow::Context;
use dashboards::format;
use images::{
    DataError, PackCheck, PackEvent, PackForm, PackOptions, PackOutcome, PackSummary, check_pack, pack as make,
    show_pack,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use sweeps::spec::model::Format;
use tokio::signal::unix::{SignalKind, signal};

/// Between two lines of progress, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Redraws a second, at most.
const REDRAWS: u8 = 10;

pub(super) async fn pack(place: &Place, arguments: Pack) -> anyhow::Result<End> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be waited for")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be waited for")?;
    let (stopped, json) = (stop.clone(), place.json);
    let mut work = tokio::task::spawn_blocking(move || work(&arguments, json, &stopped));
    loop {
        tokio::select! {
            done = &mut work => return done.context("packing broke off")?,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        // Between two images. What is whole stays, also if somebody does not wait for that.
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    }
}

fn work(arguments: &Pack, json: bool, stop: &AtomicBool) -> anyhow::Result<End> {
    match (&arguments.check, &arguments.show) {
        (Some(path), _) => check(path, json, stop),
        (None, Some(path)) => show(path, json),
        (None, None) => write(arguments, json, stop),
    }
}

fn write(arguments: &Pack, json: bool, stop: &AtomicBool) -> anyhow::Result<End> {
    // Clap asks for all three.
    let (Some(source), Some(out), Some(format)) = (&arguments.source, &arguments.out, &arguments.format) else {
        return Err(Failure::usage("wanted are SOURCE, --out FILE and --format FORMAT").into());
    };
    let form = if arguments.raw { PackForm::Raw } else { PackForm::Files { quality: arguments.quality } };
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = PackOptions {
        format: *format,
        classes: arguments.classes,
        size: arguments.size,
        form,
        threads: arguments.threads.map_or_else(cores, usize::from),
        broken_max: arguments.broken_max,
        force: arguments.force,
    };
    let mut progress = Progress::new("packed");
    let packed = make(source, out, &options, &mut |event| {
        match event {
            PackEvent::Begun { done: 0, total } => progress.begin(0, total),
            PackEvent::Begun { done, total } => {
                progress.begin(done, total);
                progress.say(&format!("going on: {done} of {total} images are packed already"));
            }
            PackEvent::Packed { done, total, .. } => progress.show(done, total),
            PackEvent::LeftOut { path, reason } => progress.say(&format!("left out a broken image, {path}: {reason}")),
        }
        carry_on(stop)
    });
    progress.clear();
    match packed.map_err(failure)? {
        PackOutcome::Finished(summary) => {
            report(out, &summary, json)?;
            Ok(End::Done)
        }
        PackOutcome::Stopped { done, total } => {
            if json {
                output::json(&json!({"path": out, "finished": false, "done": done, "total": total}))?;
            }
            let partial = out.display();
            output::note(&format!(
                "stopped: {done} of {total} images are in {partial}.partial; the same command goes on there"
            ));
            Ok(End::Interrupted)
        }
    }
}

fn check(path: &Path, json: bool, stop: &AtomicBool) -> anyhow::Result<End> {
    let mut progress = Progress::new("checked");
    let checked = check_pack(path, &mut |done, total| {
        if done <= 1 {
            progress.begin(0, total);
        }
        progress.show(done, total);
        carry_on(stop)
    });
    progress.clear();
    let PackCheck { images, bytes, damaged, stopped } = checked.map_err(failure)?;
    if json {
        let damaged: Vec<_> = damaged.iter().map(|(name, problem)| json!({"name": name, "problem": problem})).collect();
        output::json(&json!({
            "path": path, "images": images, "bytes": bytes, "finished": !stopped, "damaged": damaged,
        }))?;
    } else {
        output::line(&format!("{}: {images} images of {}", path.display(), format::bytes(bytes)))?;
        for (name, problem) in &damaged {
            output::line(&format!("damaged: {name}: {problem}"))?;
        }
        if damaged.is_empty() && !stopped {
            output::line("it is whole")?;
        }
    }
    if stopped {
        output::note("stopped before the end");
        return Ok(End::Interrupted);
    }
    if damaged.is_empty() {
        return Ok(End::Done);
    }
    Err(Failure::new(format!("{} images are damaged", damaged.len()))
        .hint("copy it again from where it is whole, or pack it again with --force")
        .into())
}

fn show(path: &Path, json: bool) -> anyhow::Result<End> {
    report(path, &show_pack(path).map_err(failure)?, json)?;
    Ok(End::Done)
}

fn report(path: &Path, summary: &PackSummary, json: bool) -> anyhow::Result<()> {
    let PackSummary { about, class_names, class_images, images, raw, bytes, left_out, sha256 } = summary;
    if json {
        let classes: Vec<_> = class_names
            .iter()
            .zip(class_images)
            .map(|(name, images)| json!({"name": name, "images": images}))
            .collect();
        let left: Vec<_> = left_out.iter().map(|(name, reason)| json!({"name": name, "reason": reason})).collect();
        return output::json(&json!({
            "path": path, "finished": true, "about": about, "images": images, "raw": raw, "bytes": bytes,
            "classes": classes, "left_out": left, "sha256": sha256,
        }));
    }
    let classes = class_names.len();
    output::line(&format!("{}: {images} images of {classes} classes, {}", path.display(), format::bytes(*bytes)))?;
    output::line(&format!("made from {about}"))?;
    let (least, most) = (class_images.iter().min(), class_images.iter().max());
    if let (Some(least), Some(most)) = (least, most) {
        let each = if least == most { least.to_string() } else { format!("{least} to {most}") };
        output::line(&format!("images of a class: {each}"))?;
    }
    for (name, reason) in left_out {
        output::line(&format!("left out: {name}: {reason}"))?;
    }
    output::line(&format!("sha256 of the index: {sha256}"))?;
    Ok(())
}

/// In the words of this command line, and not of a sweep file.
fn failure(error: DataError) -> Failure {
    match error {
        DataError::Unreadable { path, source } => Failure::new(format!("cannot read {}: {source}", path.display())),
        DataError::Classes { expected, found, place, names } => {
            Failure::new(format!("--classes is {expected}, but {place} has {found}: {names}"))
        }
        DataError::Label { place, label, classes } => {
            let last = classes.saturating_sub(1);
            Failure::new(format!("{place}: label {label} is out of range: of {classes} classes labels are 0 to {last}"))
        }
        other => Failure::new(other.to_string()),
    }
}

fn carry_on(stop: &AtomicBool) -> ControlFlow<()> {
    if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// On standard error: a bar on a terminal, a line now and then elsewhere.
struct Progress {
    word: &'static str,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Progress {
    fn new(word: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS));
            let template = "{prefix:.bold}  {bar:30.cyan/dim}  {pos}/{len}  {per_sec}, {eta} left";
            // The template is a constant; were it wrong, a plain bar is better than none.
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━╸─"));
            bar.set_prefix(word);
            bar
        });
        Self { word, bar, told: Instant::now() }
    }

    fn begin(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            // What was done before says nothing of how fast it goes.
            bar.reset_eta();
        }
    }

    fn show(&mut self, done: u64, total: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(done),
            None if self.told.elapsed() >= LINE_EVERY => {
                self.told = Instant::now();
                output::note(&format!("{} {done} of {total} images", self.word));
            }
            None => {}
        }
    }

    fn say(&self, words: &str) {
        match &self.bar {
            Some(bar) => bar.println(words),
            None => output::note(words),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A format, by the word of the sweep file.
pub(crate) fn parse_format(word: &str) -> Result<Format, String> {
    let format = serde_json::from_value(serde_json::Value::String(word.to_owned()));
    format.map_err(|_| format!("it is one of {}", Format::WORDS.join(", ")))
}
