//! The service that a person's commands call.

use super::{Answers, Service, answers, caller, cannot_read, explain, no_trial, stopping, submit, transfer};
use crate::driver::Input;
use proto::wire;
use proto::wire::control_request::Target;
use proto::wire::sweeps_server::Sweeps;
use sweeps::ids::{TrialId, WorkerId};
use sweeps::scheduler::Event;
use tonic::{Request, Response, Status};

/// Names of metrics in one question: more than there are.
const METRICS_MAX: usize = 100;

#[tonic::async_trait]
impl Sweeps for Service {
    type WatchStream = Answers<wire::Event>;
    type MetricsStream = Answers<wire::MetricsBatch>;
    type LogsStream = Answers<wire::LogBatch>;
    type FetchStream = Answers<wire::Chunk>;

    async fn info(&self, _: Request<wire::InfoRequest>) -> Result<Response<wire::InfoReply>, Status> {
        let store = self.shared.store_path.display().to_string();
        let held = self.shared.held.borrow().clone().unwrap_or_default();
        Ok(Response::new(wire::InfoReply { version: env!("CARGO_PKG_VERSION").to_owned(), store, held }))
    }

    async fn submit(&self, request: Request<wire::SubmitRequest>) -> Result<Response<wire::SubmitReply>, Status> {
        let request = request.into_inner();
        let _turn = self.submissions.acquire().await.map_err(|_| stopping())?;
        let submission = tokio::task::spawn_blocking(move || submit::read(request)).await;
        let submission =
            submission.map_err(|error| Status::internal(format!("reading the sweep failed: {error}")))??;
        self.check_writable()?;
        let submission = Box::new(submission);
        self.ask(|reply| Input::Submit { submission, reply }).await?.map(Response::new)
    }

    async fn list(&self, _: Request<wire::ListRequest>) -> Result<Response<wire::ListReply>, Status> {
        let sweeps = self.shared.reader.summaries().await.map_err(cannot_read)?;
        Ok(Response::new(wire::ListReply { sweeps }))
    }

    async fn status(&self, request: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        let wire::StatusRequest { sweep, metrics, metrics_last } = request.into_inner();
        check_count(&metrics)?;
        check_count(&metrics_last)?;
        match self.shared.reader.status(&sweep, (&metrics, &metrics_last)).await.map_err(cannot_read)? {
            Some(mut status) => {
                let counts = self.shared.replicas.borrow().clone();
                for trial in status.trials.iter_mut().filter(|trial| trial.state == "running") {
                    trial.replicas = counts.get(&trial.id).copied().unwrap_or(1);
                }
                Ok(Response::new(status))
            }
            None => Err(self.no_sweep(&sweep).await),
        }
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Result<Response<wire::ExplainReply>, Status> {
        let wire::ExplainRequest { trial } = request.into_inner();
        let id = TrialId(trial);
        let explained = self.ask(|reply| Input::Explain { trial: id, reply }).await?;
        let place = self.shared.reader.trial_place(trial).await.map_err(cannot_read)?;
        let attempts = self.shared.reader.attempts(trial).await.map_err(cannot_read)?;
        match (explained, place) {
            (Some(explained), Some(place)) => Ok(Response::new(explain::explain(&explained, &place, attempts))),
            (None, _) | (_, None) => Err(no_trial(trial)),
        }
    }

    async fn control(&self, request: Request<wire::ControlRequest>) -> Result<Response<wire::ControlReply>, Status> {
        let request = request.into_inner();
        let event = control_event(&request)?;
        self.check_writable()?;
        match self.ask(|reply| Input::Control { event, reply }).await? {
            Ok(()) => Ok(Response::new(wire::ControlReply {})),
            Err(status) if status.code() == tonic::Code::NotFound => Err(match request.target {
                Some(Target::Sweep(sweep)) => self.no_sweep(&sweep).await,
                Some(Target::Trial(trial)) => no_trial(trial),
                None => status,
            }),
            Err(status) => Err(status),
        }
    }

    async fn limit(&self, request: Request<wire::LimitRequest>) -> Result<Response<wire::LimitReply>, Status> {
        let wire::LimitRequest { sweep, max_concurrent_trials } = request.into_inner();
        if max_concurrent_trials == Some(0) {
            let text = format!("a limit is at least 1; `alpharho pause {sweep}` runs no trial at all");
            return Err(Status::invalid_argument(text));
        }
        self.check_writable()?;
        let event = Event::SweepLimited { sweep: sweep.clone(), max_concurrent_trials };
        match self.ask(|reply| Input::Control { event, reply }).await? {
            Ok(()) => Ok(Response::new(wire::LimitReply {})),
            Err(status) if status.code() == tonic::Code::NotFound => Err(self.no_sweep(&sweep).await),
            Err(status) => Err(status),
        }
    }

    async fn drain(&self, request: Request<wire::DrainRequest>) -> Result<Response<wire::DrainReply>, Status> {
        let wire::DrainRequest { worker } = request.into_inner();
        self.check_writable()?;
        let event = Event::WorkerDrainAsked { worker: WorkerId(worker) };
        self.ask(|reply| Input::Control { event, reply }).await??;
        Ok(Response::new(wire::DrainReply {}))
    }

    async fn attempts(&self, request: Request<wire::AttemptsRequest>) -> Result<Response<wire::AttemptsReply>, Status> {
        let wire::AttemptsRequest { trial, sweep } = request.into_inner();
        let attempts = if trial == 0 {
            self.check_sweep(&sweep).await?;
            self.shared.reader.sweep_attempts(&sweep).await
        } else {
            self.check_trial(trial).await?;
            self.shared.reader.attempts(trial).await
        };
        Ok(Response::new(wire::AttemptsReply { attempts: attempts.map_err(cannot_read)? }))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        if !request.sweep.is_empty() {
            self.check_sweep(&request.sweep).await?;
        }
        Ok(Response::new(answers(self.reader_max, caller, |to| self.clone().tell_events(request, to))))
    }

    async fn metrics(&self, request: Request<wire::MetricsRequest>) -> Result<Response<Self::MetricsStream>, Status> {
        let caller = caller(&request);
        let wire::MetricsRequest { sweep, trial, names } = request.into_inner();
        check_count(&names)?;
        if let Some(name) = names.iter().find(|name| sweeps::metrics::find(name).is_none()) {
            return Err(Status::invalid_argument(format!("no metric is called {name}")));
        }
        self.check_sweep(&sweep).await?;
        let mut trials = self.shared.reader.trial_ids(&sweep).await.map_err(cannot_read)?;
        if let Some(trial) = trial {
            trials.retain(|known| *known == trial);
            if trials.is_empty() {
                return Err(no_trial(trial));
            }
        }
        Ok(Response::new(answers(self.reader_max, caller, |to| self.clone().tell_metrics(trials, names, to))))
    }

    async fn workers(&self, _: Request<wire::WorkersRequest>) -> Result<Response<wire::WorkersReply>, Status> {
        let workers = self.ask(|reply| Input::Workers { reply }).await?;
        Ok(Response::new(wire::WorkersReply { workers }))
    }

    async fn logs(&self, request: Request<wire::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let caller = caller(&request);
        let request = request.into_inner();
        self.check_trial(request.trial).await?;
        Ok(Response::new(answers(self.reader_max, caller, |to| self.clone().tell_logs(request, to))))
    }

    async fn checkpoints(
        &self,
        request: Request<wire::CheckpointsRequest>,
    ) -> Result<Response<wire::CheckpointsReply>, Status> {
        let wire::CheckpointsRequest { trial } = request.into_inner();
        self.check_trial(trial).await?;
        let rows = self.shared.reader.checkpoints(trial).await.map_err(cannot_read)?;
        Ok(Response::new(wire::CheckpointsReply { checkpoints: rows.into_iter().map(Into::into).collect() }))
    }

    async fn fetch(&self, request: Request<wire::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let caller = caller(&request);
        transfer::fetch(self, request.into_inner(), caller).await
    }
}

impl Service {
    async fn check_sweep(&self, sweep: &str) -> Result<(), Status> {
        let names = self.shared.reader.sweep_names().await.map_err(cannot_read)?;
        if names.iter().any(|name| name == sweep) { Ok(()) } else { Err(self.no_sweep(sweep).await) }
    }

    async fn check_trial(&self, trial: u64) -> Result<(), Status> {
        match self.shared.reader.trial_is_over(trial).await.map_err(cannot_read)? {
            Some(_) => Ok(()),
            None => Err(no_trial(trial)),
        }
    }
}

/// Each is looked for in each trial.
fn check_count(metrics: &[String]) -> Result<(), Status> {
    if metrics.len() <= METRICS_MAX {
        return Ok(());
    }
    let text = format!("{} metrics are asked for; at most {METRICS_MAX} can be, or none for all", metrics.len());
    Err(Status::invalid_argument(text))
}

fn control_event(request: &wire::ControlRequest) -> Result<Event, Status> {
    use wire::Action;
    let target = request.target.as_ref().ok_or_else(|| Status::invalid_argument("control needs a sweep or a trial"))?;
    let event = match (target, request.action()) {
        (_, Action::Unspecified) => return Err(Status::invalid_argument("control needs an action")),
        (Target::Sweep(sweep), Action::Pause) => Event::SweepPaused { sweep: sweep.clone() },
        (Target::Sweep(sweep), Action::Resume) => Event::SweepResumed { sweep: sweep.clone() },
        (Target::Sweep(sweep), Action::Cancel) => Event::SweepCancelled { sweep: sweep.clone() },
        (Target::Sweep(sweep), Action::Retry) => Event::SweepRetried { sweep: sweep.clone() },
        (Target::Trial(trial), Action::Pause) => Event::TrialPaused { trial: TrialId(*trial) },
        (Target::Trial(trial), Action::Resume) => Event::TrialResumed { trial: TrialId(*trial) },
        (Target::Trial(trial), Action::Cancel) => Event::TrialCancelled { trial: TrialId(*trial) },
        (Target::Trial(trial), Action::Retry) => Event::TrialRetried { trial: TrialId(*trial) },
    };
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_metrics_can_be_asked_for() {
        for (count, is_taken) in [(0, true), (100, true), (101, false), (1_000_000, false)] {
            assert_eq!(check_count(&vec![String::new(); count]).is_ok(), is_taken, "{count}");
        }
    }
}
