//! The gRPC contract, and the only place where wire types become domain types.
//!
//! [`wire`] is generated from `proto/alpharho.proto`; [`convert`] turns its messages into the types of
//! `sweeps` and back, checking what came from outside; [`gradients`] is generated from
//! `proto/gradients.proto`; [`link`] is what an agent and its trainer say to each
//! other over a pipe.

mod codec;
pub mod convert;
pub mod link;

/// Generated from `proto/alpharho.proto`, which documents every message.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code; the contract's file has the words")]
pub mod wire {
    tonic::include_proto!("alpharho.v1");
}

/// Generated from `proto/gradients.proto`: what the replicas of a trial say to their chief.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code; the contract's file has the words")]
pub mod gradients {
    tonic::include_proto!("alpharho.gradients.v1");
}
