//! The dashboard without a terminal: what it folds, what it asks for, what it draws.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../cells/mod.rs"]
mod cells;
mod folding;
mod keys;
mod made_up;
mod random;
mod screens;
