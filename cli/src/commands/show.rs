//! `alpharho list`, `status`, `explain`, `workers`: questions with one answer.

use super::with_session;
use crate::arguments::{Explain, MaybeSweep, Place};
use crate::exit::{End, Failure, refused};
use crate::output;
use crate::session::{Session, Want};
use dashboards::format;
use dashboards::happenings::end_words;
use dashboards::tables;
use dashboards::view::SweepView;
use proto::wire::{
    AttemptStatus, AttemptsRequest, ExplainRequest, InfoRequest, SlotStatus, SweepSummary, WorkerStatus, WorkersRequest,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) async fn list(place: &Place) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let sweeps = session.list().await?;
        if place.json {
            return output::json(&sweeps.iter().map(summary_json).collect::<Vec<Value>>());
        }
        if sweeps.is_empty() {
            output::line("no sweeps yet; `alpharho run SWEEP.yaml` starts one")?;
        } else {
            output::text(&tables::sweeps(&sweeps))?;
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

pub(super) async fn status(place: &Place, arguments: &MaybeSweep) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let name = session.sweep_name(arguments.sweep.as_deref()).await?;
        let view = SweepView::new(&session.status(&name).await?);
        if place.json {
            let request = AttemptsRequest { trial: 0, sweep: name };
            let attempts = session.client.attempts(request).await.map_err(|status| refused(&status))?;
            return output::json(&with_attempts(&view, &attempts.into_inner().attempts)?);
        }
        output::line(&tables::headline(&view))?;
        output::text(&tables::sweep(&view))?;
        let info = session.client.info(InfoRequest {}).await.map_err(|status| refused(&status))?.into_inner();
        if !info.held.is_empty() && !view.is_over() {
            output::note(&format!("no trial is begun now: {}", info.held));
        }
        if session.is_embedded() && !view.is_over() {
            output::note("nobody coordinates this store now; `alpharho run` goes on with a sweep");
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

pub(super) async fn explain(place: &Place, arguments: &Explain) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let trial = trial_meant(session, arguments).await?;
        let request = ExplainRequest { trial };
        let reply = session.client.explain(request).await.map_err(|status| refused(&status))?.into_inner();
        if place.json {
            let mut value: Value = serde_json::from_str(&reply.json)?;
            value["attempts_made"] = reply.attempts.iter().map(attempt_json).collect();
            return output::json(&value);
        }
        output::line(&reply.text)?;
        for attempt in &reply.attempts {
            output::line(&attempt_line(attempt))?;
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

async fn trial_meant(session: &mut Session, arguments: &Explain) -> anyhow::Result<u64> {
    let (sweep, number) = match (arguments.id, arguments.trial.as_slice()) {
        (Some(id), _) => return Ok(id),
        (None, [number]) => (None, number),
        (None, [sweep, number, ..]) => (Some(sweep.as_str()), number),
        (None, []) => return Err(Failure::usage("which trial? Give its sweep and its number in it").into()),
    };
    let number: u32 = number.parse().map_err(|_| {
        Failure::usage(format!("{number:?} is not a trial's number")).hint("`alpharho status` shows the numbers")
    })?;
    let sweep = session.sweep_name(sweep).await?;
    session.trial_id(&sweep, number).await
}

pub(super) async fn workers(place: &Place) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let reply = session.client.workers(WorkersRequest {}).await.map_err(|status| refused(&status))?;
        let workers = reply.into_inner().workers;
        if place.json {
            return output::json(&workers.iter().map(worker_json).collect::<Vec<Value>>());
        }
        if workers.is_empty() {
            let address = &session.way.address;
            let words = if session.is_embedded() {
                "no workers: nobody coordinates this store now; `alpharho coordinator` or `alpharho run` does"
                    .to_owned()
            } else {
                format!("no workers; start one with `alpharho-worker --coordinator {address}`")
            };
            output::line(&words)?;
        } else {
            output::text(&tables::workers(&workers))?;
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

/// The view, and with each trial its attempts.
fn with_attempts(view: &SweepView, attempts: &[AttemptStatus]) -> anyhow::Result<Value> {
    let mut value = serde_json::to_value(view)?;
    let mut made: BTreeMap<u64, Vec<Value>> = BTreeMap::new();
    for attempt in attempts {
        made.entry(attempt.trial).or_default().push(attempt_json(attempt));
    }
    for trial in value["trials"].as_array_mut().into_iter().flatten() {
        let id = trial["id"].as_u64().unwrap_or(0);
        trial["attempts_made"] = Value::from(made.remove(&id).unwrap_or_default());
    }
    Ok(value)
}

fn attempt_json(attempt: &AttemptStatus) -> Value {
    json!({
        "attempt": attempt.attempt,
        "worker": format!("{:016x}", attempt.worker),
        "host": attempt.host,
        "device": attempt.device,
        "threads": attempt.threads,
        "instruction_set": attempt.instruction_set,
        "libtorch": attempt.libtorch,
        "started_ms": attempt.started_ms,
        "ended_ms": (attempt.ended_ms > 0).then_some(attempt.ended_ms),
        "end": serde_json::from_str::<Value>(&attempt.end_json).unwrap_or(Value::Null),
        "resumed_epoch": attempt.resumed_epoch,
    })
}

/// `  attempt 2, 2026-11-23 02:07:32Z, gpu1, cuda:0, from epoch 3: crashed: signal 9`.
fn attempt_line(attempt: &AttemptStatus) -> String {
    let end = match serde_json::from_str(&attempt.end_json) {
        Ok(end) => end_words(&end),
        Err(_) if attempt.ended_ms == 0 => "runs".to_owned(),
        Err(_) => attempt.end_json.clone(),
    };
    let from = match attempt.resumed_epoch {
        0 => String::new(),
        epoch => format!(", from epoch {epoch}"),
    };
    let AttemptStatus { attempt, host, device, started_ms, .. } = attempt;
    format!("  attempt {attempt}, {}, {host}, {device}{from}: {end}", format::time(*started_ms))
}

fn summary_json(sweep: &SweepSummary) -> Value {
    let counts = sweep.counts.unwrap_or_default();
    json!({
        "name": sweep.name,
        "description": sweep.description,
        "scripted": sweep.scripted,
        "paused": sweep.paused,
        "submitted_ms": sweep.submitted_ms,
        "progress": sweep.progress,
        "max_concurrent_trials": sweep.max_concurrent_trials,
        "limit_asked": sweep.limit_asked,
        "trials": {
            "pending": counts.pending,
            "running": counts.running,
            "paused": counts.paused,
            "completed": counts.completed,
            "failed": counts.failed,
            "cancelled": counts.cancelled,
        },
    })
}

fn worker_json(worker: &WorkerStatus) -> Value {
    let slot = |slot: &SlotStatus| {
        json!({
            "device": slot.device,
            "trial_ids": slot.trials,
            "replica": slot.replica,
            "mult_adds_per_second": slot.mult_adds_per_second,
            "images_per_second": slot.images_per_second,
            "gpu": slot.gpu,
        })
    };
    json!({
        "id": format!("{:016x}", worker.id),
        "host": worker.host,
        "version": worker.version,
        "state": worker.state,
        "reason": worker.reason,
        "last_seen_ms": worker.last_seen_ms,
        "times_lost": worker.times_lost,
        "times_returned": worker.times_returned,
        "slots": worker.slots.iter().map(slot).collect::<Vec<Value>>(),
    })
}
