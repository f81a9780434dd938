//! One trial in a trainer: its model and how far it is.

use crate::batch::{send, send_tensor};
use crate::checkpoint;
use crate::device::Lane;
use crate::gpu::{Graph, trim_memory};
use crate::inputs::{Inputs, Kept};
use crate::memory;
use crate::model::{Mode, Model};
use crate::optimizer;
use crate::schedule::learning_rate;
use anyhow::{Context, Result, bail, ensure};
use gradients::rmsprop::Rule;
use proto::link;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use sweeps::ids::Token;
use sweeps::metrics::{Goal, Point};
use sweeps::network::Network;
use sweeps::spec::effective_batch_norm_decay;
use sweeps::trial::Trial;
use tch::{Device, Kind, Tensor};

/// Steps between two points of `step_loss`, and between two looks at whether the loss is finite.
pub const WINDOW_STEPS: u64 = 100;

/// For statistics that must be estimated anew and whose sweep does not say from how many batches.
const REESTIMATE_BATCHES: u32 = 50;

/// All of a trial's state that is not a tensor. Its sums are kept in f64, so that an epoch that was
/// interrupted ends with the same numbers as one that was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs finished.
    pub epochs_done: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// Where the current epoch goes on: a place in its order of samples.
    pub next_sample: u64,
    /// Samples before that place that are not done: first, and the one after the last. Only where replicas shared
    /// the epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holes: Vec<(u64, u64)>,
    /// Of the current epoch.
    pub epoch: Sums,
    /// Since the last point of `step_loss`.
    pub window: Sums,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// Broken images met.
    pub images_skipped: u64,
}

/// What is added up over batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Loss times images.
    pub loss: f64,
    /// Images classified right.
    pub right: f64,
    /// Gradient norms.
    pub norm: f64,
    /// Images.
    pub images: u64,
    /// Batches.
    pub batches: u64,
}

/// The best epoch so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Of the sweep's first metric.
    pub value: f64,
    /// From 1.
    pub epoch: u32,
}

/// No run counts further: every number up to here is exact as a float too.
const COUNT_MAX: u64 = 1 << 53;

impl Progress {
    /// Refuses what no run over so many epochs of so many samples can have reached: it is counted on from there.
    fn check(&self, epochs: u32, samples: u64) -> Result<()> {
        let Self { epochs_done, step, next_sample, holes, epoch, window, best, images_skipped } = self;
        ensure!(*epochs_done <= epochs, "it has {epochs_done} epochs done of {epochs}");
        ensure!(*next_sample <= samples, "it goes on at sample {next_sample} of {samples}");
        let mut before = 0;
        for (first, next) in holes {
            let is_sound = before <= *first && first < next && next <= next_sample;
            ensure!(is_sound, "samples {first} to {next} cannot be open before sample {next_sample}");
            before = *next;
        }
        for Sums { loss, right, norm, images, batches } in [epoch, window] {
            let is_sound = [loss, right, norm].iter().all(|sum| sum.is_finite()) && images.max(batches) < &COUNT_MAX;
            ensure!(is_sound, "its sums are none that can be added to");
        }
        ensure!(best.is_none_or(|best| best.value.is_finite()), "its best value is none");
        ensure!(step.max(images_skipped) < &COUNT_MAX, "it counts {step} steps and {images_skipped} broken images");
        Ok(())
    }
}

/// A trial being trained.
#[derive(Debug)]
pub struct Member {
    /// What is said of it carries this.
    pub token: Token,
    /// Its settings.
    pub trial: Trial,
    /// Its network.
    pub model: Model,
    /// How far it is.
    pub progress: Progress,
    /// Which of the stream's resolutions it reads.
    pub stream_place: usize,
    /// That it computes with: what comes of it depends on that, to the last bit.
    pub threads: u32,
    /// What its steps have taken since the epoch began, or went on.
    pub busy: Duration,
    /// What an evaluation has counted so far, on the device: f64, `[3]`.
    pub counted: Tensor,
    work: u64,
    lane: Lane,
    kept: Kept,
    /// Loss · images, images right, gradient norm since the last reading: f64, `[3]`, on the device, so that
    /// no step waits for it.
    sums: Tensor,
    samples_per_epoch: u64,
    batch_norm_decay: f64,
    rule: Rule,
}

/// A batch on the device.
#[derive(Debug)]
pub struct DeviceBatch<'a> {
    /// u8, `[n, ρ, ρ, 3]`.
    pub images: Tensor,
    /// i64, `[n]`.
    pub labels: Tensor,
    /// Which samples.
    pub indices: &'a [u32],
    /// The place in the epoch's order at which the next batch begins.
    pub next: u64,
}

impl Member {
    /// Sets a trial up, from its checkpoint where there is one.
    ///
    /// # Errors
    /// When the network cannot be made, or the checkpoint is damaged or of another trial.
    pub fn new(member: link::Member, lane: impl Into<Lane>, samples_per_epoch: u64) -> Result<Self> {
        let lane = lane.into();
        lane.run(|| Self::set_up(member, lane, samples_per_epoch))?
    }

    fn set_up(member: link::Member, lane: Lane, samples_per_epoch: u64) -> Result<Self> {
        let link::Member { token, trial, resume, threads, exchange: _ } = member;
        let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes)?;
        let work = network.cost().work();
        let mut model = Model::new(network, &trial.training, trial.seed, lane.device)?;
        let progress = match &resume {
            Some(path) => {
                let progress = checkpoint::load(path, &mut model, &trial)?;
                let place = || format!("the checkpoint {} is damaged", path.display());
                progress.check(trial.training.epochs, samples_per_epoch).with_context(place)?;
                progress
            }
            None => Progress::default(),
        };
        let batches = samples_per_epoch.div_ceil(u64::from(trial.training.batch_size.max(1)));
        let batch_norm_decay =
            effective_batch_norm_decay(&trial.training.batch_norm, batches * u64::from(trial.training.epochs));
        let [sums, counted] = [(); 2].map(|()| Tensor::zeros([3], (Kind::Double, lane.device)));
        let rule = optimizer::rule(model.layout(), &trial.training);
        Ok(Self {
            token,
            trial,
            model,
            progress,
            stream_place: 0,
            threads,
            busy: Duration::ZERO,
            counted,
            work,
            lane,
            kept: Kept::Cold,
            sums,
            samples_per_epoch,
            batch_norm_decay,
            rule,
        })
    }

    /// One step. Gives a point of `step_loss` now and then.
    ///
    /// # Errors
    /// When the loss has stopped being finite, or libtorch cannot compute it.
    pub fn step(&mut self, batch: &DeviceBatch<'_>) -> Result<Option<Point>> {
        let count = batch.indices.len();
        // A single image has no statistics to normalise by.
        if count >= 2 {
            let rate = learning_rate(&self.trial.training, self.position());
            let inputs = self.inputs(batch, self.progress.step, rate)?;
            self.compute_or_replay(inputs)?;
            self.progress.step += 1;
            for sums in [&mut self.progress.epoch, &mut self.progress.window] {
                sums.images += u64::try_from(count)?;
                sums.batches += 1;
            }
        }
        self.progress.next_sample = batch.next;
        if self.progress.step.is_multiple_of(WINDOW_STEPS) && self.progress.window.batches > 0 {
            self.read_sums()?;
            let window = std::mem::take(&mut self.progress.window);
            let value = window.loss / as_f64(window.images);
            return Ok(Some(Point { name: "step_loss".into(), step: self.progress.step, value }));
        }
        Ok(None)
    }

    fn inputs(&self, batch: &DeviceBatch<'_>, step: u64, rate: f64) -> Result<Inputs> {
        let device = self.lane.device;
        let masks = self.model.dropout_masks(step, batch.indices);
        Ok(Inputs {
            images: batch.images.shallow_clone(),
            labels: batch.labels.shallow_clone(),
            masks: masks.iter().map(|mask| send_tensor(mask, device)).collect::<Result<_>>()?,
            rate: send(&[rate], &[], device)?,
        })
    }

    /// On a stream of its own a whole batch's step is kept, the second time, and from then on done with one call.
    fn compute_or_replay(&mut self, inputs: Inputs) -> Result<()> {
        let is_whole = inputs.images.size().first() == Some(&i64::from(self.trial.training.batch_size));
        match &self.kept {
            Kept::Graph(own, graph) if is_whole => {
                own.copy_from(&inputs);
                graph.replay()?;
                self.model.forget_evaluated();
                return Ok(());
            }
            Kept::Warm if is_whole => return self.keep(&inputs),
            Kept::Cold if is_whole && self.lane.graphs => self.kept = Kept::Warm,
            Kept::Graph(..) | Kept::Warm | Kept::Cold => {}
        }
        self.compute(&inputs)
    }

    /// Where a step cannot be kept, it is done without for good: short memory is for others to know.
    fn keep(&mut self, inputs: &Inputs) -> Result<()> {
        let Some(stream) = self.lane.stream else { return self.compute(inputs) };
        let own = inputs.copy();
        // What the first step took would be held beside what the graph takes.
        stream.mark()?.wait()?;
        trim_memory()?;
        match Graph::capture(stream, || self.compute(&own)) {
            Ok(graph) => {
                graph.replay()?;
                self.kept = Kept::Graph(Box::new(own), graph);
                Ok(())
            }
            Err(error) if memory::is_short(&error) => Err(error),
            Err(_) => {
                self.lane.graphs = false;
                self.kept = Kept::Cold;
                self.compute(inputs)
            }
        }
    }

    /// Whether its step is kept as a graph.
    #[must_use]
    pub fn has_graph(&self) -> bool {
        matches!(self.kept, Kept::Graph(..))
    }

    /// Frees what only training needs.
    pub fn park(&mut self) {
        self.kept = Kept::Cold;
    }

    /// A whole step. Waits for nothing, and reads nothing but the inputs and what is the member's own.
    fn compute(&mut self, inputs: &Inputs) -> Result<()> {
        let (loss, right) = self.gradient_of(inputs)?;
        let _no_grad = tch::no_grad_guard();
        let norm = optimizer::update(self.model.parts().0, &self.rule, &inputs.rate)?;
        self.sums += Tensor::stack(&[loss, right, norm.to_device(self.lane.device)], 0);
        Ok(())
    }

    /// The gradient of a batch, in the flat buffer. Gives the sum of losses and how many samples were classified
    /// right, f64, on the device. `step` seeds dropout.
    ///
    /// # Errors
    /// When libtorch cannot compute it.
    pub fn gradient(&mut self, batch: &DeviceBatch<'_>, step: u64) -> Result<(Tensor, Tensor)> {
        let inputs = self.inputs(batch, step, 0.0)?;
        self.gradient_of(&inputs)
    }

    fn gradient_of(&mut self, inputs: &Inputs) -> Result<(Tensor, Tensor)> {
        let mode = Mode::Train { masks: &inputs.masks, decay: self.batch_norm_decay };
        let (loss, right) = self.model.gradient(&inputs.images, &inputs.labels, mode)?;
        let count = inputs.labels.size().first().copied().unwrap_or(0);
        Ok((loss.to_kind(Kind::Double) * count, right))
    }

    /// What training on one image costs, as [`sweeps::network::Cost::work`] has it.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work
    }

    /// The update that its settings ask for.
    #[must_use]
    pub fn rule(&self) -> &Rule {
        &self.rule
    }

    /// Samples of an epoch.
    #[must_use]
    pub fn samples_per_epoch(&self) -> u64 {
        self.samples_per_epoch
    }

    /// Training batches from which BatchNorm's statistics are estimated anew before each evaluation. Where several
    /// replicas train, each has seen but its share: there they always are.
    #[must_use]
    pub fn reestimate_batches(&self) -> u32 {
        let training = &self.trial.training;
        match training.batch_norm.reestimate_batches {
            0 if training.replicas.max() > 1 => REESTIMATE_BATCHES,
            batches => batches,
        }
    }

    /// Where the run is, in epochs.
    #[must_use]
    pub fn position(&self) -> f64 {
        f64::from(self.progress.epochs_done) + as_f64(self.progress.next_sample) / as_f64(self.samples_per_epoch)
    }

    /// Ends the epoch: its training metrics, on the epoch axis.
    ///
    /// # Errors
    /// When the loss has stopped being finite.
    pub fn finish_epoch(&mut self) -> Result<Vec<Point>> {
        self.read_sums()?;
        let rate = learning_rate(&self.trial.training, self.position());
        let sums = std::mem::take(&mut self.progress.epoch);
        self.progress.epochs_done += 1;
        self.progress.next_sample = 0;
        let images = as_f64(sums.images.max(1));
        Ok([
            ("train_loss", sums.loss / images),
            ("train_top1", sums.right / images),
            ("gradient_norm", sums.norm / as_f64(sums.batches.max(1))),
            ("learning_rate", rate),
            ("images_skipped", as_f64(self.progress.images_skipped)),
            ("images_trained", as_f64(sums.images)),
        ]
        .map(|(name, value)| self.point(name, value))
        .into())
    }

    /// A point of the epoch that was just finished.
    #[must_use]
    pub fn point(&self, name: &str, value: f64) -> Point {
        Point { name: name.into(), step: u64::from(self.progress.epochs_done), value }
    }

    /// Notes the epoch's value of the sweep's first metric; whether it is the best so far.
    pub fn note_best(&mut self, points: &[Point]) -> bool {
        let Some(point) = points.iter().find(|point| point.name == self.trial.best.name) else { return false };
        let better = self.progress.best.is_none_or(|best| match self.trial.best.goal {
            Goal::Maximize => point.value > best.value,
            Goal::Minimize => point.value < best.value,
        });
        if better {
            self.progress.best = Some(Best { value: point.value, epoch: self.progress.epochs_done });
        }
        better
    }

    /// Whether all epochs are done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.progress.epochs_done >= self.trial.training.epochs
    }

    /// The device that it is trained on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.lane.device
    }

    /// Where its work goes.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Moves the device's sums to [`Progress`]: the one place where the host waits for the device.
    ///
    /// # Errors
    /// When the loss has stopped being finite.
    pub fn read_sums(&mut self) -> Result<()> {
        let read = Vec::<f64>::try_from(&self.sums)?;
        let _ = self.sums.zero_();
        let [loss, right, norm] = read[..] else { bail!("three sums were kept, {} came back", read.len()) };
        if !(loss.is_finite() && norm.is_finite()) {
            bail!(
                "the loss is not finite any more, in epoch {} by step {}: try a lower training.learning_rate, a \
                 longer schedule.warmup_epochs or gradient_clip_norm",
                self.progress.epochs_done + 1,
                self.progress.step
            );
        }
        for sums in [&mut self.progress.epoch, &mut self.progress.window] {
            sums.loss += loss;
            sums.right += right;
            sums.norm += norm;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of images and steps stay far below 2^53")]
pub(crate) fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_goes_on_only_from_where_a_run_can_have_been() {
        let sound = || Progress {
            epochs_done: 2,
            step: 77,
            next_sample: 320,
            holes: vec![(0, 32), (64, 96)],
            ..Progress::default()
        };
        let with_holes = |holes: &[(u64, u64)]| Progress { holes: holes.to_vec(), ..sound() };
        for (progress, expected) in [
            (sound(), ""),
            (Progress { epochs_done: 6, ..sound() }, "it has 6 epochs done of 5"),
            (Progress { next_sample: 1001, ..sound() }, "it goes on at sample 1001 of 1000"),
            (with_holes(&[(5, 3)]), "samples 5 to 3 cannot be open before sample 320"),
            (with_holes(&[(0, u64::MAX)]), "samples 0 to 18446744073709551615 cannot be open before sample 320"),
            (with_holes(&[(0, 64), (32, 96)]), "samples 32 to 96 cannot be open before sample 320"),
            (Progress { step: u64::MAX, ..sound() }, "it counts 18446744073709551615 steps and 0 broken images"),
            (
                Progress { epoch: Sums { images: u64::MAX, ..Sums::default() }, ..sound() },
                "its sums are none that can be added to",
            ),
        ] {
            let said = progress.check(5, 1_000).map_or_else(|error| error.to_string(), |()| String::new());
            assert_eq!(said, expected);
        }
    }
}
