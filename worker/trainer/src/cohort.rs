//! The training loop: one stream of images, all members side by side.
//!
//! A member may leave at any time, by its own end or an order; the others go on. Another may join whenever an epoch
//! begins. Those that are behind, because they resumed from an older checkpoint or in the middle of an epoch, train until
//! they have caught up, and the others wait. A trial alone is a cohort of one.

use crate::batch::Sent;
use crate::crew::{Crew, choose_threads};
use crate::device::{self, words};
use crate::evaluation::evaluate;
use crate::exchange::chief::Chief;
use crate::exchange::replica;
use crate::gpu::trim_memory;
use crate::joining::{Inbox, Terms, check_memory};
use crate::member::{DeviceBatch, Member, as_f64};
use crate::memory;
use crate::pace::Pace;
use crate::saving::{save, save_each};
use crate::sharing::share_gpu;
use crate::speech::Speech;
use anyhow::{Context, Result, ensure};
use crossbeam_channel::Receiver;
use images::{CACHE_BYTES, Dataset, StreamOptions, eval_stream, train_stream};
use proto::link::{ExchangeRole, Order, Said, Start};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sweeps::ids::Token;
use sweeps::scheduler::{AttemptEnd, StopReason};
use tch::Device;

/// Batches that wait ready.
const QUEUE_BATCHES: usize = 4;

/// Trains everything in `start`, and says what comes of it. Every member has been said to have ended when this
/// returns.
///
/// # Errors
/// When the cohort cannot be trained at all: members that cannot share a stream, no such device.
pub fn run(start: Start, orders: &Receiver<Order>, speech: &Speech) -> Result<()> {
    let first = start.members.first().context("the start order has no members")?.trial.clone();
    let device = device::open(&start.device)?;
    let threads = match start.threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1)),
        given => given,
    };
    let mut crew = Crew::new(device, threads);
    let tokens: Vec<_> = start.members.iter().map(|member| member.token).collect();
    let fail_all = |reason: &str| {
        for token in &tokens {
            speech.say(&ended(*token, AttemptEnd::Failed { reason: reason.to_owned() }));
        }
    };
    // Half of what there is; networks, the system's file cache and other slots have the rest.
    let share = memory::available().map_or(CACHE_BYTES, |bytes| bytes / 2 / u64::from(start.slots.max(1)));
    let opened = speech.alive_while(|| Dataset::open_with(&first.data, &start.data, share, share));
    let dataset = match opened {
        Ok(dataset) => Arc::new(dataset),
        Err(error) => {
            fail_all(&error.to_string());
            return Ok(());
        }
    };
    let memory_note = speech.alive_while(|| dataset.memory_note());
    for note in dataset.notes.iter().chain(&memory_note) {
        speech.say(&Said::Log { token: None, text: note.clone() });
    }
    let samples = u64::try_from(dataset.train.samples.len())?;
    let exchange = start.members.first().and_then(|member| member.exchange.clone());
    ensure!(
        exchange.is_none() || start.members.len() == 1,
        "a trial with several replicas has its trainers for itself"
    );
    let new: Vec<_> = start.members.iter().filter(|member| member.threads == 0).collect();
    let chosen = speech.alive_while(|| choose_threads(&new, device, threads))?;
    if new.len() > 1 && chosen < threads {
        let at_a_time = threads / chosen;
        let text =
            format!("{at_a_time} trials are trained at a time, with {chosen} of {threads} threads each: measured");
        speech.say(&Said::Log { token: None, text });
    }
    let count = start.members.len();
    let sharing = match speech.alive_while(|| share_gpu(&start.members, device, speech)) {
        Ok(sharing) => sharing,
        Err(error) => {
            check_memory(count, &error)?;
            fail_all(&words(&error));
            return Ok(());
        }
    };
    let terms = Terms { data: first.data.clone(), samples, threads: chosen, sharing };
    let mut members: Vec<Member> = Vec::new();
    for member in start.members {
        let stream = members.last().and_then(|one| one.lane().stream);
        members.extend(terms.begin(member, count - 1, stream, &mut crew, speech)?);
    }
    let options = StreamOptions {
        batch_size: usize::try_from(first.training.batch_size)?,
        threads: usize::try_from(threads)?,
        queue: QUEUE_BATCHES,
        ..StreamOptions::default()
    };
    let mut chief = None;
    if let (Some(exchange), Some(member)) = (&exchange, members.first_mut()) {
        if matches!(exchange.role, ExchangeRole::Replica { .. }) {
            let trained = replica::train(member, exchange, &dataset, options, orders, speech);
            speech.say(&ended(member.token, replica::end(trained, member, speech)));
            return Ok(());
        }
        let opened = Chief::open(member, exchange, &dataset, options.clone())?;
        speech.say(&Said::Listening { token: member.token, address: opened.address() });
        chief = Some(opened);
    }
    let folder = start.folder;
    let waiting = Vec::new();
    Cohort {
        dataset,
        crew,
        terms,
        members,
        waiting,
        options,
        chief,
        folder,
        inbox: Inbox::new(orders),
        speech,
        saved_at: Instant::now(),
    }
    .train()
}

struct Cohort<'a> {
    dataset: Arc<Dataset>,
    crew: Crew,
    terms: Terms,
    /// At one place of one stream.
    members: Vec<Member>,
    /// Further on, or of another stream.
    waiting: Vec<Member>,
    options: StreamOptions,
    /// Of the one member, where other replicas may train it too.
    chief: Option<Chief>,
    folder: PathBuf,
    inbox: Inbox<'a>,
    speech: &'a Speech,
    saved_at: Instant,
}

impl Cohort<'_> {
    fn train(mut self) -> Result<()> {
        self.end_members(|member| member.is_done().then_some(AttemptEnd::Completed));
        loop {
            self.take_in()?;
            if self.members.is_empty() && self.waiting.is_empty() {
                return Ok(());
            }
            self.share_stream()?;
            let started = Instant::now();
            let waited = if self.chief.is_some() { self.train_shared_epoch() } else { self.train_epoch()? };
            let Some(waited) = waited else { continue };
            self.finish_epoch(started, waited)?;
        }
    }

    /// Those that want to join do, before an epoch begins.
    fn take_in(&mut self) -> Result<()> {
        for member in self.inbox.joins() {
            let all = || self.members.iter().chain(&self.waiting);
            let (others, stream) = (all().count(), all().last().and_then(|one| one.lane().stream));
            let Some(member) = self.terms.begin(member, others, stream, &mut self.crew, self.speech)? else { continue };
            if member.is_done() {
                self.speech.say(&ended(member.token, AttemptEnd::Completed));
            } else {
                self.waiting.push(member);
            }
        }
        Ok(())
    }

    /// Takes those that are furthest behind, and gives each its place in their stream.
    fn share_stream(&mut self) -> Result<()> {
        let place = |member: &Member| (member.progress.epochs_done, member.progress.next_sample);
        let mut all = std::mem::take(&mut self.members);
        all.append(&mut self.waiting);
        all.sort_by_key(|member| member.token);
        let Some(first) = all.iter().min_by_key(|member| place(member)) else { return Ok(()) };
        let (epoch, next_sample) = place(first);
        let (stream, data, batch_size) =
            (first.trial.stream(), first.trial.data.clone(), first.trial.training.batch_size);
        let shares = |member: &Member| {
            let (of, training) = (&member.trial, &member.trial.training);
            place(member) == (epoch, next_sample)
                && (of.stream(), &of.data, training.batch_size) == (stream, &data, batch_size)
        };
        (self.members, self.waiting) = all.into_iter().partition(shares);
        self.options.epoch = epoch;
        self.make_room()?;
        self.options.from_sample = usize::try_from(next_sample)?;
        self.options.batch_size = usize::try_from(batch_size)?;
        self.options.resolutions.clear();
        for member in &mut self.members {
            let resolution = member.trial.resolution;
            let known = self.options.resolutions.iter().position(|known| *known == resolution);
            member.stream_place = known.unwrap_or(self.options.resolutions.len());
            if known.is_none() {
                self.options.resolutions.push(resolution);
            }
        }
        Ok(())
    }

    /// Those that a GPU has no memory for wait until the others have done their epoch.
    fn make_room(&mut self) -> Result<()> {
        let Some(sharing) = self.terms.sharing else { return Ok(()) };
        let (of, fitting) = (self.members.len(), sharing.fitting(&self.members)?);
        if fitting < of {
            if self.options.epoch == 0 {
                let text = format!("the GPU's memory holds {fitting} of {of} trials: measured. They take turns");
                self.speech.say(&Said::Log { token: None, text });
            }
            self.waiting.extend(self.members.drain(fitting..));
        }
        if !self.waiting.is_empty() {
            // What they hold from their last turn is needed now.
            self.waiting.iter_mut().for_each(Member::park);
            trim_memory()?;
        }
        Ok(())
    }

    /// Trains to the end of the epoch. Gives the time waited for data, or nothing when no member is left.
    fn train_epoch(&mut self) -> Result<Option<Duration>> {
        let mut stream = train_stream(&self.dataset, self.options.clone());
        let mut waited = Duration::ZERO;
        let mut pace = Pace::default();
        loop {
            let asked = Instant::now();
            let batch = stream.next();
            waited += asked.elapsed();
            let batch = match batch {
                None => return Ok(Some(waited)),
                Some(Ok(batch)) => batch,
                Some(Err(error)) => {
                    self.end_all(&error.to_string());
                    return Ok(None);
                }
            };
            for text in &batch.warnings {
                self.speech.say(&Said::Log { token: None, text: text.clone() });
            }
            let sent = match Sent::new(&batch, self.crew.device()) {
                Ok(sent) => sent,
                Err(error) => {
                    check_memory(self.members.len(), &error)?;
                    self.end_all(&words(&error));
                    return Ok(None);
                }
            };
            self.work_on_each(|member, speech| {
                member.progress.images_skipped += u64::try_from(batch.warnings.len())?;
                let (images, labels) = sent.to(member.lane(), member.stream_place)?;
                let next = u64::try_from(batch.next)?;
                let began = Instant::now();
                let point = member.step(&DeviceBatch { images, labels, indices: &batch.indices, next })?;
                member.busy += began.elapsed();
                if let Some(point) = point {
                    speech.say(&Said::Points { token: member.token, points: vec![point] });
                }
                Ok(())
            })?;
            self.crew.keep_pace(&self.members)?;
            self.tell_progress(&mut pace, batch.next)?;
            self.speech.alive();
            self.obey();
            self.save_in_time();
            if self.members.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Says how much of the epoch is done, now and then.
    fn tell_progress(&self, pace: &mut Pace, next_sample: usize) -> Result<()> {
        let Some((samples, took)) = pace.batch_done(next_sample) else { return Ok(()) };
        let share = as_f64(u64::try_from(samples)?) / as_f64(self.terms.samples.max(1));
        let took_ms = as_f64(u64::try_from(took.as_millis())?);
        let together = as_f64(self.members.iter().map(Member::work).sum::<u64>().max(1));
        for member in &self.members {
            let (token, epoch) = (member.token, member.progress.epochs_done + 1);
            let duration_ms = part_ms(took_ms, as_f64(member.work()) / together);
            self.speech.say(&Said::Progress { token, epoch, share, duration_ms });
        }
        Ok(())
    }

    /// The same for a trial that other replicas may train too.
    fn train_shared_epoch(&mut self) -> Option<Duration> {
        loop {
            let mut goes_on = true;
            let (chief, speech) = (&mut self.chief, self.speech);
            self.members.retain_mut(|member| {
                let Some(chief) = chief else { return true };
                match chief.step(member, speech) {
                    Ok(more) => {
                        goes_on = more;
                        true
                    }
                    Err(error) => {
                        speech.say(&ended(member.token, AttemptEnd::Failed { reason: words(&error) }));
                        false
                    }
                }
            });
            self.speech.alive();
            self.obey();
            if self.members.is_empty() {
                return None;
            }
            if !goes_on {
                self.gather();
                return self.chief.as_mut().map(Chief::take_waited);
            }
            self.save_in_time();
        }
    }

    /// Before a trial that is shared is evaluated or saved: what its replicas have done so far.
    fn gather(&mut self) {
        if let Some(chief) = &self.chief {
            self.members.iter_mut().for_each(|member| chief.gather(member));
        }
    }

    /// Afterwards.
    fn release(&mut self) {
        if self.chief.is_some() {
            self.members.iter_mut().for_each(Chief::release);
        }
    }

    /// Evaluates, reports, saves; members that are done end. An order that comes meanwhile is obeyed at once: who
    /// stays is evaluated anew.
    fn finish_epoch(&mut self, started: Instant, waited: Duration) -> Result<()> {
        let trained = started.elapsed();
        let (evaluated_at, dataset, speech, inbox) = (Instant::now(), &self.dataset, self.speech, &mut self.inbox);
        let mut options = self.options.clone();
        options.from_sample = 0;
        let evaluated = evaluate(
            &mut self.crew,
            &mut self.members,
            || eval_stream(dataset, options.clone()),
            || train_stream(dataset, options.clone()),
            || {
                speech.alive();
                !inbox.has_stop()
            },
        );
        let evaluated = match evaluated {
            Ok(Some(evaluated)) => evaluated,
            Ok(None) => {
                self.obey();
                return Ok(());
            }
            Err(error) => {
                check_memory(self.members.len(), &error)?;
                self.end_all(&words(&error));
                return Ok(());
            }
        };
        let mut clocks = vec![
            ("eval_seconds", evaluated_at.elapsed().as_secs_f64()),
            ("data_wait_seconds", waited.as_secs_f64()),
            ("epoch_seconds", started.elapsed().as_secs_f64()),
        ];
        let images = self.members.first().map_or(0, |member| member.progress.next_sample);
        let images = as_f64(images.saturating_sub(u64::try_from(self.options.from_sample)?));
        let trained = trained.as_secs_f64().max(1e-9);
        let shares = self.shares();
        let elapsed_ms = as_f64(u64::try_from(started.elapsed().as_millis())?);
        let together = as_f64(self.members.iter().map(Member::work).sum::<u64>().max(1));
        clocks.extend(self.chief.as_ref().map(Chief::end_epoch).unwrap_or_default());
        let mut measured = evaluated.into_iter().zip(shares);
        let mut due = BTreeMap::new();
        self.each_member(|member, speech| {
            let (evaluated, share) = measured.next().unwrap_or_default();
            let mut points = member.finish_epoch()?;
            points.extend(evaluated.into_iter().chain(clocks.clone()).map(|(name, value)| member.point(name, value)));
            if images > 0.0 && share > 0.0 {
                points.push(member.point("images_per_second", images / (trained * share)));
            }
            let best = member.note_best(&points);
            let epoch = member.progress.epochs_done;
            let duration_ms = part_ms(elapsed_ms, as_f64(member.work()) / together);
            speech.say(&Said::EpochFinished { token: member.token, epoch, duration_ms, points });
            let every = member.trial.checkpoint.every_epochs.max(1);
            if best || member.is_done() || epoch.is_multiple_of(every) {
                due.insert(member.token, best);
            }
            Ok(())
        });
        self.save(&due);
        self.saved_at = Instant::now();
        self.release();
        if let (Some(chief), Some(member)) = (&mut self.chief, self.members.first()) {
            chief.begin_epoch(member);
        }
        self.end_members(|member| member.is_done().then_some(AttemptEnd::Completed));
        self.obey();
        Ok(())
    }

    /// Of the time that the epoch took, each member's part, in their order: as measured where a step has ended when it
    /// returns, on a CPU; by their work elsewhere.
    fn shares(&mut self) -> Vec<f64> {
        let busy: Vec<f64> =
            self.members.iter_mut().map(|member| std::mem::take(&mut member.busy).as_secs_f64()).collect();
        let is_measured = busy.iter().all(|seconds| *seconds > 0.0);
        let parts: Vec<f64> = if is_measured && self.crew.device() == Device::Cpu {
            busy
        } else {
            self.members.iter().map(|member| as_f64(member.work().max(1))).collect()
        };
        let together: f64 = parts.iter().sum();
        parts.into_iter().map(|part| part / together).collect()
    }

    /// Does something for each member; one that fails ends, the others go on.
    fn each_member(&mut self, mut work: impl FnMut(&mut Member, &Speech) -> Result<()>) {
        let speech = self.speech;
        self.members.retain_mut(|member| match member.lane().run(|| work(member, speech)).flatten() {
            Ok(()) => true,
            Err(error) => {
                speech.say(&ended(member.token, AttemptEnd::Failed { reason: words(&error) }));
                false
            }
        });
    }

    /// The same for work that takes long: several are worked on at a time.
    fn work_on_each(&mut self, work: impl Fn(&mut Member, &Speech) -> Result<()> + Sync) -> Result<()> {
        let speech = self.speech;
        let done = self.crew.each(&mut self.members, |member| work(member, speech))?;
        let count = self.members.len();
        done.iter().filter_map(|done| done.as_ref().err()).try_for_each(|error| check_memory(count, error))?;
        let mut done = done.into_iter();
        self.each_member(|_, _| done.next().unwrap_or(Ok(())));
        Ok(())
    }

    /// Saves those members, and says whether it is their best epoch.
    fn save(&mut self, due: &BTreeMap<Token, bool>) {
        let mut failed = save_each(&mut self.members, due, &self.folder, self.speech);
        if !failed.is_empty() {
            self.each_member(|member, _| failed.remove(&member.token).map_or(Ok(()), Err));
        }
    }

    fn end_members(&mut self, end: impl Fn(&Member) -> Option<AttemptEnd>) {
        let speech = self.speech;
        self.members.retain(|member| match end(member) {
            Some(end) => {
                speech.say(&ended(member.token, end));
                false
            }
            None => true,
        });
    }

    fn end_all(&mut self, reason: &str) {
        self.end_members(|_| Some(AttemptEnd::Failed { reason: reason.to_owned() }));
    }

    /// Does what was ordered since the last batch.
    fn obey(&mut self) {
        while let Some((token, reason)) = self.inbox.next_stop() {
            if self.inbox.forget_join(token) {
                self.speech.say(&ended(token, AttemptEnd::Stopped));
                continue;
            }
            let folder = self.folder.clone();
            self.gather();
            let in_turn = self.members.len();
            self.members.append(&mut self.waiting);
            let waiting: Vec<_> = self.members[in_turn..].iter().map(|member| member.token).collect();
            self.each_member(|member, speech| {
                if member.token == token && reason == StopReason::Pause {
                    member.read_sums()?;
                    save(member, &folder, false, speech)?;
                }
                Ok(())
            });
            self.end_members(|member| (member.token == token).then_some(AttemptEnd::Stopped));
            let members = std::mem::take(&mut self.members);
            (self.waiting, self.members) = members.into_iter().partition(|member| waiting.contains(&member.token));
            self.release();
        }
    }

    /// Saves within an epoch, when it is time.
    fn save_in_time(&mut self) {
        let due =
            |member: &Member| self.saved_at.elapsed().as_secs_f64() >= 60.0 * member.trial.checkpoint.every_minutes;
        if !self.members.iter().any(due) {
            return;
        }
        self.gather();
        self.each_member(|member, _| member.read_sums());
        self.save(&self.members.iter().map(|member| (member.token, false)).collect());
        self.release();
        self.saved_at = Instant::now();
    }
}

/// Of what a cohort took together, a member's part.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a duration in milliseconds")]
fn part_ms(elapsed_ms: f64, part: f64) -> u64 {
    (elapsed_ms * part).ceil() as u64
}

pub(crate) fn ended(token: Token, end: AttemptEnd) -> Said {
    Said::Ended { token, end }
}
