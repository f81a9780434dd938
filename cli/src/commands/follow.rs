//! `alpharho watch` and `logs`: what goes on coming.

use super::with_session;
use crate::arguments::{Logs, Place, Watch};
use crate::exit::{End, refused};
use crate::output;
use crate::session::{Session, Want};
use dashboards::format;
use dashboards::happenings::{self, Names};
use dashboards::view::SweepView;
use proto::wire::{Event, LogsRequest, WatchRequest};
use serde_json::json;
use std::io::IsTerminal;
use std::time::Duration;
use tokio_stream::StreamExt;

/// Between tries to reach a coordinator that is away.
const RETRY: Duration = Duration::from_secs(2);
/// Tries in a row before giving up: a minute.
const TRIES_MAX: u32 = 30;

/// The dashboard on a terminal, unless lines are asked for; else lines.
pub(super) async fn watch(place: &Place, arguments: &Watch) -> anyhow::Result<End> {
    let lines = place.json || arguments.plain || arguments.follow || arguments.after > 0;
    if lines || !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return watch_lines(place, arguments).await;
    }
    with_session(place, Want::Read, async |session| crate::watch::dashboard(session, place, arguments).await).await
}

async fn watch_lines(place: &Place, arguments: &Watch) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let mut watcher = Watcher { names: Names::default(), after: arguments.after, json: place.json };
        let sweep = arguments.sweep.clone().unwrap_or_default();
        // With nobody else on the store nothing more will come than is there.
        let until = if session.is_embedded() { Some(newest(session, &sweep).await?) } else { None };
        let mut tries = 0;
        while let Err(broken) = watcher.print(session, &sweep, arguments.follow, until, &mut tries).await? {
            tries += 1;
            if tries > TRIES_MAX {
                return Err(refused(&broken).into());
            }
            if tries == 1 {
                output::note("the coordinator is away; trying to reach it again");
            }
            tokio::time::sleep(RETRY).await;
            // If it fails, so will the next try to watch, and that is counted.
            let _ = session.reconnect().await;
        }
        if sweep.is_empty() || until.is_some() {
            return Ok(End::Done);
        }
        let view = SweepView::new(&session.status(&sweep).await?);
        Ok(if view.is_over() && view.count("failed") > 0 { End::TrialsFailed } else { End::Done })
    })
    .await
}

/// The sequence number of the newest event of a sweep, or of all.
async fn newest(session: &mut Session, sweep: &str) -> anyhow::Result<u64> {
    if !sweep.is_empty() {
        return Ok(session.status(sweep).await?.sequence);
    }
    let mut newest = 0;
    for summary in session.list().await? {
        newest = newest.max(session.status(&summary.name).await?.sequence);
    }
    Ok(newest)
}

struct Watcher {
    names: Names,
    after: u64,
    json: bool,
}

impl Watcher {
    /// Prints events as they come; the inner error is a broken connection.
    async fn print(
        &mut self,
        session: &mut Session,
        sweep: &str,
        follow: bool,
        until: Option<u64>,
        tries: &mut u32,
    ) -> anyhow::Result<Result<(), tonic::Status>> {
        if until.is_some_and(|until| self.after >= until) {
            return Ok(Ok(()));
        }
        let request = WatchRequest { sweep: sweep.to_owned(), after: self.after, follow, last: 0, workers: false };
        let mut events = match session.client.watch(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) if is_broken(&status) => return Ok(Err(status)),
            Err(status) => return Err(refused(&status).into()),
        };
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(status) if is_broken(&status) => return Ok(Err(status)),
                Err(status) => return Err(refused(&status).into()),
            };
            *tries = 0;
            self.after = event.sequence;
            self.show(session, &event).await?;
            if until.is_some_and(|until| event.sequence >= until) {
                break;
            }
        }
        Ok(Ok(()))
    }

    async fn show(&mut self, session: &mut Session, event: &Event) -> anyhow::Result<()> {
        if event.trial.is_some_and(|id| !self.names.knows(id)) && !event.sweep.is_empty() {
            // A sweep that was replaced is not there any more; its events are.
            if let Ok(status) = session.status(&event.sweep).await {
                self.names.learn(&status);
            }
        }
        if self.json {
            return output::json_line(&happenings::json(event, &self.names));
        }
        let line = happenings::line(event, &self.names);
        output::line(&format!("{}  #{}  {line}", format::time(event.time_ms), event.sequence))?;
        Ok(())
    }
}

/// Whether the coordinator was lost, rather than said no.
pub(crate) fn is_broken(status: &tonic::Status) -> bool {
    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown)
        || status.message().contains("transport")
        || status.message().contains("h2 protocol")
}

pub(super) async fn logs(place: &Place, arguments: &Logs) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let trial = session.trial_id(&arguments.sweep, arguments.trial).await?;
        let request = LogsRequest { trial, follow: arguments.follow && !session.is_embedded() };
        let mut batches = session.client.logs(request).await.map_err(|status| refused(&status))?.into_inner();
        while let Some(batch) = batches.next().await {
            for line in batch.map_err(|status| refused(&status))?.lines {
                if place.json {
                    output::json_line(&json!({"attempt": line.attempt, "time_ms": line.time_ms, "text": line.text}))?;
                } else {
                    output::line(&format!("{}  [{}]  {}", format::time(line.time_ms), line.attempt, line.text))?;
                }
            }
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}
