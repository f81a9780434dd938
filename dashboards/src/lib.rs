//! Plots and tables of a sweep. Reads what the coordinator tells over gRPC; never opens the database.
//!
//! [`view::SweepView`] is what is known of a sweep, taken from a `StatusReply`; everything else draws it:
//! [`tables`] for the terminal, [`export`] for files, [`plot`] for figures. [`trained::Trained`] is what a checkpoint
//! holds: [`weights`] makes timm's file of it, [`onnx`] a graph. [`tensorboard`] writes the metrics as event files.

pub mod export;
pub mod fit;
pub mod format;
mod grid_csv;
mod grid_markdown;
pub mod onnx;
pub mod origin;
pub mod paper;
pub mod pareto;
pub mod plot;
pub mod table;
pub mod tables;
pub mod tensorboard;
pub mod trained;
pub mod view;
pub mod weights;
