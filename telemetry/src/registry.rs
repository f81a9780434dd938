//! Numbers under names, in Prometheus' text format.

use prometheus::core::Collector;
use prometheus::{HistogramOpts, Opts, TextEncoder};
use std::sync::{Arc, Mutex, PoisonError};

pub use prometheus::{
    Error as MetricError, Gauge, GaugeVec as Gauges, Histogram, HistogramVec as Histograms, IntCounter as Counter,
    IntCounterVec as Counters,
};

/// Seconds, from a millisecond to a minute: for transactions, calls and uploads.
pub const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds, from one to a day: for epochs and attempts.
pub const LONG_SECONDS: &[f64] =
    &[1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0, 57_600.0, 86_400.0];

/// How a number behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Only grows, until its process starts anew.
    Counter,
    /// What is now.
    Gauge,
    /// How many of what was measured were at most so large.
    Histogram,
}

/// One name, with all its labels' values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: String,
    /// How it behaves.
    pub kind: Kind,
    /// One sentence for people.
    pub help: String,
    /// Names of its labels.
    pub labels: Vec<String>,
}

impl Family {
    /// The names that samples carry: a histogram has three.
    #[must_use]
    pub fn samples(&self) -> Vec<String> {
        match self.kind {
            Kind::Counter | Kind::Gauge => vec![self.name.clone()],
            Kind::Histogram => ["bucket", "sum", "count"].map(|part| format!("{}_{part}", self.name)).to_vec(),
        }
    }
}

/// All numbers of a process.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    inner: prometheus::Registry,
    families: Arc<Mutex<Vec<Family>>>,
}

impl Registry {
    /// A number that only grows. Its name ends in `_total`.
    ///
    /// # Errors
    /// When the name is no good, or taken; so for all that follow.
    pub fn counter(&self, name: &str, help: &str) -> Result<Counter, MetricError> {
        self.put(Counter::new(name, help)?, name, Kind::Counter, help, &[])
    }

    /// One for each combination of labels.
    ///
    /// # Errors
    /// See [`Self::counter`].
    pub fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<Counters, MetricError> {
        self.put(Counters::new(Opts::new(name, help), labels)?, name, Kind::Counter, help, labels)
    }

    /// A number that goes up and down.
    ///
    /// # Errors
    /// See [`Self::counter`].
    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricError> {
        self.put(Gauge::new(name, help)?, name, Kind::Gauge, help, &[])
    }

    /// One for each combination of labels.
    ///
    /// # Errors
    /// See [`Self::counter`].
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<Gauges, MetricError> {
        self.put(Gauges::new(Opts::new(name, help), labels)?, name, Kind::Gauge, help, labels)
    }

    /// Measurements, counted by size.
    ///
    /// # Errors
    /// See [`Self::counter`].
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, MetricError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.put(Histogram::with_opts(options)?, name, Kind::Histogram, help, &[])
    }

    /// One for each combination of labels.
    ///
    /// # Errors
    /// See [`Self::counter`].
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<Histograms, MetricError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.put(Histograms::new(options, labels)?, name, Kind::Histogram, help, labels)
    }

    fn put<C: Collector + Clone + 'static>(
        &self,
        metric: C,
        name: &str,
        kind: Kind,
        help: &str,
        labels: &[&str],
    ) -> Result<C, MetricError> {
        self.inner.register(Box::new(metric.clone()))?;
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let family = Family { name: name.to_owned(), kind, help: help.to_owned(), labels };
        self.families.lock().unwrap_or_else(PoisonError::into_inner).push(family);
        Ok(metric)
    }

    /// All names there are, also those of which nothing was counted yet.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What there is now, in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        // Only a family without a sample cannot be written, and none is gathered.
        TextEncoder::new().encode_to_string(&self.inner.gather()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_help_and_type() {
        let registry = Registry::default();
        let ends = registry.counters("ends_total", "Ends.", &["end"]).unwrap();
        let sizes = registry.histogram("size_bytes", "Sizes.", &[1.0, 10.0]).unwrap();
        registry.gauges("nothing_yet", "Never set.", &["slot"]).unwrap();
        ends.with_label_values(&["a \"quoted\" one"]).inc();
        sizes.observe(5.0);
        let expected = "\
# HELP ends_total Ends.
# TYPE ends_total counter
ends_total{end=\"a \\\"quoted\\\" one\"} 1
# HELP size_bytes Sizes.
# TYPE size_bytes histogram
size_bytes_bucket{le=\"1\"} 0
size_bytes_bucket{le=\"10\"} 1
size_bytes_bucket{le=\"+Inf\"} 1
size_bytes_sum 5
size_bytes_count 1
";
        assert_eq!(registry.text(), expected);
        let names: Vec<String> = registry.families().iter().flat_map(Family::samples).collect();
        assert_eq!(names, ["ends_total", "size_bytes_bucket", "size_bytes_sum", "size_bytes_count", "nothing_yet"]);
        assert!(registry.counter("ends_total", "Twice.").is_err());
        assert!(registry.counter("no good", "A name with a space.").is_err());
    }
}
