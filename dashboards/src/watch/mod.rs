//! The terminal dashboard: what is known ([`model`]), what is asked for ([`actions`]), what is shown.
//!
//! Nothing here knows a clock, a socket or a terminal. Whoever runs it gives [`Watch`] what came ([`Input`]) with the
//! time, does what it asks ([`Ask`]), and lets it draw when [`Watch::is_dirty`]. So it is tested without any of them.

pub mod actions;
mod app;
mod chart;
pub mod detail;
mod dialog;
mod events;
mod fold;
mod grid;
mod hits;
mod input;
mod keys;
pub mod model;
mod paint;
pub mod points;
mod screen;
mod table;
pub mod theme;
mod tradeoff;
mod tradeoff_cell;
mod trial;
mod workers;

pub use actions::Ask;
pub use app::{Screen, Setup, Watch};
pub use fold::Wanted;
pub use input::{Input, Link};
