//! The straight line through accuracy on the logarithm of Mult-Adds: the paper's Figure 4 is "log linear with a jump"
//! where models become very small, and the residuals show the jump.

/// A line fitted by least squares: `accuracy = intercept + slope * log10(mult_adds)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Accuracy gained by ten times the Mult-Adds, in the unit of the accuracies given.
    pub slope: f64,
    /// Accuracy at 1 Mult-Add: where the line begins, without a meaning of its own.
    pub intercept: f64,
    /// Share of the accuracies' variance that the line explains, 0 to 1. None where they do not vary: there is nothing to
    /// explain.
    pub r_squared: Option<f64>,
    /// Accuracy minus the line, of each point in the order given.
    pub residuals: Vec<f64>,
}

impl Fit {
    /// The line's accuracy at so many Mult-Adds.
    #[must_use]
    pub fn at(&self, mult_adds: f64) -> f64 {
        self.intercept + self.slope * mult_adds.log10()
    }
}

/// Fits accuracy to log10 of Mult-Adds over points of (Mult-Adds, accuracy). `None` if there are fewer than three
/// points (two always lie on a line), if all have the same Mult-Adds, or if a number is not finite or a cost not
/// positive.
#[must_use]
pub fn log_linear(points: &[(f64, f64)]) -> Option<Fit> {
    let sound = |(cost, value): &(f64, f64)| cost.is_finite() && *cost > 0.0 && value.is_finite();
    if points.len() < 3 || !points.iter().all(sound) {
        return None;
    }
    let count = points.len() as f64;
    let logs: Vec<f64> = points.iter().map(|(cost, _)| cost.log10()).collect();
    let mean_log = logs.iter().sum::<f64>() / count;
    let mean = points.iter().map(|(_, value)| value).sum::<f64>() / count;
    // Sums about the means: no digits are lost to large logarithms.
    let spread: f64 = logs.iter().map(|log| (log - mean_log).powi(2)).sum();
    let common: f64 = logs.iter().zip(points).map(|(log, (_, value))| (log - mean_log) * (value - mean)).sum();
    if spread <= f64::EPSILON * count {
        return None;
    }
    let slope = common / spread;
    let intercept = mean - slope * mean_log;
    let residuals: Vec<f64> =
        logs.iter().zip(points).map(|(log, (_, value))| value - mean - slope * (log - mean_log)).collect();
    let total: f64 = points.iter().map(|(_, value)| (value - mean).powi(2)).sum();
    let left: f64 = residuals.iter().map(|residual| residual.powi(2)).sum();
    // Equal accuracies leave what their mean was rounded by.
    let rounding = count * (f64::EPSILON * mean).powi(2);
    let r_squared = (total > rounding).then(|| (1.0 - left / total).clamp(0.0, 1.0));
    Some(Fit { slope, intercept, r_squared, residuals })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(is: f64, wanted: f64, within: f64) {
        assert!((is - wanted).abs() <= within, "{is} is not {wanted}");
    }

    #[test]
    fn points_on_a_line_give_the_line() {
        let points: Vec<(f64, f64)> =
            [1e6, 1e7, 3e8, 5e8].into_iter().map(|cost: f64| (cost, 0.1 + 0.07 * cost.log10())).collect();
        let fit = log_linear(&points).unwrap();
        near(fit.slope, 0.07, 1e-12);
        near(fit.intercept, 0.1, 1e-12);
        near(fit.r_squared.unwrap(), 1.0, 1e-12);
        near(fit.at(1e8), 0.66, 1e-12);
        assert!(fit.residuals.iter().all(|residual| residual.abs() < 1e-12), "{:?}", fit.residuals);
    }

    /// Anscombe's first set (F. J. Anscombe, "Graphs in Statistical Analysis", 1973): slope 0.5001, intercept
    /// 3.0001, R² 0.6665.
    #[test]
    fn known_values() {
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let points: Vec<(f64, f64)> = x.iter().zip(y).map(|(log, value)| (10f64.powf(*log), value)).collect();
        let fit = log_linear(&points).unwrap();
        near(fit.slope, 0.5001, 5e-5);
        near(fit.intercept, 3.0001, 5e-5);
        near(fit.r_squared.unwrap(), 0.6665, 5e-5);
        near(fit.residuals.iter().sum::<f64>(), 0.0, 1e-9);
        near(fit.residuals[0], 8.04 - 3.0001 - 5.001, 1e-3);
    }

    #[test]
    fn equal_accuracies_are_a_level_line_that_explains_nothing() {
        for value in [0.5, 0.1, 0.93] {
            let fit = log_linear(&[(1e6, value), (1e7, value), (1e8, value)]).unwrap();
            near(fit.slope, 0.0, 1e-15);
            assert_eq!(fit.r_squared, None, "{value}");
        }
    }

    #[test]
    fn what_has_no_line_is_none() {
        for points in [
            vec![],
            vec![(1e6, 0.5), (1e7, 0.6)],
            vec![(1e6, 0.5), (1e6, 0.6), (1e6, 0.7)],
            vec![(1e6, 0.5), (1e7, f64::NAN), (1e8, 0.7)],
            vec![(0.0, 0.5), (1e7, 0.6), (1e8, 0.7)],
        ] {
            assert_eq!(log_linear(&points), None, "{points:?}");
        }
    }
}
