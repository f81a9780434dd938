//! Who works on the members of a cohort, and with how many threads.
//!
//! A member computes with as many threads as its first attempt did, because its numbers depend on that to the last
//! bit. On a CPU several members are worked on at a time, as many as their threads fit the slot's; small networks use
//! one thread each far better than all of them together. On a GPU one thread hands out the work of all ([`crate::sharing`]).

use crate::gpu::{Mark, Stream};
use crate::member::{DeviceBatch, Member};
use anyhow::{Context, Result};
use proto::link;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;
use sweeps::network::Network;
use tch::{Device, Kind, Tensor};

/// Images in a batch of the measurement.
const TRIED_IMAGES: u32 = 16;
/// Batches of each member that are measured; the fastest counts. The first ones find memory and kernels cold.
pub(crate) const TRIED_BATCHES: usize = 5;
/// More members at a time must be so much faster: they take memory.
pub(crate) const WORTH_IT: f64 = 1.03;

/// A member, and where what came of its work goes.
type Job<'a, T> = (&'a mut Member, &'a mut Option<Result<T>>);

/// The threads of a slot.
#[derive(Debug)]
pub struct Crew {
    device: Device,
    /// Of the slot.
    threads: u32,
    /// What this thread computes with.
    own: u32,
    /// By threads of a member: one for each member that is worked on at a time.
    pools: BTreeMap<u32, ThreadPool>,
    /// Places in a GPU's streams that this thread has not seen reached.
    ahead: Vec<Mark>,
}

impl Crew {
    /// With so many threads in all, at least one.
    #[must_use]
    pub fn new(device: Device, threads: u32) -> Self {
        Self { device, threads: threads.max(1), own: 0, pools: BTreeMap::new(), ahead: Vec::new() }
    }

    /// Where the members compute.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Does something for each member, those that cost most first; gives what came of it in the members' order.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn each<T: Send>(
        &mut self,
        members: &mut [Member],
        work: impl Fn(&mut Member) -> Result<T> + Sync,
    ) -> Result<Vec<Result<T>>> {
        let work = |member: &mut Member| member.lane().run(|| work(member)).flatten();
        let mut results: Vec<Option<Result<T>>> = members.iter().map(|_| None).collect();
        let mut alike: BTreeMap<u32, Vec<Job<'_, T>>> = BTreeMap::new();
        for pair in members.iter_mut().zip(&mut results) {
            alike.entry(pair.0.threads).or_default().push(pair);
        }
        for (threads, mut members) in alike {
            let at_a_time = self.at_a_time(threads).min(members.len());
            if at_a_time == 1 {
                self.compute_with(threads);
                members.into_iter().for_each(|(member, result)| *result = Some(work(member)));
                continue;
            }
            members.sort_by_key(|(member, _)| Reverse(member.work()));
            let (pool, work) = (self.pool(threads)?, &work);
            pool.in_place_scope(|scope| {
                for (member, result) in members {
                    scope.spawn(move |_| *result = Some(work(member)));
                }
            });
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Waits until a GPU has done what the members were given before the last call, so that nobody gives it more than
    /// what keeps it busy: batches that wait there take memory.
    ///
    /// # Errors
    /// What CUDA says of work that went wrong.
    pub fn keep_pace(&mut self, members: &[Member]) -> Result<()> {
        let marks: Result<Vec<Mark>> =
            members.iter().filter_map(|member| member.lane().stream).map(Stream::mark).collect();
        let before = std::mem::replace(&mut self.ahead, marks?);
        before.iter().try_for_each(Mark::wait)
    }

    /// So many members of so many threads each.
    fn at_a_time(&self, threads: u32) -> usize {
        match self.device {
            Device::Cpu => usize::try_from(self.threads / threads.max(1)).unwrap_or(1).max(1),
            _ => 1,
        }
    }

    /// Has this thread compute with so many; others are told where they start.
    pub fn compute_with(&mut self, threads: u32) {
        if self.own != threads {
            tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
            self.own = threads;
        }
    }

    fn pool(&mut self, threads: u32) -> Result<&ThreadPool> {
        // A new thread of libtorch's takes the number that was set last, by whomever.
        self.compute_with(threads);
        let count = self.at_a_time(threads);
        match self.pools.entry(threads) {
            Entry::Occupied(pool) => Ok(pool.into_mut()),
            Entry::Vacant(place) => {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(count)
                    .thread_name(|number| format!("member-{number}"))
                    .start_handler(move |_| tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX)))
                    .build()
                    .context("the threads that members train on cannot be started")?;
                Ok(place.insert(pool))
            }
        }
    }
}

/// With how many of the slot's threads each of these members should compute: measured on copies of the one in the
/// middle of the work. A trial alone takes them all.
///
/// # Errors
/// When a network cannot be made.
pub fn choose_threads(members: &[&link::Member], device: Device, threads: u32) -> Result<u32> {
    let threads = threads.max(1);
    let Some(typical) = typical(members).filter(|_| device == Device::Cpu && threads > 1 && members.len() > 1) else {
        return Ok(threads);
    };
    let mut best = (0.0, threads);
    let mut tried = threads;
    loop {
        let rate = images_per_second(typical, members.len(), device, threads, tried)?;
        if rate > best.0 * WORTH_IT {
            best = (rate, tried);
        }
        if tried == 1 {
            return Ok(best.1);
        }
        tried /= 2;
    }
}

/// The member in the middle: half of the work is in those that cost no more.
pub(crate) fn typical<'a>(members: &[&'a link::Member]) -> Option<&'a link::Member> {
    let mut costs: Vec<(u64, &link::Member)> = members
        .iter()
        .filter_map(|member| {
            let trial = &member.trial;
            let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes).ok()?;
            Some((network.cost().work(), *member))
        })
        .collect();
    costs.sort_by_key(|(cost, _)| *cost);
    let half = costs.iter().map(|(cost, _)| cost).sum::<u64>() / 2;
    let mut sum = 0;
    costs
        .iter()
        .find(|(cost, _)| {
            sum += cost;
            sum >= half
        })
        .map(|(_, member)| *member)
}

fn images_per_second(member: &link::Member, of: usize, device: Device, threads: u32, each: u32) -> Result<f64> {
    let mut crew = Crew::new(device, threads);
    let count = crew.at_a_time(each).min(of);
    let side = i64::from(member.trial.resolution);
    let indices: Vec<u32> = (0..TRIED_IMAGES).collect();
    let batch = || DeviceBatch {
        images: Tensor::zeros([i64::from(TRIED_IMAGES), side, side, 3], (Kind::Uint8, device)),
        labels: Tensor::zeros([i64::from(TRIED_IMAGES)], (Kind::Int64, device)),
        indices: &indices,
        next: 0,
    };
    let copies = (0..count).map(|_| {
        let fresh = link::Member { resume: None, threads: each, ..member.clone() };
        Member::new(fresh, device, u64::from(TRIED_IMAGES))
    });
    let mut copies = copies.collect::<Result<Vec<Member>>>()?;
    let mut fastest = f64::INFINITY;
    for _ in 0..TRIED_BATCHES {
        let began = Instant::now();
        // What comes of it does not matter, only how long it takes.
        crew.each(&mut copies, |member| member.step(&batch()).map(drop))?;
        fastest = fastest.min(began.elapsed().as_secs_f64());
    }
    Ok(count as f64 / fastest.max(1e-9))
}
