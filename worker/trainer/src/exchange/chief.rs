//! The chief of a trial: keeps the parameters for all its replicas, one of which is its own trainer.

use super::hand::Hand;
use crate::member::{Member, Progress, Sums, as_f64};
use crate::schedule::learning_rate;
use crate::speech::Speech;
use access::Credentials;
use anyhow::{Context, Result, bail};
use gradients::chief::{Chief as Core, Phase, Place, Settings, Tally};
use gradients::ranges::Range;
use gradients::service::{Listening, listen};
use gradients::shared::{Local, Shared};
use images::{Dataset, StreamOptions};
use proto::link::{Exchange, ExchangeRole, Said};
use std::sync::Arc;
use std::time::{Duration, Instant};
use sweeps::metrics::Point;

/// How long replicas are given to hear that all is done.
const FAREWELL: Duration = Duration::from_secs(3);

/// The chief's side of an exchange.
pub(crate) struct Chief {
    shared: Arc<Shared>,
    own: Option<Local>,
    hand: Hand,
    listening: Listening,
}

impl Chief {
    /// Takes the parameters over from the member, and listens for other replicas.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub(crate) fn open(
        member: &mut Member,
        exchange: &Exchange,
        dataset: &Arc<Dataset>,
        options: StreamOptions,
    ) -> Result<Self> {
        let ExchangeRole::Chief { listen: address } = &exchange.role else {
            bail!("replica 0 of a trial must be told to be its chief");
        };
        let training = member.trial.training.clone();
        let settings = Settings {
            rule: member.rule().clone(),
            gradients: training.gradients,
            batch_size: u64::from(training.batch_size),
            samples: member.samples_per_epoch(),
            learning_rate: Box::new(move |position| learning_rate(&training, position)),
        };
        let Progress { epochs_done, step, next_sample, holes, epoch, window, .. } = &member.progress;
        let holes = holes.iter().map(|(first, next)| Range { first: *first, next: *next }).collect();
        let place = Place { epoch: *epochs_done, version: *step, next: *next_sample, holes };
        let (epoch, window) = (tally(epoch), tally(window));
        let master = member.model.parts().0.take_slots()?;
        let shared = Shared::new(Core::new(settings, master, &place, epoch, window));
        let credentials = exchange.credentials_at(address).map(Credentials::read).transpose()?;
        let listening = listen(&shared, member.token, &exchange.secret, address, credentials.as_ref())
            .with_context(|| format!("the chief of a trial cannot listen on {address}"))?;
        let own = Some(Local::join(&shared));
        Ok(Self { shared, own, hand: Hand::new(dataset, member, options), listening })
    }

    /// Where replicas reach it.
    pub(crate) fn address(&self) -> String {
        self.listening.address.to_string()
    }

    /// One gradient of its own, or a short wait. Whether the epoch goes on.
    ///
    /// # Errors
    /// When images cannot be read, or the loss has stopped being finite.
    pub(crate) fn step(&mut self, member: &mut Member, speech: &Speech) -> Result<bool> {
        let own = self.own.as_mut().context("the chief has left its own exchange")?;
        let phase = self.hand.step(member, own, speech)?;
        for (step, value) in self.shared.with(Core::take_points) {
            let point = Point { name: "step_loss".into(), step, value };
            speech.say(&Said::Points { token: member.token, points: vec![point] });
        }
        Ok(phase == Phase::Training)
    }

    /// The time that its own trainer waited for images.
    pub(crate) fn take_waited(&mut self) -> Duration {
        self.hand.take_waited()
    }

    /// Copies everything shared to the member, to be evaluated or saved.
    pub(crate) fn gather(&self, member: &mut Member) {
        let _no_grad = tch::no_grad_guard();
        self.shared.with(|chief| {
            let place = chief.place();
            let (epoch, window) = chief.tallies();
            let progress = &mut member.progress;
            progress.step = place.version;
            progress.next_sample = place.next;
            progress.holes = place.holes.iter().map(|hole| (hole.first, hole.next)).collect();
            (progress.epoch, progress.window) = (sums(epoch), sums(window));
            member.model.parts().0.copy_from(chief.master());
        });
        member.model.forget_evaluated();
    }

    /// Frees what [`Self::gather`] copied.
    pub(crate) fn release(member: &mut Member) {
        member.model.parts().0.drop_slots();
    }

    /// Metrics of the exchange in the epoch that is over.
    pub(crate) fn end_epoch(&self) -> Vec<(&'static str, f64)> {
        let (_, counts) = self.shared.with(Core::end_epoch);
        let mut metrics = counts.staleness.metrics();
        let replicas = u64::try_from(counts.pushes.len()).unwrap_or(u64::MAX);
        metrics.push(("replicas", as_f64(replicas)));
        metrics.push(("samples_refused", as_f64(counts.samples_refused + counts.samples_skipped)));
        metrics
    }

    /// The next epoch begins for all; or all is done, and the replicas hear of it before this returns.
    pub(crate) fn begin_epoch(&mut self, member: &Member) {
        let (epoch, is_done) = (member.progress.epochs_done, member.is_done());
        self.shared.with(|chief| chief.begin_epoch(epoch, is_done));
        if is_done {
            self.own = None;
            let until = Instant::now() + FAREWELL;
            while self.shared.look(Core::replicas) > 0 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn tally(sums: &Sums) -> Tally {
    let Sums { loss, right, norm, images, batches } = *sums;
    Tally { loss, right, norm, samples: images, updates: batches }
}

fn sums(tally: Tally) -> Sums {
    let Tally { loss, right, norm, samples, updates } = tally;
    Sums { loss, right, norm, images: samples, batches: updates }
}
