//! How much of what workers say may wait for the driver: so much of each, so much of all. A worker that says more waits
//! by itself, and whoever says little is behind a few of its messages and not behind all of them.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted: a message, and each of these many bytes of it.
const UNIT_BYTES: usize = 64 << 10;
/// Of one worker: as many messages as an agent has on their way, or 32 MiB.
const OWN_UNITS: usize = 512;
/// Of all: as many messages as the driver's queue holds, or 256 MiB. Given in the order in which it is asked for.
const ALL_UNITS: usize = 4096;

/// A worker's share.
#[derive(Debug)]
pub(super) struct Share {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Room for one message, given back when the driver has taken it.
#[derive(Debug)]
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// The room that all share.
pub(super) fn of_all() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(ALL_UNITS))
}

impl Share {
    pub(super) fn new(all: &Arc<Semaphore>) -> Self {
        Self { own: Arc::new(Semaphore::new(OWN_UNITS)), all: Arc::clone(all) }
    }

    /// Room for a message of so many bytes, if there is some now.
    pub(super) fn try_place(&self, bytes: usize) -> Option<Place> {
        let units = units(bytes);
        let own = Arc::clone(&self.own).try_acquire_many_owned(units).ok()?;
        let all = Arc::clone(&self.all).try_acquire_many_owned(units).ok()?;
        Some(Place { _own: own, _all: all })
    }

    /// Waits for room for a message of so many bytes. None once nobody takes messages any more.
    pub(super) async fn place(&self, bytes: usize) -> Option<Place> {
        let units = units(bytes);
        // Its own first: whoever waits there takes no room of others.
        let own = Arc::clone(&self.own).acquire_many_owned(units).await.ok()?;
        let all = Arc::clone(&self.all).acquire_many_owned(units).await.ok()?;
        Some(Place { _own: own, _all: all })
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from((1 + bytes / UNIT_BYTES).min(OWN_UNITS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn a_worker_that_floods_waits_and_no_other_does() {
        let all = of_all();
        let (flood, quiet) = (Share::new(&all), Share::new(&all));
        let now = |share: &Share, bytes| share.place(bytes).now_or_never().flatten();
        let mut places: Vec<Place> = std::iter::from_fn(|| now(&flood, 100)).take(5_000).collect();
        assert_eq!(places.len(), OWN_UNITS);
        assert!(flood.try_place(100).is_none());
        assert!(now(&quiet, 100).is_some() && quiet.try_place(100).is_some(), "there is room for others");
        places.pop();
        assert!(now(&flood, 100).is_some(), "room is given back");
        places.clear();
        // Of the largest messages a few.
        let large: Vec<Place> = std::iter::from_fn(|| flood.try_place(4 << 20)).take(100).collect();
        assert_eq!(large.len(), 7);
        drop(large);
        assert!(now(&flood, usize::MAX / 2).is_some(), "whatever it says of itself");
    }

    #[test]
    fn all_together_are_bounded_too() {
        let all = of_all();
        let shares: Vec<Share> = (0..100).map(|_| Share::new(&all)).collect();
        let places: Vec<Place> =
            shares.iter().filter_map(|share| share.place(4 << 20).now_or_never().flatten()).collect();
        assert_eq!(places.len(), ALL_UNITS / 65);
    }
}
