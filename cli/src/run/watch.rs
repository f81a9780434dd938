//! The wait until a sweep is over: events, children and Ctrl-C.

use super::display::Display;
use super::track::Track;
use super::workers::Workers;
use super::{control, worker_failed};
use crate::arguments::Run;
use crate::exit::{End, Failure, refused};
use crate::session::Session;
use proto::wire::{Action, Event, StatusReply, WatchRequest, WorkersRequest};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::StreamExt;

/// How often children are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long the first worker may take to attach: on a cold machine libtorch alone takes a while to load.
const ATTACH_MAX: Duration = Duration::from_secs(120);
/// Tries in a row to reach a coordinator elsewhere that is away, one in two seconds.
const TRIES_MAX: u32 = 150;
const RETRY: Duration = Duration::from_secs(2);

/// Trains until all trials are over or somebody presses Ctrl-C. Workers have left when it returns.
pub(super) async fn until_over(
    session: &mut Session,
    status: &StatusReply,
    arguments: &Run,
    out: &Path,
) -> anyhow::Result<End> {
    let name = status.summary.as_ref().map(|summary| summary.name.clone()).unwrap_or_default();
    let scripted = status.summary.as_ref().is_some_and(|summary| summary.scripted);
    let mut signals = Signals::new()?;
    let workers = Workers::start(&arguments.worker, &session.way, scripted, out)?;
    let track = Track::new(status);
    let mut wait = Wait {
        display: Display::new(&name, &track),
        name,
        track,
        workers,
        after: status.sequence,
        attached: false,
        begun: Instant::now(),
        stopping: false,
        tries: 0,
    };
    if wait.workers.count() == 0 {
        wait.display.say(&format!("waiting for workers: alpharho-worker --coordinator {}", session.way.address));
    }
    let ended = wait.go(session, &mut signals).await;
    wait.leave(&mut signals).await;
    wait.display.clear();
    ended
}

struct Wait {
    name: String,
    track: Track,
    display: Display,
    workers: Workers,
    /// The last event seen.
    after: u64,
    /// Some worker has attached since we started.
    attached: bool,
    begun: Instant,
    /// Ctrl-C was pressed.
    stopping: bool,
    tries: u32,
}

impl Wait {
    async fn go(&mut self, session: &mut Session, signals: &mut Signals) -> anyhow::Result<End> {
        loop {
            match self.follow(session, signals).await? {
                Some(end) => return Ok(end),
                None => {
                    self.tries += 1;
                    if self.tries > TRIES_MAX {
                        return Err(Failure::new(format!("the coordinator at {} is gone", session.way.address)).into());
                    }
                    if self.tries == 1 {
                        self.display.say("the coordinator is away; trying to reach it again");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(RETRY) => {}
                        () = signals.next() => return Ok(End::Interrupted),
                    }
                    // If it fails, so will the next try to watch, and that is counted.
                    let _ = session.reconnect().await;
                }
            }
        }
    }

    /// Follows one stream of events; `None` when it broke.
    async fn follow(&mut self, session: &mut Session, signals: &mut Signals) -> anyhow::Result<Option<End>> {
        let request =
            WatchRequest { sweep: self.name.clone(), after: self.after, follow: false, last: 0, workers: false };
        let mut events = match session.client.watch(request).await {
            Ok(reply) => reply.into_inner(),
            Err(status) if !session.is_embedded() && crate::commands::is_broken(&status) => return Ok(None),
            Err(status) => return Err(refused(&status).into()),
        };
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(&event),
                    Some(Err(status)) if !session.is_embedded() && crate::commands::is_broken(&status) => return Ok(None),
                    Some(Err(status)) => return Err(refused(&status).into()),
                    None => return self.stream_ended(session).await,
                },
                _ = look.tick() => self.look(session).await?,
                () = signals.next() => {
                    if let Some(end) = self.interrupt(session).await? {
                        return Ok(Some(end));
                    }
                }
            }
            if self.stopping && self.track.running().next().is_none() {
                return Ok(Some(End::Interrupted));
            }
        }
    }

    fn take(&mut self, event: &Event) {
        self.tries = 0;
        self.after = event.sequence;
        if let Some(line) = self.track.apply(event) {
            self.display.line(&line);
        }
        self.display.show(&self.track);
    }

    /// A stream ends when the sweep is over, and also when its coordinator stops.
    async fn stream_ended(&mut self, session: &mut Session) -> anyhow::Result<Option<End>> {
        match session.status(&self.name).await {
            Ok(status) if dashboards::view::SweepView::new(&status).is_over() => Ok(Some(End::Done)),
            Err(error) if session.is_embedded() => Err(error),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Looks after the children.
    async fn look(&mut self, session: &mut Session) -> anyhow::Result<()> {
        self.display.show(&self.track);
        while let Some(exited) = self.workers.exited()? {
            let what = format!("the worker ended ({})", exited.status);
            if self.workers.count() == 0 && !self.stopping && !others_attached(session).await {
                return Err(worker_failed(&what, &exited.log).into());
            }
            self.display.say(&format!("{what}; see {}", exited.log.display()));
        }
        if !self.attached && self.workers.count() > 0 {
            self.attached = others_attached(session).await;
            if !self.attached && self.begun.elapsed() > ATTACH_MAX {
                let log = self.workers.log().map(Path::to_owned).unwrap_or_default();
                let what = format!("the worker has not attached within {} s", ATTACH_MAX.as_secs());
                return Err(worker_failed(&what, &log).into());
            }
        }
        Ok(())
    }

    /// Ctrl-C: the first time in order, the second time at once.
    async fn interrupt(&mut self, session: &mut Session) -> anyhow::Result<Option<End>> {
        if self.stopping {
            return Ok(Some(self.stop_at_once()));
        }
        self.stopping = true;
        if !session.is_embedded() {
            // The sweep is not ours alone: our workers save what they have and leave; others go on.
            self.display.say("leaving: the workers started here save checkpoints (Ctrl-C again: at once)");
            return Ok(Some(End::Interrupted));
        }
        self.display.say("stopping: running trials save a checkpoint (Ctrl-C again: at once)");
        control(session, &self.name, Action::Pause).await?;
        Ok(None)
    }

    fn stop_at_once(&mut self) -> End {
        self.workers.kill();
        self.display.say("stopped at once; trials go on from their last checkpoints");
        End::Interrupted
    }

    /// Lets the children leave; Ctrl-C kills them.
    async fn leave(&mut self, signals: &mut Signals) {
        if self.workers.count() == 0 {
            return;
        }
        let interrupted = tokio::select! {
            () = self.workers.stop() => false,
            () = signals.next() => true,
        };
        if interrupted {
            self.workers.kill();
        }
    }
}

async fn others_attached(session: &mut Session) -> bool {
    match session.client.workers(WorkersRequest {}).await {
        Ok(reply) => reply.into_inner().workers.iter().any(|worker| worker.state == "attached"),
        Err(_) => false,
    }
}

/// Ctrl-C, and being told to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
