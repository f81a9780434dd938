//! Which samples of the epoch are whose: handed out in order, each counted once.

use std::collections::{BTreeMap, BTreeSet};

/// A range that has been in one hand for longer, and for much longer than others were, is handed out again.
const HAND_PATIENCE_MS: u64 = 60_000;

/// Places in the epoch's order of samples: from `first` on, before `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The one after the last.
    pub next: u64,
}

impl Range {
    /// Places in it.
    #[must_use]
    pub fn len(self) -> u64 {
        self.next.saturating_sub(self.first)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The ranges of one epoch. Every place is in one of four states: not handed out yet, given back and waiting to be
/// handed out again, in some replica's hand, or done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    size: u64,
    total: u64,
    next: u64,
    returned: BTreeSet<Range>,
    held: BTreeMap<Range, Held>,
    /// The longest that any range was in a hand until it was done.
    slowest_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    replica: u32,
    since_ms: u64,
}

impl Ranges {
    /// An epoch of `total` samples in ranges of `size`, of which all before `next` are done but those in `holes`.
    #[must_use]
    pub fn new(total: u64, size: u64, next: u64, holes: &[Range]) -> Self {
        Self {
            size: size.max(1),
            total,
            next: next.min(total),
            returned: holes.iter().copied().filter(|hole| !hole.is_empty()).collect(),
            held: BTreeMap::new(),
            slowest_ms: 0,
        }
    }

    /// Puts the next range into a replica's hand: one that was given back first. None if nothing is left to hand out.
    pub fn hand_out(&mut self, replica: u32, now_ms: u64) -> Option<Range> {
        let range = match self.returned.pop_first() {
            Some(range) => range,
            None if self.next < self.total => {
                let range = Range { first: self.next, next: (self.next + self.size).min(self.total) };
                self.next = range.next;
                range
            }
            None => return None,
        };
        self.held.insert(range, Held { replica, since_ms: now_ms });
        Some(range)
    }

    /// Whether something is left to hand out.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.next < self.total || !self.returned.is_empty()
    }

    /// Whether that range is in that replica's hand.
    #[must_use]
    pub fn holds(&self, replica: u32, range: Range) -> bool {
        self.held.get(&range).is_some_and(|held| held.replica == replica)
    }

    /// How many ranges a replica has in hand.
    #[must_use]
    pub fn held_by(&self, replica: u32) -> usize {
        self.held.values().filter(|held| held.replica == replica).count()
    }

    /// A range in some hand is done.
    pub fn finish(&mut self, range: Range, now_ms: u64) {
        if let Some(held) = self.held.remove(&range) {
            self.slowest_ms = self.slowest_ms.max(now_ms.saturating_sub(held.since_ms));
        }
    }

    /// A range in some hand is to be handed out again.
    pub fn give_back(&mut self, range: Range) {
        if self.held.remove(&range).is_some() {
            self.returned.insert(range);
        }
    }

    /// All that a replica has in hand is to be handed out again. How many ranges that were.
    pub fn leave(&mut self, replica: u32) -> usize {
        self.give_back_where(|held| held.replica == replica)
    }

    /// So is what has been in one hand for a minute, and ten times as long as anything took so far: whoever has it
    /// hangs.
    pub fn give_back_overdue(&mut self, now_ms: u64) -> usize {
        let patience_ms = HAND_PATIENCE_MS.max(self.slowest_ms.saturating_mul(10));
        self.give_back_where(|held| now_ms.saturating_sub(held.since_ms) > patience_ms)
    }

    fn give_back_where(&mut self, which: impl Fn(&Held) -> bool) -> usize {
        let ranges: Vec<Range> = self.held.iter().filter(|(_, held)| which(held)).map(|(range, _)| *range).collect();
        for range in &ranges {
            self.give_back(*range);
        }
        ranges.len()
    }

    /// Whether every sample is done.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.next >= self.total && self.returned.is_empty() && self.held.is_empty()
    }

    /// Samples done.
    #[must_use]
    pub fn done(&self) -> u64 {
        let open: u64 = self.holes().iter().map(|hole| hole.len()).sum();
        self.next - open
    }

    /// All before this is done, but [`Self::holes`].
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What is before [`Self::next`] and not done: what a checkpoint must remember.
    #[must_use]
    pub fn holes(&self) -> Vec<Range> {
        let mut holes: Vec<Range> = self.returned.iter().chain(self.held.keys()).copied().collect();
        holes.sort_unstable();
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn range(first: u64, next: u64) -> Range {
        Range { first, next }
    }

    #[test]
    fn they_come_in_order_and_end() {
        let mut ranges = Ranges::new(10, 4, 0, &[]);
        assert_eq!(ranges.hand_out(0, 0), Some(range(0, 4)));
        assert_eq!(ranges.hand_out(1, 0), Some(range(4, 8)));
        ranges.give_back(range(0, 4));
        assert_eq!(ranges.hand_out(1, 0), Some(range(0, 4)));
        assert_eq!(ranges.hand_out(0, 0), Some(range(8, 10)));
        assert_eq!(ranges.hand_out(0, 0), None);
        assert!(!ranges.is_over());
        for done in [range(0, 4), range(4, 8), range(8, 10)] {
            ranges.finish(done, 0);
        }
        assert!(ranges.is_over());
    }

    #[test]
    fn a_range_is_its_holders_alone() {
        let mut ranges = Ranges::new(8, 4, 0, &[]);
        let first = ranges.hand_out(0, 100).unwrap();
        assert!(ranges.holds(0, first) && !ranges.holds(1, first));
        assert_eq!(ranges.give_back_overdue(60_100), 0);
        assert_eq!(ranges.give_back_overdue(60_101), 1);
        assert!(!ranges.holds(0, first));
        assert_eq!(ranges.hand_out(1, 70_000), Some(first));
        assert!(ranges.holds(1, first));
        // It took 10 s; so nothing is overdue before 100.
        ranges.finish(first, 80_000);
        let second = ranges.hand_out(0, 80_000).unwrap();
        assert_eq!(ranges.give_back_overdue(180_000), 0);
        assert_eq!(ranges.give_back_overdue(180_001), 1);
        assert!(!ranges.holds(0, second));
    }

    /// Whatever replicas do, each sample is done once, and a copy made from what a checkpoint keeps goes on so.
    #[test]
    fn every_sample_is_done_once() {
        for seed in 0..200 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let mut below = |bound: u64| random.next_u64() % bound.max(1);
            let (total, size) = (below(90), 1 + below(9));
            let mut ranges = Ranges::new(total, size, 0, &[]);
            let mut done = vec![0_u32; usize::try_from(total).unwrap()];
            let mut hands: Vec<(u32, Range)> = Vec::new();
            let mut events = 0;
            while !ranges.is_over() {
                events += 1;
                assert!(events < 10_000, "seed {seed} does not end");
                match below(10) {
                    0 => {
                        let replica = u32::try_from(below(3)).unwrap();
                        ranges.leave(replica);
                    }
                    1 => {
                        ranges = Ranges::new(total, size, ranges.next(), &ranges.holes());
                    }
                    2..=5 => {
                        let replica = u32::try_from(below(3)).unwrap();
                        hands.extend(ranges.hand_out(replica, 0).map(|range| (replica, range)));
                    }
                    _ if !hands.is_empty() => {
                        let place = usize::try_from(below(u64::try_from(hands.len()).unwrap())).unwrap();
                        let (replica, range) = hands.swap_remove(place);
                        if ranges.holds(replica, range) {
                            ranges.finish(range, 0);
                            for at in range.first..range.next {
                                done[usize::try_from(at).unwrap()] += 1;
                            }
                        }
                    }
                    _ => {}
                }
                let counted = u64::from(done.iter().sum::<u32>());
                assert_eq!(ranges.done(), counted, "seed {seed}");
            }
            assert!(done.iter().all(|times| *times == 1), "seed {seed}: {done:?}");
        }
    }
}
