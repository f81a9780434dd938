//! `alpharho export`, and the end of `run`.

use super::{export_trials, with_session};
use crate::arguments::{Export, Place};
use crate::exit::{End, refused};
use crate::output;
use crate::session::{Session, Want};
use dashboards::export::write;
use dashboards::results::Results;
use dashboards::selection::Selection;
use proto::wire::{AttemptsRequest, CheckpointsRequest, InfoRequest, MetricPoint, MetricsRequest};
use serde_json::json;

pub(super) async fn export(place: &Place, arguments: &Export) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let name = session.sweep_name(arguments.sweep.as_deref()).await?;
        let results = results(session, &name).await?;
        let view = &results.view;
        let out = arguments.out.clone().unwrap_or_else(|| place.beside_store(&name));
        let selection = Selection::parse(&arguments.only)?;
        let mut files = write(&results, &selection, &out)?;
        files.extend(export_trials::export(session, &results, &out, &selection, arguments.checkpoint).await?);
        if place.json {
            return output::json(
                &json!({"sweep": view.name, "complete": view.count("completed") == view.trials.len(), "files": files}),
            );
        }
        if view.count("completed") < view.trials.len() {
            output::note(&format!("{name} is not complete: {}. Exporting what is there", view.standing()));
        }
        for file in files {
            output::line(&file.display().to_string())?;
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

/// All that is known of a sweep. Status first, points after: what is newer than the status is left to the next export.
pub(crate) async fn results(session: &mut Session, name: &str) -> anyhow::Result<Results> {
    let status = session.status(name).await?;
    let info = session.client.info(InfoRequest {}).await.map_err(|status| refused(&status))?.into_inner();
    let points = points(session, name).await?;
    let mut results = Results::new(&status, points, &info.version);
    let request = AttemptsRequest { trial: 0, sweep: name.to_owned() };
    let attempts = session.client.attempts(request).await.map_err(|status| refused(&status))?.into_inner();
    results.add_attempts(&attempts.attempts);
    for trial in &status.trials {
        let request = CheckpointsRequest { trial: trial.id };
        let reply = session.client.checkpoints(request).await.map_err(|status| refused(&status))?.into_inner();
        results.add_checkpoints(trial.number, &reply.checkpoints);
    }
    Ok(results)
}

async fn points(session: &mut Session, name: &str) -> anyhow::Result<Vec<MetricPoint>> {
    let request = MetricsRequest { sweep: name.to_owned(), trial: None, names: Vec::new() };
    let mut stream = session.client.metrics(request).await.map_err(|status| refused(&status))?.into_inner();
    let mut points = Vec::new();
    while let Some(batch) = stream.message().await.map_err(|status| refused(&status))? {
        points.extend(batch.points);
    }
    Ok(points)
}
