//! The scheduler's main test: seeded worlds of simulated workers and a bad network, chaos first, then healed.
//!
//! A failure prints its seed; `ALPHARHO_SEED=17 cargo test -p alpharho-sweeps --test simulation small` runs that one alone.
#![expect(clippy::expect_used, clippy::panic, reason = "tests")]

mod agent;
mod behaviour;
mod cohorts;
mod coordinator;
mod ledger;
mod makespan;
mod orders;
mod replicas;
mod trust;
mod world;
mod worlds;
