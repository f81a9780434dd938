//! A buffer cut into blocks that threads take, and sums by channel over all of them.

use std::sync::{Mutex, OnceLock, PoisonError};

/// Values of a block: small enough for a core's own cache, together with what is computed from them.
const BLOCK: usize = 1 << 15;
/// Values that a compiled loop takes at a time: four of the widest vectors. What is left at a row's end is taken one by one.
const STEP: usize = 64;

/// Threads that share work.
pub trait Team: Sync {
    /// Does `work` for each number below `count`, in any order, on any of its threads.
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync));
}

/// The calling thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Team for Alone {
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..count).for_each(work);
    }
}

/// How a buffer of so many channels is walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    pub(crate) channels: usize,
    /// Values after which both a pixel and a step begin.
    pub(crate) row: usize,
    /// Values of a block: whole rows.
    block: usize,
}

impl Walk {
    pub(crate) fn new(channels: usize) -> Self {
        let channels = channels.max(1);
        let mut row = channels;
        while !row.is_multiple_of(STEP) {
            row += channels;
        }
        Self { channels, row, block: row * (BLOCK / row).max(1) }
    }

    /// What is known of each channel, for each value of a row.
    pub(crate) fn repeat(&self, of_channels: &[f32]) -> Vec<f32> {
        of_channels.iter().copied().cycle().take(self.row).collect()
    }

    /// Cuts a buffer into blocks.
    pub(crate) fn cut<'a>(&self, values: &'a [f32]) -> Vec<&'a [f32]> {
        values.chunks(self.block).collect()
    }

    /// The same to be written to, each by whoever locks it.
    pub(crate) fn cut_mut<'a>(&self, values: &'a mut [f32]) -> Vec<Mutex<&'a mut [f32]>> {
        values.chunks_mut(self.block).map(Mutex::new).collect()
    }

    /// Adds up two sums by channel over all blocks. `sum` adds a block to two rows of zeros.
    pub(crate) fn sums(
        &self,
        team: &dyn Team,
        blocks: usize,
        sum: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
    ) -> [Vec<f64>; 2] {
        let partial: Vec<OnceLock<[Vec<f64>; 2]>> = (0..blocks).map(|_| OnceLock::new()).collect();
        team.each(blocks, &|block| {
            let (mut first, mut second) = (vec![0.0; self.row], vec![0.0; self.row]);
            sum(block, &mut first, &mut second);
            // Each is done once.
            let _ = partial[block].set([self.fold(&first), self.fold(&second)]);
        });
        let mut totals = [vec![0.0; self.channels], vec![0.0; self.channels]];
        for sums in partial.into_iter().filter_map(OnceLock::into_inner) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
            }
        }
        totals
    }

    /// A row's sums by channel.
    fn fold(&self, row: &[f32]) -> Vec<f64> {
        let mut channels = vec![0.0; self.channels];
        for pixel in row.chunks_exact(self.channels) {
            channels.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        channels
    }
}

/// Locks a block, whatever became of who had it before.
pub(crate) fn lock<'a, 'b>(block: &'b Mutex<&'a mut [f32]>) -> std::sync::MutexGuard<'b, &'a mut [f32]> {
    block.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_begin_with_a_pixel_and_a_step() {
        for (channels, row) in [(8, 64), (9, 576), (16, 64), (24, 192), (64, 64), (100, 1600), (1024, 1024), (1, 64)] {
            let walk = Walk::new(channels);
            assert_eq!((walk.row, walk.row % channels, walk.row % STEP), (row, 0, 0), "{channels}");
            assert!(walk.block.is_multiple_of(row) && walk.block <= BLOCK, "{channels}");
        }
    }
}
