//! The learning rate as a pure function of the samples seen.

use sweeps::spec::model::Training;

/// The learning rate at a position in the run, in epochs from its start: a linear rise over
/// `warmup_epochs`, and a staircase of factors `decay`, one every `every_epochs` (TensorFlow's
/// `exponential_decay` with `staircase=True`; the warm-up counts into it).
#[must_use]
pub fn learning_rate(training: &Training, position_epochs: f64) -> f64 {
    let schedule = &training.schedule;
    let stairs = (position_epochs / schedule.every_epochs).floor();
    let rise = if position_epochs < schedule.warmup_epochs { position_epochs / schedule.warmup_epochs } else { 1.0 };
    training.learning_rate * schedule.decay.powf(stairs) * rise
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(json: serde_json::Value) -> Training {
        serde_json::from_value(json).unwrap()
    }

    fn check(training: &Training, position: f64, expected: f64) {
        let rate = learning_rate(training, position);
        assert!((rate - expected).abs() < 1e-12, "at {position}: {rate}, not {expected}");
    }

    #[test]
    fn it_falls_by_stairs() {
        let training = training(serde_json::json!({"epochs": 10}));
        check(&training, 0.0, 0.045);
        check(&training, 1.999, 0.045);
        check(&training, 2.0, 0.0423);
        check(&training, 4.5, 0.045 * 0.94 * 0.94);
    }

    #[test]
    fn it_rises_first_where_asked() {
        let training = training(
            serde_json::json!({"epochs": 10, "schedule": {"warmup_epochs": 2, "every_epochs": 1, "decay": 0.5}}),
        );
        check(&training, 0.0, 0.0);
        check(&training, 0.5, 0.045 * 0.25);
        check(&training, 1.5, 0.045 * 0.75 * 0.5);
        check(&training, 2.0, 0.045 * 0.25);
    }
}
