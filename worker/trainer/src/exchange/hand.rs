//! What a replica has in hand: the samples that its chief has given it, and their gradients.

use crate::batch::Sent;
use crate::member::{DeviceBatch, Member};
use crate::speech::Speech;
use anyhow::{Context, Result};
use gradients::chief::{Finished, Phase, Verdict};
use gradients::ranges::Range;
use gradients::values::Values;
use gradients::{Assignment, Exchange};
use images::{Dataset, Stream, StreamOptions, train_stream_on_demand};
use proto::link::Said;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// Batches that a replica has in hand beside those it computes with, so that their images are ready in time.
const AHEAD: usize = 2;

/// A replica at work.
pub(super) struct Hand {
    dataset: Arc<Dataset>,
    options: StreamOptions,
    /// Of the epoch that the ranges are of.
    stream: Option<(u32, Stream)>,
    ranges: VecDeque<Range>,
    /// Of the weights.
    version: u64,
    phase: Phase,
    /// Where libtorch computes elsewhere than on the CPU: weights and gradient as they travel.
    host: Option<[Vec<f32>; 2]>,
    /// Several batches' gradients, where they are sent together.
    sum: Option<Tensor>,
    /// Time waited for images, since it was last asked.
    waited: Duration,
}

/// One push's worth of training.
#[derive(Default)]
struct Work {
    ranges: Vec<Range>,
    samples: u64,
    loss: f64,
    right: f64,
}

impl Hand {
    /// With nothing in hand yet.
    pub(super) fn new(dataset: &Arc<Dataset>, member: &Member, mut options: StreamOptions) -> Self {
        options.resolutions = vec![member.trial.resolution];
        options.from_sample = 0;
        let len = member.model.layout().len;
        let host = (member.device() != Device::Cpu).then(|| [vec![0.0; len], vec![0.0; len]]);
        let several = member.trial.training.gradients.push_every > 1;
        let sum = several.then(|| Tensor::zeros_like(&member.model.flat().gradient));
        Self {
            dataset: Arc::clone(dataset),
            options,
            stream: None,
            ranges: VecDeque::new(),
            version: 0,
            phase: Phase::Training,
            host,
            sum,
            waited: Duration::ZERO,
        }
    }

    /// The time waited for images since the last time.
    pub(super) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    /// Computes and sends one gradient, or asks for work. Comes back within a second or two where there is none. Tells
    /// whether there is work in this epoch.
    ///
    /// # Errors
    /// When images cannot be read, or the exchange is over.
    pub(super) fn step(&mut self, member: &mut Member, exchange: &mut dyn Exchange, speech: &Speech) -> Result<Phase> {
        let push_every = usize::try_from(member.trial.training.gradients.push_every).unwrap_or(1).max(1);
        let wanted = AHEAD + 2 * push_every;
        if self.ranges.is_empty() {
            let assignment = self.exchange(member, exchange, None, wanted)?;
            self.take(&assignment)?;
            return Ok(self.phase);
        }
        let work = self.compute(member, push_every, speech)?;
        let assignment = self.exchange(member, exchange, Some(&work), wanted)?;
        if assignment.verdict == Verdict::NotFinite {
            let text = format!("a gradient of step {} was not finite; its samples are skipped", assignment.version);
            speech.say(&Said::Log { token: Some(member.token), text });
        }
        self.take(&assignment)?;
        Ok(if self.ranges.is_empty() { self.phase } else { Phase::Training })
    }

    /// The gradient of the next batches, in the member's flat buffer.
    fn compute(&mut self, member: &mut Member, batches: usize, speech: &Speech) -> Result<Work> {
        let mut work = Work::default();
        while work.ranges.len() < batches
            && let Some(range) = self.ranges.pop_front()
        {
            let (_, stream) = self.stream.as_mut().context("ranges came without an epoch")?;
            let asked = Instant::now();
            let batch = stream.next().context("the images of a range did not come")??;
            self.waited += asked.elapsed();
            work.ranges.push(range);
            for text in &batch.warnings {
                speech.say(&Said::Log { token: Some(member.token), text: text.clone() });
                member.progress.images_skipped += 1;
            }
            // A single image has no statistics to normalise by.
            if batch.indices.len() < 2 {
                continue;
            }
            let (images, labels) = Sent::new(&batch, member.device())?.to(member.lane(), 0)?;
            let next = u64::try_from(batch.next)?;
            let on_device = DeviceBatch { images, labels, indices: &batch.indices, next };
            let (loss, right) = member.gradient(&on_device, self.version)?;
            let samples = u64::try_from(batch.indices.len())?;
            work.samples += samples;
            work.loss += loss.double_value(&[]);
            work.right += right.double_value(&[]);
            if let Some(sum) = &mut self.sum {
                let _no_grad = tch::no_grad_guard();
                *sum += &member.model.flat().gradient * i64::try_from(samples)?;
            }
            speech.alive();
        }
        if let Some(sum) = &mut self.sum
            && work.samples > 0
        {
            let _no_grad = tch::no_grad_guard();
            let mean = &*sum / i64::try_from(work.samples)?;
            member.model.parts().0.gradient.copy_(&mean);
            let _ = sum.zero_();
        }
        Ok(work)
    }

    fn exchange(
        &mut self,
        member: &mut Member,
        exchange: &mut dyn Exchange,
        work: Option<&Work>,
        wanted: usize,
    ) -> Result<Assignment> {
        let _no_grad = tch::no_grad_guard();
        let flat = member.model.parts().0;
        let version = self.version;
        let mut call = |gradient: &[f32], weights: &mut [f32]| {
            let finished = work.map(|work| Finished {
                version,
                ranges: work.ranges.clone(),
                samples: work.samples,
                loss: work.loss,
                right: work.right,
                gradient: (work.samples > 0).then_some(Values::F32(gradient)),
                norm: None,
            });
            exchange.exchange(finished.as_ref(), wanted, weights)
        };
        let assignment = match &mut self.host {
            None => {
                let [weights, gradient, ..] = flat.slices();
                call(gradient, weights)?
            }
            Some([weights, gradient]) => {
                if work.is_some_and(|work| work.samples > 0) {
                    let travelling = flat.gradient.to_device(Device::Cpu).to_kind(Kind::Float);
                    let len = gradient.len();
                    travelling.copy_data(gradient, len);
                }
                let assignment = call(gradient, weights)?;
                flat.weights.copy_(&Tensor::from_slice(weights).to_device(flat.weights.device()));
                assignment
            }
        };
        self.version = assignment.version;
        Ok(assignment)
    }

    fn take(&mut self, assignment: &Assignment) -> Result<()> {
        self.phase = assignment.phase;
        if assignment.is_fresh || self.stream.as_ref().is_none_or(|(epoch, _)| *epoch != assignment.epoch) {
            self.ranges.clear();
            self.stream = None;
        }
        if assignment.ranges.is_empty() {
            return Ok(());
        }
        let (_, stream) = self.stream.get_or_insert_with(|| {
            let options = StreamOptions { epoch: assignment.epoch, ..self.options.clone() };
            (assignment.epoch, train_stream_on_demand(&self.dataset, options))
        });
        for range in &assignment.ranges {
            stream.ask(usize::try_from(range.first)?..usize::try_from(range.next)?);
            self.ranges.push_back(*range);
        }
        Ok(())
    }
}
