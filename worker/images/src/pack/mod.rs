//! The pack: one file that holds a whole set and is mapped into memory. [`layout`] says how it lies on disk.

mod convert;
mod layout;
mod partial;
mod read;
mod write;

pub(super) use read::Pack;
pub use read::{PackCheck, PackSummary, check_pack, show_pack};
pub use write::{PackEvent, PackForm, PackOptions, PackOutcome, pack};
