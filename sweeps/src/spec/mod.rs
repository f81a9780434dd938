//! The sweep file: [`model`] holds its values.

pub mod model;
mod words;
