//! Epochs that were reported and are not yet on the coordinator's disk.
//!
//! A checkpoint is sent behind its epoch's report, by another connection: had it gone ahead, and the report been lost
//! with the lease, nobody could go on from it, as what was measured until then would be missing for ever.

use crate::transfers::Saved;
use proto::convert;
use proto::wire;
use proto::wire::report::Body;
use std::collections::BTreeSet;
use sweeps::ids::Token;
use tokio::sync::watch;

/// Shared by the hub, which hears of acknowledgements, and the leases.
#[derive(Debug, Default)]
pub(crate) struct Unheard(watch::Sender<BTreeSet<(Token, u32)>>);

impl Unheard {
    /// Before the report is given to the hub.
    pub(crate) fn reported(&self, token: Token, epoch: u32) {
        self.0.send_if_modified(|epochs| epochs.insert((token, epoch)));
    }

    /// The coordinator has it, or does not want it.
    pub(crate) fn heard(&self, report: &wire::Report) {
        if let (Some(Body::EpochFinished(finished)), Ok(token)) = (&report.body, convert::token(report.token)) {
            self.0.send_if_modified(|epochs| epochs.remove(&(token, finished.epoch)));
        }
    }

    /// Nobody wants to hear of that token any more.
    pub(crate) fn forget(&self, token: Token) {
        self.0.send_modify(|epochs| epochs.retain(|(other, _)| *other != token));
    }

    /// Whether a report that belongs before that checkpoint is on its way.
    pub(crate) fn has_before(&self, saved: &Saved) -> bool {
        is_before(&self.0.borrow(), saved)
    }

    /// Until there is none any more.
    pub(crate) async fn none_before(&self, saved: &Saved) {
        // The sender is this.
        let _ = self.0.subscribe().wait_for(|epochs| !is_before(epochs, saved)).await;
    }
}

fn is_before(epochs: &BTreeSet<(Token, u32)>, saved: &Saved) -> bool {
    let Ok(token) = convert::token(Some(saved.token)) else { return false };
    epochs.range((token, 0)..=(token, saved.epoch)).next().is_some()
}
