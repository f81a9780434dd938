//! What to run, in which order, on whom: the pure heart of alpharho.
//!
//! This room knows no clock, file, thread, socket, database or tensor. Time, seeds and ids come in as
//! arguments; commands go out as values. It is therefore simulated whole in its tests.
//!
//! The way of the data: [`spec`] (the sweep file) → [`trial`] (its cells, resolved) → [`scheduler`] (who
//! trains what, when). [`network`] says what a cell costs, [`plan`] what a sweep will take, [`metrics`] what may be
//! reported of a trial.

mod canonical;
pub mod event;
pub mod ids;
pub mod metrics;
pub mod network;
pub mod plan;
pub mod scheduler;
pub mod spec;
pub mod trial;
