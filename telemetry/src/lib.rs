//! What operators read: logs in two forms ([`log`]), and numbers in Prometheus' text format ([`registry`]) over
//! HTTP ([`http`]).
//!
//! Which numbers there are is the business of those who count: `coordinator::metrics` and `agent::metrics`.

pub mod http;
pub mod log;
pub mod registry;

pub use registry::{Counter, Counters, Family, Gauge, Gauges, Histogram, Histograms, Kind, MetricError, Registry};
