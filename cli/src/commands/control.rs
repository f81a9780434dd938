//! `alpharho pause`, `resume`, `cancel`, `retry`, `limit`, `drain`.

use super::with_session;
use crate::arguments::{ConcurrencyLimit, Control, Drain, Limit, Place};
use crate::exit::{End, Failure, refused};
use crate::output;
use crate::session::Want;
use dashboards::tables;
use dashboards::view::SweepView;
use proto::wire::control_request::Target;
use proto::wire::{Action, ControlRequest, DrainRequest, LimitRequest, WorkerStatus, WorkersRequest};
use serde_json::json;

pub(super) async fn control(place: &Place, arguments: &Control, action: Action) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let target = match arguments.trial {
            None => Target::Sweep(arguments.sweep.clone()),
            Some(number) => Target::Trial(session.trial_id(&arguments.sweep, number).await?),
        };
        let request = ControlRequest { target: Some(target), action: action.into() };
        session.client.control(request).await.map_err(|status| refused(&status))?;
        let view = SweepView::new(&session.status(&arguments.sweep).await?);
        if place.json {
            return output::json(&view);
        }
        output::line(&tables::headline(&view))?;
        let running = view.count("running");
        if running > 0 && action == Action::Pause {
            output::note("what still runs saves a checkpoint first; `alpharho watch` shows when");
        }
        if session.is_embedded() && matches!(action, Action::Resume | Action::Retry) {
            output::note("hint: nobody coordinates this store now; `alpharho run` or `alpharho coordinator` goes on");
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

pub(super) async fn limit(place: &Place, arguments: &Limit) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let Limit { sweep, limit: ConcurrencyLimit(max_concurrent_trials) } = arguments;
        let request = LimitRequest { sweep: sweep.clone(), max_concurrent_trials: *max_concurrent_trials };
        session.client.limit(request).await.map_err(|status| refused(&status))?;
        let view = SweepView::new(&session.status(sweep).await?);
        if place.json {
            return output::json(&view);
        }
        output::line(&match max_concurrent_trials {
            None => format!("{sweep} may run as many trials at a time as there are slots"),
            Some(limit) => format!("{sweep} may run {limit} of its trials at a time"),
        })?;
        let running = view.count("running");
        if max_concurrent_trials.is_some_and(|limit| running > usize::try_from(limit).unwrap_or(usize::MAX)) {
            output::note(&format!("the {running} that run go on; no other starts before fewer than the limit run"));
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

pub(super) async fn drain(place: &Place, arguments: &Drain) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let reply = session.client.workers(WorkersRequest {}).await.map_err(|status| refused(&status))?;
        let worker = meant(&arguments.worker, &reply.into_inner().workers)?;
        session.client.drain(DrainRequest { worker: worker.id }).await.map_err(|status| refused(&status))?;
        let trials: usize = worker.slots.iter().map(|slot| slot.trials.len()).sum();
        if place.json {
            return output::json(
                &json!({"worker": format!("{:016x}", worker.id), "host": worker.host, "trials": trials}),
            );
        }
        let rest = match trials {
            0 => "it trains nothing and leaves now".to_owned(),
            1 => "it finishes the trial that it trains, and leaves".to_owned(),
            trials => format!("it finishes the {trials} trials that it trains, and leaves"),
        };
        output::line(&format!("worker {:016x} on {} takes no more trials; {rest}", worker.id, worker.host))?;
        Ok(())
    })
    .await?;
    Ok(End::Done)
}

/// The one worker whose id begins so, or whose host is called so.
fn meant(words: &str, workers: &[WorkerStatus]) -> anyhow::Result<WorkerStatus> {
    let wanted = words.to_lowercase();
    let known = || workers.iter().filter(|worker| worker.state != "lost");
    let fits = |worker: &&WorkerStatus| {
        worker.host == words || !wanted.is_empty() && format!("{:016x}", worker.id).starts_with(&wanted)
    };
    let mut fitting: Vec<&WorkerStatus> = known().filter(fits).collect();
    match (fitting.pop(), fitting.len()) {
        (Some(worker), 0) => Ok(worker.clone()),
        (None, _) if known().next().is_none() => Err(Failure::new("no worker is there to drain").into()),
        (None, _) => Err(Failure::usage(format!("no worker is called {words}"))
            .hint("`alpharho workers` lists them; give an id, the start of one, or a host")
            .into()),
        (Some(_), others) => Err(Failure::usage(format!("{} workers are meant by {words}", others + 1))
            .hint("give more of the id that `alpharho workers` shows")
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_meant_by_the_start_of_its_id_or_by_its_host() {
        let worker = |id, host: &str, state: &str| WorkerStatus {
            id,
            host: host.to_owned(),
            state: state.to_owned(),
            ..WorkerStatus::default()
        };
        let workers = [
            worker(0xab00_0000_0000_0001, "one", "attached"),
            worker(0xab00_0000_0000_0002, "two", "attached"),
            worker(0xcd00_0000_0000_0003, "two", "draining"),
            worker(0xef00_0000_0000_0004, "gone", "lost"),
        ];
        for (words, expected) in [
            ("ab00000000000001", Ok(1)),
            ("CD", Ok(3)),
            ("one", Ok(1)),
            ("ab", Err("2 workers are meant by ab")),
            ("two", Err("2 workers are meant by two")),
            ("gone", Err("no worker is called gone")),
            ("", Err("no worker is called ")),
        ] {
            let found = meant(words, &workers).map(|worker| worker.id & 0xff);
            assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{words}");
        }
    }
}
