//! Bad input for every door: what comes in from outside is made up or spoilt by seed, and taken by the code that takes
//! it in earnest. No case may panic, hang, or take more memory than its target states.
//!
//! - [`dice`] chance, [`spoil`] what is done to good input, [`contract`] messages made up from the contracts
//! - [`memory`] an allocator that counts
//! - [`run`] tries one target for a while and tells what it found
//! - [`targets`] the doors
//!
//! A short run of each is among the tests; `cargo xtask fuzz` runs them for as long as it is told.

pub mod contract;
pub mod dice;
pub mod memory;
pub mod run;
pub mod spoil;
pub mod targets;

#[global_allocator]
static COUNTED: memory::Counted = memory::Counted;
