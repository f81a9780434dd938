//! Made-up numbers that look like training: the same for the same trial and epoch, whoever asks.

use sweeps::metrics::Point;
use sweeps::trial::Trial;

/// Optimizer steps that an epoch pretends to have.
pub(crate) const STEPS_PER_EPOCH: u64 = 100;

/// What an epoch measured; `epoch` from 1. Accuracy rises with α, with ρ and with the epoch.
pub(crate) fn of_epoch(trial: &Trial, epoch: u32) -> Vec<Point> {
    let progress = 1.0 - (-3.0 * f64::from(epoch) / f64::from(trial.training.epochs.max(1))).exp();
    let width = 1.0 - 0.35 * (-1.8 * trial.alpha).exp();
    let detail = 1.0 - 0.3 * (-f64::from(trial.resolution) / 96.0).exp();
    let chance = 1.0 / f64::from(trial.data.classes.max(1));
    let top1 = (0.9 * width * detail * progress + luck(trial.seed)).clamp(chance.min(0.9), 1.0);
    let top5 = 1.0 - (1.0 - top1).powi(3);
    let stairs = (f64::from(epoch) / trial.training.schedule.every_epochs.max(1e-9)).floor();
    let mut points = vec![
        ("val_top1", top1),
        ("val_loss", -top1.ln() + 0.1),
        ("train_loss", -top1.ln() + 0.05),
        ("train_top1", 1.0 - (1.0 - top1) * 0.9),
        ("learning_rate", trial.training.learning_rate * trial.training.schedule.decay.powf(stairs)),
        ("images_per_second", 1.0e5 / (trial.alpha * f64::from(trial.resolution))),
        ("data_wait_seconds", 0.01),
        ("epoch_seconds", 1.0),
        ("eval_seconds", 0.1),
        ("images_skipped", 0.0),
    ];
    if trial.data.classes >= 6 {
        points.push(("val_top5", top5));
    }
    points.into_iter().map(|(name, value)| Point { name: name.to_owned(), step: u64::from(epoch), value }).collect()
}

/// Two points within the epoch.
pub(crate) fn within_epoch(trial: &Trial, epoch: u32) -> Vec<Point> {
    let start = u64::from(epoch.saturating_sub(1)) * STEPS_PER_EPOCH;
    let loss = of_epoch(trial, epoch).into_iter().find(|point| point.name == "train_loss").map_or(0.0, |p| p.value);
    [(STEPS_PER_EPOCH / 2, 1.1), (STEPS_PER_EPOCH, 1.0)]
        .map(|(step, factor)| Point { name: "step_loss".to_owned(), step: start + step, value: loss * factor })
        .into()
}

/// A seed's part in the result: up to half a thousandth either way.
fn luck(seed: u64) -> f64 {
    let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54;
    (f64::from(u32::try_from(mixed).unwrap_or(0)) / 1023.0 - 0.5) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::tests::trial;

    fn top1(alpha: f64, resolution: u32, epoch: u32) -> f64 {
        let mut trial = trial(10);
        (trial.alpha, trial.resolution) = (alpha, resolution);
        of_epoch(&trial, epoch).into_iter().find(|point| point.name == "val_top1").unwrap().value
    }

    #[test]
    fn accuracy_rises_with_alpha_resolution_and_epoch() {
        assert!(top1(0.25, 128, 5) < top1(0.5, 128, 5));
        assert!(top1(0.5, 128, 5) < top1(0.5, 224, 5));
        assert!(top1(0.5, 224, 5) < top1(0.5, 224, 10));
    }

    #[test]
    fn every_point_is_in_the_table_and_finite() {
        for epoch in 1..=10 {
            let trial = trial(10);
            for point in of_epoch(&trial, epoch).into_iter().chain(within_epoch(&trial, epoch)) {
                assert!(sweeps::metrics::find(&point.name).is_some(), "{}", point.name);
                assert!(point.value.is_finite(), "{}", point.name);
            }
        }
    }
}
