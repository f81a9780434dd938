//! Plots and tables of a sweep. Reads what the coordinator tells over gRPC; never opens the database.
//!
//! [`view::SweepView`] is what is known of a sweep, taken from a `StatusReply`; everything else draws it:
//! [`tables`] for the terminal, [`export`] for files, [`plot`] for figures.

pub mod export;
pub mod fit;
pub mod format;
mod grid_csv;
mod grid_markdown;
pub mod paper;
pub mod pareto;
pub mod plot;
pub mod table;
pub mod tables;
pub mod view;
