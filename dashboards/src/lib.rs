//! Plots and tables of a sweep. Reads what the coordinator tells over gRPC; never opens the database.
//!
//! [`view::SweepView`] is what is known of a sweep, taken from a `StatusReply`; [`results::Results`] adds its points,
//! attempts and checkpoints. Everything else draws them: [`tables`] for the terminal, [`export`] for files out of
//! [`plot`], [`sheets`] (what stands in each table), [`tabular`] (in which format) and [`report`]. [`trained::Trained`] is what a checkpoint
//! holds: [`weights`] makes timm's file of it, [`onnx`] a graph. [`tensorboard`] writes the metrics as event files.
//! [`watch`] is the dashboard, which keeps a model of its own, small enough for very large sweeps.

pub mod exactness;
pub mod export;
pub mod fit;
pub mod format;
mod grid_markdown;
pub mod happenings;
pub mod onnx;
pub mod origin;
pub mod paper;
pub mod pareto;
pub mod plot;
pub mod report;
pub mod results;
pub mod selection;
pub mod sheets;
pub mod table;
pub mod tables;
pub mod tabular;
pub mod tensorboard;
pub mod trained;
pub mod view;
pub mod watch;
pub mod weights;
