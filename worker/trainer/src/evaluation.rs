//! Accuracy and loss on the validation set.

use crate::batch::Sent;
use crate::crew::Crew;
use crate::member::{Member, as_f64};
use crate::model::{Mode, Model};
use anyhow::{Result, ensure};
use images::{Batch, DataError};
use tch::{Kind, Tensor};

/// Fewer classes make "among the five likeliest" meaningless.
const CLASSES_FOR_TOP5: u32 = 6;

/// Name and value of each metric of a member.
pub type Measured = Vec<(&'static str, f64)>;

/// What training goes on with after an evaluation that used other weights or statistics.
#[derive(Debug)]
struct Set {
    weights: Option<Tensor>,
    statistics: Option<Tensor>,
}

/// Evaluates all members over one stream of images. `batches` makes a stream of validation batches, `training`
/// one of training batches, for re-estimating statistics. Gives name and value of each member's metrics.
///
/// Evaluated are the averaged weights where there are any, with running statistics or those of the first
/// `reestimate_batches` training batches; the members' own are put back afterwards. Statistics that were estimated
/// anew are kept beside them for the checkpoint, so that what is exported is what was evaluated. `go_on` is asked
/// after each batch; once it says no, nothing is given.
///
/// # Errors
/// When data cannot be read.
pub fn evaluate<V, T>(
    crew: &mut Crew,
    members: &mut [Member],
    validation: impl FnOnce() -> V,
    training: impl FnOnce() -> T,
    go_on: impl FnMut() -> bool,
) -> Result<Option<Vec<Measured>>>
where
    V: Iterator<Item = Result<Batch, DataError>>,
    T: Iterator<Item = Result<Batch, DataError>>,
{
    let _no_grad = tch::no_grad_guard();
    let kept: Vec<Set> = in_lanes(members, swap_in)?;
    let images_seen = add_up(crew, members, validation, training, go_on);
    let is_whole = matches!(images_seen, Ok(Some(_)));
    let mut kept = kept.into_iter();
    in_lanes(members, |member| kept.next().map(|kept| put_back(member, &kept, is_whole)))?;
    let Some(images_seen) = images_seen? else { return Ok(None) };
    ensure!(images_seen > 0, "there is no validation image that can be read");
    let images = as_f64(images_seen);
    let measured = in_lanes(members, |member| -> Result<Measured> {
        let sums = Vec::<f64>::try_from(&member.counted)?;
        let mut metrics = vec![("val_top1", sums[1] / images), ("val_loss", sums[0] / images)];
        if member.trial.data.classes >= CLASSES_FOR_TOP5 {
            metrics.insert(1, ("val_top5", sums[2] / images));
        }
        Ok(metrics)
    });
    measured?.into_iter().collect::<Result<_>>().map(Some)
}

/// Does something for each member where its work goes.
fn in_lanes<T>(members: &mut [Member], mut work: impl FnMut(&mut Member) -> T) -> Result<Vec<T>> {
    members.iter_mut().map(|member| member.lane().run(|| work(member))).collect()
}

/// Has each member count over all batches ([`count`]); gives how many images there were.
fn add_up<V, T>(
    crew: &mut Crew,
    members: &mut [Member],
    validation: impl FnOnce() -> V,
    training: impl FnOnce() -> T,
    mut go_on: impl FnMut() -> bool,
) -> Result<Option<u64>>
where
    V: Iterator<Item = Result<Batch, DataError>>,
    T: Iterator<Item = Result<Batch, DataError>>,
{
    let device = crew.device();
    let reestimate = members.iter().map(batches_to_estimate).max().unwrap_or(0);
    if reestimate > 0 {
        for (number, batch) in training().take(reestimate).enumerate() {
            let batch = batch?;
            // The mean over all batches so far: the newest weighs 1 / (number + 1).
            let decay = 1.0 - 1.0 / as_f64(u64::try_from(number)? + 1);
            let sent = Sent::new(&batch, device)?;
            let done = crew.each(members, |member| {
                if number < batches_to_estimate(member) {
                    let _no_grad = tch::no_grad_guard();
                    let (images, _) = sent.to(member.lane(), member.stream_place)?;
                    let _ = member.model.logits(&images, Mode::Estimate { decay })?;
                }
                Ok(())
            })?;
            done.into_iter().collect::<Result<()>>()?;
            if !go_on() {
                return Ok(None);
            }
        }
    }
    in_lanes(members, |member| member.counted.zero_())?;
    let mut images_seen = 0_u64;
    for batch in validation() {
        let batch = batch?;
        if batch.labels.is_empty() {
            continue;
        }
        images_seen += u64::try_from(batch.labels.len())?;
        let sent = Sent::new(&batch, device)?;
        let done = crew.each(members, |member| {
            let _no_grad = tch::no_grad_guard();
            let (images, labels) = sent.to(member.lane(), member.stream_place)?;
            let logits = member.model.logits(&images, Mode::Evaluate)?;
            member.counted += count(&logits, &labels, member.trial.data.classes);
            Ok(())
        })?;
        done.into_iter().collect::<Result<()>>()?;
        if !go_on() {
            return Ok(None);
        }
    }
    Ok(Some(images_seen))
}

/// Sum of losses, images right, images whose class is among the five likeliest: f64, `[3]`.
fn count(logits: &Tensor, labels: &Tensor, classes: u32) -> Tensor {
    let loss = logits.cross_entropy_loss::<Tensor>(labels, None, tch::Reduction::Sum, -100, 0.0);
    let right = logits.argmax(-1, false).eq_tensor(labels).sum(Kind::Double);
    let five = i64::from(classes.min(5));
    let (_, likeliest) = logits.topk(five, -1, true, false);
    let among = likeliest.eq_tensor(&labels.unsqueeze(-1)).any_dim(-1, false).sum(Kind::Double);
    Tensor::stack(&[loss.to_kind(Kind::Double), right, among], 0)
}

fn batches_to_estimate(member: &Member) -> usize {
    usize::try_from(member.reestimate_batches()).unwrap_or(0)
}

fn swap_in(member: &mut Member) -> Set {
    let statistics = (batches_to_estimate(member) > 0).then(|| member.model.statistics().copy());
    let (flat, _) = member.model.parts();
    let weights = flat.average.as_ref().map(|average| {
        let own = flat.weights.copy();
        flat.weights.shallow_clone().copy_(average);
        own
    });
    Set { weights, statistics }
}

/// Makes a loaded checkpoint's model what was evaluated when it was saved: averaged weights where there are any, and
/// the statistics that were estimated anew where those were.
pub fn take_evaluated(model: &mut Model) {
    let _no_grad = tch::no_grad_guard();
    if let Some(average) = &model.flat().average {
        model.flat().weights.shallow_clone().copy_(average);
    }
    if let Some(evaluated) = model.evaluated() {
        model.statistics().shallow_clone().copy_(evaluated);
    }
}

fn put_back(member: &mut Member, kept: &Set, is_whole: bool) {
    if let Some(weights) = &kept.weights {
        member.model.parts().0.weights.copy_(weights);
    }
    if let Some(statistics) = &kept.statistics {
        if is_whole {
            member.model.keep_evaluated();
        }
        member.model.statistics().shallow_clone().copy_(statistics);
    }
}
