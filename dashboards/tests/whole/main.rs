//! Whole exports and tables of made-up sweeps.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../cells/mod.rs"]
mod cells;
mod figures;
mod made_up;
mod text;
