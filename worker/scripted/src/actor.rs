//! Plays the members of a cohort, an epoch of each in turn: of one that is furthest behind.

use crate::checkpoint::Checkpoint;
use crate::exchange::{self, Chief};
use crate::metrics::{self, STEPS_PER_EPOCH};
use crate::orders::{Joins, Stops};
use crate::sleep::{Sleep, speed};
use crate::voice::Voice;
use proto::link::{self, Exchange, ExchangeRole, Member, Said, Start};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use sweeps::metrics::{Axis, Goal, Point};
use sweeps::scheduler::{AttemptEnd, StopReason};
use sweeps::spec::model::{Act, ScriptStep, When};

/// How long a chief sleeps before it looks who helps.
const NAP: Duration = Duration::from_millis(10);
/// How often one whose turn it is looks whether another is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Acts until every member has ended.
///
/// # Errors
/// When the agent does not listen any more, or the disk fails.
pub(crate) fn act(mut start: Start, stops: &Stops, joins: &Joins, voice: &Voice) -> anyhow::Result<()> {
    let mut roles = Vec::new();
    for member in std::mem::take(&mut start.members) {
        roles.extend(begin(member, &start, stops, voice)?);
    }
    loop {
        for member in joins.take() {
            roles.extend(begin(member, &start, stops, voice)?);
        }
        let Some(next) = (0..roles.len()).min_by_key(|&place| roles[place].epochs_done) else { return Ok(()) };
        let mut role = roles.remove(next);
        match role.epoch(stops, voice, &mut roles)? {
            Some(end) => {
                if let Some(chief) = role.chief.as_ref().filter(|_| end == AttemptEnd::Completed) {
                    chief.done();
                }
                voice.say(&Said::Ended { token: role.member.token, end })?;
            }
            None => roles.push(role),
        }
    }
}

/// Those that are asked to stop do, also while it is another's turn.
fn stop_asked(roles: &mut Vec<Role>, stops: &Stops, voice: &Voice) -> anyhow::Result<()> {
    for role in roles.extract_if(.., |role| stops.of(role.member.token).is_some()) {
        let token = role.member.token;
        if let Some(reason) = stops.of(token) {
            let end = role.stop(reason, voice)?;
            voice.say(&Said::Ended { token, end })?;
        }
    }
    Ok(())
}

/// One more member; nothing comes of it where it has ended already.
fn begin(member: Member, start: &Start, stops: &Stops, voice: &Voice) -> anyhow::Result<Option<Role>> {
    let token = member.token;
    let mut role = match Role::new(member, &start.folder) {
        Ok(role) => role,
        Err(error) => {
            voice.say(&Said::Ended { token, end: AttemptEnd::Failed { reason: format!("{error:#}") } })?;
            return Ok(None);
        }
    };
    voice.say(&Said::Started {
        token,
        device: start.device.clone(),
        threads: if role.member.threads > 0 { role.member.threads } else { start.threads.max(1) },
        instruction_set: proto::link::instruction_set().to_owned(),
        libtorch: "none".to_owned(),
        resumed_epoch: role.epochs_done,
    })?;
    if role.member.exchange.as_ref().is_some_and(exchange::wants_tls) {
        let end = AttemptEnd::Failed { reason: exchange::NO_TLS.to_owned() };
        voice.say(&Said::Ended { token, end })?;
        return Ok(None);
    }
    match role.member.exchange.clone() {
        Some(exchange @ Exchange { role: ExchangeRole::Replica { .. }, .. }) => {
            // It has its slot for itself.
            let end = exchange::replicate(token, &exchange, stops, voice)?;
            voice.say(&Said::Ended { token, end })?;
            return Ok(None);
        }
        Some(Exchange { secret, role: ExchangeRole::Chief { listen }, .. }) => {
            role.chief = Some(Chief::listen(token, &listen, &secret, voice)?);
        }
        None => {}
    }
    Ok(Some(role))
}

struct Role {
    member: Member,
    script: Vec<ScriptStep>,
    folder: PathBuf,
    epochs_done: u32,
    /// Of the epoch under way.
    sleep: Sleep,
    /// Of the metric that `best` means.
    best: Option<f64>,
    /// Where others may help.
    chief: Option<Chief>,
}

impl Role {
    fn new(member: Member, folder: &Path) -> anyhow::Result<Self> {
        let Some(script) = member.trial.script.clone() else {
            anyhow::bail!("the trial has no script: it is for the real trainer");
        };
        let resumed = member.resume.as_deref().map(|path| Checkpoint::load(path, &member.trial.key)).transpose()?;
        Ok(Self {
            script,
            folder: folder.to_path_buf(),
            epochs_done: resumed.as_ref().map_or(0, |checkpoint| checkpoint.epoch),
            sleep: Sleep::after(resumed.as_ref().map_or(0, |checkpoint| checkpoint.slept_ms)),
            best: resumed.and_then(|checkpoint| checkpoint.best),
            chief: None,
            member,
        })
    }

    /// One epoch, while others wait; the end of the attempt, if it came.
    fn epoch(&mut self, stops: &Stops, voice: &Voice, others: &mut Vec<Role>) -> anyhow::Result<Option<AttemptEnd>> {
        let began = Instant::now();
        let token = self.member.token;
        if self.epochs_done >= self.member.trial.training.epochs {
            return Ok(Some(AttemptEnd::Completed));
        }
        let epoch = self.epochs_done + 1;
        let mut points = metrics::of_epoch(&self.member.trial, epoch);
        let sleeps = self.script.iter().filter(|step| step.act == Act::Sleep && self.applies(step.when, epoch));
        self.sleep.begin(sleeps.filter_map(|step| step.ms).sum());
        for step in self.script.clone() {
            if let Some(reason) = stops.of(token) {
                return self.stop(reason, voice).map(Some);
            }
            if !self.applies(step.when, epoch) {
                continue;
            }
            match step.act {
                Act::Sleep => {
                    self.sleep(Duration::from_millis(step.ms.unwrap_or(0)), stops, voice, others)?;
                }
                Act::Report => self.report(&step, epoch, &mut points, voice)?,
                Act::Checkpoint => self.save(false, voice)?,
                Act::Crash => {
                    eprintln!("the script says: crash in epoch {epoch} of attempt {}", token.attempt);
                    std::process::abort();
                }
                Act::Hang => voice.hang(),
                Act::Fail => {
                    let reason = step.message.unwrap_or_else(|| "the script says: fail".to_owned());
                    return Ok(Some(AttemptEnd::Failed { reason }));
                }
            }
        }
        if let Some(reason) = stops.of(token) {
            return self.stop(reason, voice).map(Some);
        }
        voice.say(&Said::Points { token, points: metrics::within_epoch(&self.member.trial, epoch) })?;
        self.epochs_done = epoch;
        self.sleep = Sleep::default();
        if let Some(chief) = &mut self.chief {
            let value = f64::from(chief.take_most());
            points.push(Point { name: "replicas".to_owned(), step: u64::from(epoch), value });
        }
        let is_best = self.weigh(&points);
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        voice.say(&Said::EpochFinished { token, epoch, duration_ms, points })?;
        let last = epoch == self.member.trial.training.epochs;
        if last || epoch.is_multiple_of(self.member.trial.checkpoint.every_epochs.max(1)) {
            self.save(is_best, voice)?;
        }
        Ok(last.then_some(AttemptEnd::Completed))
    }

    /// Many hands make light work: with two replicas it takes half as long.
    fn sleep(
        &mut self,
        how_long: Duration,
        stops: &Stops,
        voice: &Voice,
        others: &mut Vec<Role>,
    ) -> anyhow::Result<()> {
        let token = self.member.token;
        let mut left = self.sleep.left_of(how_long);
        while !left.is_zero() {
            let hands = self.chief.as_mut().map_or(1, |chief| 1 + chief.connected());
            let speed = speed() * f64::from(hands);
            let nap = if self.chief.is_some() { NAP } else { LOOK_EVERY.min(self.sleep.told_in()) };
            let began = Instant::now();
            let stopped = stops.sleep(token, nap.min(left.div_f64(speed)));
            let slept = left.min(began.elapsed().mul_f64(speed));
            left = left.saturating_sub(slept);
            if let Some((share, took)) = self.sleep.slept(slept) {
                let (epoch, duration_ms) = (self.epochs_done + 1, u64::try_from(took.as_millis())?);
                voice.say(&Said::Progress { token, epoch, share, duration_ms })?;
            }
            stop_asked(others, stops, voice)?;
            if stopped {
                break;
            }
        }
        Ok(())
    }

    fn applies(&self, when: When, epoch: u32) -> bool {
        let trial = &self.member.trial;
        when.epoch.is_none_or(|wanted| wanted == epoch)
            && when.attempt.is_none_or(|wanted| wanted == self.member.token.attempt)
            && when.alpha.is_none_or(|wanted| (wanted - trial.alpha).abs() < 1e-9)
            && when.resolution.is_none_or(|wanted| wanted == trial.resolution)
    }

    /// A value of an epoch's metric takes the place of the made-up one; others are reported at once.
    fn report(&self, step: &ScriptStep, epoch: u32, points: &mut Vec<Point>, voice: &Voice) -> anyhow::Result<()> {
        let name = step.name.clone().unwrap_or_default();
        let value = step.value.unwrap_or(0.0);
        match sweeps::metrics::find(&name).map(|metric| metric.axis) {
            Some(Axis::Epoch) => {
                points.retain(|point| point.name != name);
                points.push(Point { name, step: u64::from(epoch), value });
                Ok(())
            }
            Some(Axis::Step) => {
                let point = Point { name, step: u64::from(epoch) * STEPS_PER_EPOCH, value };
                voice.say(&Said::Points { token: self.member.token, points: vec![point] })
            }
            Some(Axis::Constant) | None => voice.say(&Said::Log {
                token: Some(self.member.token),
                text: format!("the script reports {name:?}, which no trainer measures"),
            }),
        }
    }

    /// Whether the epoch is the best so far.
    fn weigh(&mut self, points: &[Point]) -> bool {
        let wanted = &self.member.trial.best;
        let Some(value) = points.iter().find(|point| point.name == wanted.name).map(|point| point.value) else {
            return false;
        };
        let better = self.best.is_none_or(|best| match wanted.goal {
            Goal::Maximize => value > best,
            Goal::Minimize => value < best,
        });
        if better {
            self.best = Some(value);
        }
        better
    }

    fn save(&self, best: bool, voice: &Voice) -> anyhow::Result<()> {
        let (key, slept_ms) = (self.member.trial.key.clone(), self.sleep.slept_ms());
        let checkpoint = Checkpoint { scripted: true, key, epoch: self.epochs_done, slept_ms, best: self.best };
        let step = u64::from(self.epochs_done) * STEPS_PER_EPOCH;
        let token = self.member.token;
        let mut told = false;
        loop {
            let error = match checkpoint.save(&self.folder, token, step, best) {
                Ok(said) => return voice.say(&said),
                Err(error) => error,
            };
            if !error.chain().filter_map(|cause| cause.downcast_ref()).any(link::is_full) {
                return Err(error);
            }
            if !told {
                let text = format!("the disk is full, and training waits until there is room: {error:#}");
                voice.say(&Said::Log { token: Some(token), text })?;
                told = true;
            }
            std::thread::sleep(link::FULL_PAUSE);
        }
    }

    fn stop(&self, reason: StopReason, voice: &Voice) -> anyhow::Result<AttemptEnd> {
        match reason {
            StopReason::Pause => self.save(false, voice)?,
            StopReason::Cancel | StopReason::Superseded => {}
        }
        Ok(AttemptEnd::Stopped)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sweeps::ids::{Token, TrialId};
    use sweeps::trial::Trial;

    pub(crate) fn trial(epochs: u32) -> Trial {
        serde_json::from_value(serde_json::json!({
            "key": "0".repeat(32), "parameters": {}, "network": "mobilenet", "alpha": 0.5, "resolution": 128, "seed": 1,
            "data": {"format": "idx", "train": "x", "validation": "y", "classes": 10},
            "training": {"epochs": epochs}, "checkpoint": {}, "best": {"name": "val_top1", "goal": "maximize"},
            "script": []
        }))
        .unwrap()
    }

    fn role(trial: Trial, resume: Option<PathBuf>, folder: &Path) -> anyhow::Result<Role> {
        Role::new(Member { token: Token::chief(TrialId(7), 2), trial, resume, threads: 0, exchange: None }, folder)
    }

    #[test]
    fn steps_apply_where_all_conditions_hold() {
        let folder = tempfile::tempdir().unwrap();
        let role = role(trial(3), None, folder.path()).unwrap();
        let check = |when: When, expected| assert_eq!(role.applies(when, 2), expected, "{when:?}");
        check(When::default(), true);
        check(When { epoch: Some(2), attempt: Some(2), alpha: Some(0.5), resolution: Some(128) }, true);
        check(When { epoch: Some(1), ..When::default() }, false);
        check(When { attempt: Some(1), ..When::default() }, false);
        check(When { alpha: Some(1.0), ..When::default() }, false);
        check(When { resolution: Some(224), ..When::default() }, false);
    }

    #[test]
    fn a_checkpoint_is_gone_on_from_and_only_by_its_own_trial() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = role(trial(5), None, folder.path()).unwrap();
        first.epochs_done = 3;
        first.best = Some(0.25);
        let (key, best) = (first.member.trial.key.clone(), first.best);
        let checkpoint = Checkpoint { scripted: true, key, epoch: 3, slept_ms: 0, best };
        let said = checkpoint.save(folder.path(), first.member.token, 300, true).unwrap();
        let Said::CheckpointSaved { path, bytes, sha256, .. } = said else { panic!("{said:?}") };
        assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
        assert_eq!(sha256.len(), 64);
        let second = role(trial(5), Some(path.clone()), folder.path()).unwrap();
        assert_eq!((second.epochs_done, second.best), (3, Some(0.25)));
        let mut other = trial(5);
        other.key = "1".repeat(32);
        assert!(role(other, Some(path), folder.path()).is_err());
    }

    #[test]
    fn a_trial_without_a_script_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut real = trial(1);
        real.script = None;
        assert!(role(real, None, folder.path()).is_err());
    }
}
