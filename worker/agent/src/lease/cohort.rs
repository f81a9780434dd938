//! Where the members of a lease stand, and what follows from it. Pure: the time is told.

use super::Granted;
use proto::{link, wire};
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::scheduler::{AttemptEnd, StopReason};

/// How long a trainer may take to save a checkpoint and say that it stopped.
const PAUSE_PATIENCE: Duration = Duration::from_secs(60);
/// The same, when the agent itself must leave.
const DRAIN_PATIENCE: Duration = Duration::from_secs(15);
/// The same, when nothing of it is wanted.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// From SIGTERM to SIGKILL.
const TERM_PATIENCE: Duration = Duration::from_secs(5);
/// From the last member's end to SIGTERM.
const EXIT_PATIENCE: Duration = Duration::from_secs(10);

/// Who asked a member to stop, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The coordinator.
    Asked(StopReason),
    /// The agent leaves.
    Drain(String),
}

impl Why {
    /// What the trainer is told.
    pub(crate) fn reason(&self) -> StopReason {
        match self {
            Self::Asked(reason) => *reason,
            Self::Drain(_) => StopReason::Pause,
        }
    }
}

/// How far a member has come.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    /// Its checkpoint is to be fetched.
    Lacks(wire::Checkpoint),
    /// It is on its way.
    Fetching,
    /// The process can be told.
    Ready,
    /// The process was told, while it trained others, and has not said yet that it begins.
    Joining,
    /// The process trains it.
    Inside,
}

/// One trial of the lease.
pub(crate) struct Member {
    /// What the trainer is given.
    pub(crate) order: link::Member,
    stage: Stage,
    stop: Option<(Why, Instant)>,
    end: Option<AttemptEnd>,
    uploads: usize,
    upload_problem: Option<String>,
    reported: bool,
}

impl Member {
    fn new(granted: Granted) -> Self {
        let Granted { member: order, resume } = granted;
        let stage = resume.map_or(Stage::Ready, Stage::Lacks);
        Self { order, stage, stop: None, end: None, uploads: 0, upload_problem: None, reported: false }
    }

    fn is_known_to_process(&self) -> bool {
        matches!(self.stage, Stage::Joining | Stage::Inside)
    }

    fn is_superseded(&self) -> bool {
        matches!(self.stop, Some((Why::Asked(StopReason::Superseded), _)))
    }

    fn is_unwanted(&self) -> bool {
        matches!(self.stop, Some((Why::Asked(StopReason::Superseded | StopReason::Cancel), _)))
    }

    /// Whether the coordinator still listens to it.
    pub(crate) fn may_speak(&self) -> bool {
        !self.reported && !self.is_superseded()
    }

    /// How the attempt ended, as far as the coordinator is concerned.
    fn verdict(&self) -> Option<AttemptEnd> {
        let end = self.end.clone()?;
        Some(match (end, &self.stop, &self.upload_problem) {
            (AttemptEnd::Completed, _, Some(problem)) => {
                AttemptEnd::Crashed { reason: format!("its last checkpoint could not be stored: {problem}") }
            }
            (end @ (AttemptEnd::Completed | AttemptEnd::Failed { .. }), _, _) => end,
            (_, Some((Why::Drain(why), _)), _) => AttemptEnd::Lost { reason: why.clone() },
            (_, Some((Why::Asked(_), _)), _) => AttemptEnd::Stopped,
            // A replica stops by itself when its chief is gone.
            (AttemptEnd::Stopped, None, _) if self.order.token.replica > 0 => AttemptEnd::Stopped,
            (AttemptEnd::Stopped, None, _) => {
                AttemptEnd::Crashed { reason: "its trainer stopped without being asked to".to_owned() }
            }
            (
                end @ (AttemptEnd::Crashed { .. } | AttemptEnd::CrashedTogether { .. } | AttemptEnd::Lost { .. }),
                None,
                _,
            ) => end,
        })
    }
}

/// All members of a lease and their process.
pub(crate) struct Cohort {
    members: Vec<Member>,
    terminated_at: Option<Instant>,
    killed: bool,
    all_ended_at: Option<Instant>,
    process_gone: bool,
}

impl Cohort {
    /// None of them has started.
    pub(crate) fn new(members: Vec<Granted>) -> Self {
        let members = members.into_iter().map(Member::new).collect();
        Self { members, terminated_at: None, killed: false, all_ended_at: None, process_gone: true }
    }

    /// The member of that token.
    pub(crate) fn find(&mut self, token: Token) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.order.token == token)
    }

    /// All of them.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Those that are to be trained, or are.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.end.is_none())
    }

    /// They come later.
    pub(crate) fn join(&mut self, members: Vec<Granted>) {
        self.members.extend(members.into_iter().map(Member::new));
    }

    /// Checkpoints that are to be fetched now, for whom.
    pub(crate) fn fetch(&mut self) -> Vec<(Token, wire::Checkpoint)> {
        let mut wanted = Vec::new();
        for member in self.members.iter_mut().filter(|member| member.end.is_none()) {
            if let Stage::Lacks(checkpoint) = &member.stage {
                wanted.push((member.order.token, checkpoint.clone()));
                member.stage = Stage::Fetching;
            }
        }
        wanted
    }

    /// A checkpoint is there.
    pub(crate) fn fetched(&mut self, token: Token, path: PathBuf) {
        if let Some(member) = self.find(token) {
            member.order.resume = Some(path);
            member.stage = Stage::Ready;
        }
    }

    /// Whether members still wait for their checkpoints.
    pub(crate) fn is_fetching(&self) -> bool {
        self.live().any(|member| matches!(member.stage, Stage::Lacks(_) | Stage::Fetching))
    }

    /// The trainer was started: what it is told to train.
    pub(crate) fn started(&mut self) -> Vec<link::Member> {
        self.process_gone = false;
        self.tell(Stage::Inside)
    }

    /// What the trainer is told to train as well; nothing once it ends.
    pub(crate) fn joining(&mut self) -> Vec<link::Member> {
        let ends = self.process_gone || self.all_ended_at.is_some() || self.terminated_at.is_some() || self.killed;
        if ends { Vec::new() } else { self.tell(Stage::Joining) }
    }

    fn tell(&mut self, stage: Stage) -> Vec<link::Member> {
        let ready = |member: &&mut Member| member.end.is_none() && member.stage == Stage::Ready;
        let ready = self.members.iter_mut().filter(ready);
        let told = ready.map(|member| {
            member.stage = stage.clone();
            member.order.clone()
        });
        told.collect()
    }

    /// The trainer has begun it.
    pub(crate) fn begun(&mut self, token: Token) {
        if let Some(member) = self.find(token).filter(|member| member.stage == Stage::Joining) {
            member.stage = Stage::Inside;
        }
    }

    /// Those that the process knows of and that have not ended.
    fn in_process(&self) -> impl Iterator<Item = &Member> {
        self.live().filter(|member| member.is_known_to_process())
    }

    /// A member is to stop. Returns what to tell the trainer, if anything is new.
    pub(crate) fn stop(&mut self, token: Token, why: Why, now: Instant) -> Option<StopReason> {
        let gone = self.process_gone;
        let member = self.find(token)?;
        let news = match (&member.stop, &why) {
            (None, _) => true,
            (Some((Why::Asked(StopReason::Superseded), _)), _) => false,
            (_, Why::Asked(StopReason::Superseded)) => true,
            (Some((Why::Asked(StopReason::Cancel), _)), _) => false,
            (_, Why::Asked(StopReason::Cancel)) => true,
            (Some(_), _) => false,
        };
        if !news {
            return None;
        }
        let reason = why.reason();
        member.stop = Some((why, now));
        if (gone || !member.is_known_to_process()) && member.end.is_none() {
            member.end = Some(AttemptEnd::Stopped);
        }
        member.end.is_none().then_some(reason)
    }

    /// A member ended by its own trainer's words, or before its trainer could start.
    pub(crate) fn ended(&mut self, token: Token, end: AttemptEnd, now: Instant) {
        if let Some(member) = self.find(token)
            && member.end.is_none()
        {
            member.end = Some(end);
        }
        if !self.process_gone && self.in_process().next().is_none() {
            self.all_ended_at.get_or_insert(now);
        }
    }

    /// The process is gone; members that it trained and that had not ended have now, by this cause. Of several, nobody
    /// knows which is to blame, so none is. If it ended well, those that were to join begin in another one.
    pub(crate) fn gone(&mut self, cause: &str, ended_well: bool) {
        self.process_gone = true;
        (self.terminated_at, self.killed, self.all_ended_at) = (None, false, None);
        let late = |member: &&mut Member| member.stage == Stage::Joining && member.end.is_none() && ended_well;
        for member in self.members.iter_mut().filter(late) {
            member.stage = Stage::Ready;
            if member.stop.is_some() {
                member.end = Some(AttemptEnd::Stopped);
            }
        }
        let living = self.in_process().count();
        let end = if living > 1 {
            let trials = u32::try_from(living).unwrap_or(u32::MAX);
            AttemptEnd::CrashedTogether { reason: cause.to_owned(), trials }
        } else {
            AttemptEnd::Crashed { reason: cause.to_owned() }
        };
        for member in self.members.iter_mut().filter(|member| member.is_known_to_process()) {
            member.end.get_or_insert_with(|| end.clone());
        }
    }

    /// A checkpoint of the member is on its way.
    pub(crate) fn upload_began(&mut self, token: Token) {
        if let Some(member) = self.find(token) {
            member.uploads += 1;
        }
    }

    /// One is stored, or not wanted, or will never be stored: then the problem counts until a later one is.
    pub(crate) fn upload_ended(&mut self, token: Token, result: Result<(), String>) {
        if let Some(member) = self.find(token) {
            member.uploads = member.uploads.saturating_sub(1);
            member.upload_problem = result.err();
        }
    }

    /// No upload is waited for any longer.
    pub(crate) fn give_up_uploads(&mut self) {
        for member in &mut self.members {
            if member.uploads > 0 {
                member.uploads = 0;
                member.upload_problem = Some("the coordinator was away until the worker had to leave".to_owned());
            }
        }
    }

    /// Ends that are to be reported now, each once: its checkpoints are stored, and the slot's last member waits
    /// for the process to be gone, because then the slot counts as free.
    pub(crate) fn reports(&mut self) -> Vec<(Token, AttemptEnd)> {
        let others_live = self.live().next().is_some();
        let gone = self.process_gone;
        let mut unreported = self.members.iter().filter(|member| !member.reported && !member.is_superseded()).count();
        let mut reports = Vec::new();
        for member in &mut self.members {
            if member.reported || member.is_superseded() || (member.uploads > 0 && !member.is_unwanted()) {
                continue;
            }
            if !(gone || others_live || unreported > 1) {
                continue;
            }
            if let Some(end) = member.verdict() {
                member.reported = true;
                unreported -= 1;
                reports.push((member.order.token, end));
            }
        }
        reports
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.process_gone && self.members.iter().all(|member| member.reported || member.is_superseded())
    }

    /// When the process is to be signalled next, unless something happens before.
    pub(crate) fn signal_at(&self) -> Option<(Instant, Signal)> {
        if self.process_gone || self.killed {
            return None;
        }
        if let Some(terminated_at) = self.terminated_at {
            return Some((terminated_at + TERM_PATIENCE, Signal::KILL));
        }
        let alone = self.in_process().all(Member::is_unwanted);
        let stops = self.in_process().filter_map(|member| {
            let (why, asked_at) = member.stop.as_ref()?;
            Some(match why {
                Why::Asked(StopReason::Cancel | StopReason::Superseded) if alone => {
                    (*asked_at + CANCEL_PATIENCE, Signal::KILL)
                }
                Why::Asked(_) => (*asked_at + PAUSE_PATIENCE, Signal::TERM),
                Why::Drain(_) => (*asked_at + DRAIN_PATIENCE, Signal::TERM),
            })
        });
        let exit = self.all_ended_at.map(|ended_at| (ended_at + EXIT_PATIENCE, Signal::TERM));
        stops.chain(exit).min_by_key(|(at, _)| *at)
    }

    /// The process was signalled.
    pub(crate) fn signalled(&mut self, signal: Signal, now: Instant) {
        if signal == Signal::KILL {
            self.killed = true;
        } else {
            self.terminated_at.get_or_insert(now);
        }
    }
}

#[cfg(test)]
mod tests;
