//! `alpharho run`: a coordinator in this process, workers as children, progress, and the results at the end.

mod display;
mod track;
mod watch;
mod workers;

use crate::arguments::{Place, Run, STORE_DEFAULT};
use crate::commands::export::results;
use crate::commands::submit::{hand_over, read, words};
use crate::exit::{End, Failure, refused};
use crate::output;
use crate::session::{Session, Want};
use anyhow::Context;
use dashboards::export::write;
use dashboards::selection::Selection;
use dashboards::tables;
use dashboards::view::SweepView;
use proto::wire::control_request::Target;
use proto::wire::{Action, ControlRequest};
use serde_json::json;
use std::fs::File;
use std::path::Path;

pub(crate) async fn run(place: &Place, arguments: &Run) -> anyhow::Result<End> {
    let (yaml, sweep) = read(&arguments.submission.file)?;
    let name = arguments.submission.new_name.clone().unwrap_or(sweep.name);
    let out = arguments.out.clone().unwrap_or_else(|| place.beside_store(&name));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let log = out.join("coordinator.log");
    let file = File::options().create(true).append(true).open(&log);
    telemetry::log::to_file(file.with_context(|| format!("cannot write {}", log.display()))?, "info");
    let mut session = Session::open(place, Want::Write).await?;
    let ended = train(&mut session, place, arguments, yaml, &out).await;
    let closed = session.close().await;
    let end = ended?;
    closed?;
    Ok(end)
}

async fn train(session: &mut Session, place: &Place, arguments: &Run, yaml: String, out: &Path) -> anyhow::Result<End> {
    let submitted = hand_over(session, &arguments.submission, yaml).await?;
    output::note(&words(&submitted));
    let name = submitted.sweep;
    let mut status = session.status(&name).await?;
    if status.trials.iter().any(|trial| trial.state == "paused") || is_paused(&status) {
        control(session, &name, Action::Resume).await?;
        status = session.status(&name).await?;
    }
    let view = SweepView::new(&status);
    let end = if view.is_over() {
        output::note("nothing is left to train");
        End::Done
    } else {
        let done = view.count("completed");
        if done > 0 || view.trials.iter().any(|trial| trial.epochs_done > 0) {
            output::note(&format!("going on: {}", view.standing()));
        }
        watch::until_over(session, &status, arguments, out).await?
    };
    finish(session, &name, place, &arguments.submission.file, out, end).await
}

fn is_paused(status: &proto::wire::StatusReply) -> bool {
    status.summary.as_ref().is_some_and(|summary| summary.paused)
}

/// Asks for something to be done with the whole sweep.
async fn control(session: &mut Session, sweep: &str, action: Action) -> anyhow::Result<()> {
    let request = ControlRequest { target: Some(Target::Sweep(sweep.to_owned())), action: action.into() };
    session.client.control(request).await.map_err(|status| refused(&status))?;
    Ok(())
}

/// What to type to go on.
fn command(place: &Place, file: &Path) -> String {
    let store = if place.store == Path::new(STORE_DEFAULT) {
        String::new()
    } else {
        format!(" --store {}", place.store.display())
    };
    format!("alpharho run {}{store}", file.display())
}

/// The table of cells, the files, and how to go on.
async fn finish(
    session: &mut Session,
    name: &str,
    place: &Place,
    file: &Path,
    out: &Path,
    end: End,
) -> anyhow::Result<End> {
    let results = results(session, name).await?;
    let files = write(&results, &Selection::everything(), out)?;
    let view = results.view;
    let failed = view.count("failed") > 0;
    let end = if end == End::Done && failed { End::TrialsFailed } else { end };
    if place.json {
        output::json(
            &json!({"sweep": view, "files": files, "complete": view.count("completed") == view.trials.len()}),
        )?;
        return Ok(end);
    }
    output::line(&tables::headline(&view))?;
    output::text(&tables::sweep(&view))?;
    for file in &files {
        output::line(&file.display().to_string())?;
    }
    match end {
        End::Done => {}
        End::TrialsFailed => output::note(&format!(
            "{} trials failed; `alpharho logs {name} TRIAL` shows what they said, `alpharho retry {name}` lets them \
             try again",
            view.count("failed")
        )),
        End::Interrupted if view.paused => {
            output::note(&format!("stopped; the same command goes on where it stopped: {}", command(place, file)));
        }
        End::Interrupted => output::note(&format!(
            "stopped here; the coordinator at {} keeps the sweep for other workers",
            session.way.address
        )),
    }
    Ok(end)
}

/// A worker that cannot go on is an error that shows its last words.
fn worker_failed(what: &str, log: &Path) -> Failure {
    let tail = workers::tail(log);
    let words = if tail.is_empty() { String::new() } else { format!("; its last words:\n{tail}") };
    Failure::new(format!("{what}{words}"))
        .hint(format!("all it said is in {}; `alpharho-worker --check` tells what it finds here", log.display()))
}
