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
/// Batches that each way to share a CPU is tried with; the middle one of all but the first counts.
const TRIED_IN_TURN: usize = 4;
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

/// With how many of the slot's threads each of these members should compute: measured on copies of the middle one, in turn, so
/// that whatever else the machine does falls on all ways. A trial alone takes them all.
///
/// Not of the one in the middle of the work: it is a large one, which several threads serve nearly as well, so that what they
/// lose on small ones would be lost in noise.
///
/// # Errors
/// When a network cannot be made.
pub fn choose_threads(members: &[&link::Member], device: Device, threads: u32) -> Result<u32> {
    let threads = threads.max(1);
    let by_cost = by_cost(members);
    let middle = by_cost.get(by_cost.len() / 2).filter(|_| device == Device::Cpu && threads > 1 && members.len() > 1);
    let Some((_, middle)) = middle else { return Ok(threads) };
    let mut crew = Crew::new(device, threads);
    let each = std::iter::successors(Some(threads), |each| (*each > 1).then_some(each / 2));
    let ways = each.map(|each| Way::new(middle, each, crew.at_a_time(each).min(members.len())));
    let mut ways = ways.collect::<Result<Vec<Way>>>()?;
    for _ in 0..TRIED_IN_TURN {
        ways.iter_mut().try_for_each(|way| way.train(&mut crew))?;
    }
    let mut best = (0.0, threads);
    for Way { each, copies, mut seconds } in ways {
        // The first batch found memory and kernels cold.
        seconds.remove(0);
        seconds.sort_by(f64::total_cmp);
        let rate = copies.len() as f64 / seconds[seconds.len() / 2].max(1e-9);
        if rate > best.0 * WORTH_IT {
            best = (rate, each);
        }
    }
    Ok(best.1)
}

/// Copies of a member that are trained at a time, with so many threads each.
struct Way {
    each: u32,
    copies: Vec<Member>,
    /// Of each batch.
    seconds: Vec<f64>,
}

impl Way {
    fn new(member: &link::Member, each: u32, count: usize) -> Result<Self> {
        let copies = (0..count).map(|_| {
            let fresh = link::Member { resume: None, threads: each, ..member.clone() };
            Member::new(fresh, Device::Cpu, u64::from(TRIED_IMAGES))
        });
        Ok(Self { each, copies: copies.collect::<Result<_>>()?, seconds: Vec::new() })
    }

    /// A batch of each. What comes of it does not matter, only how long it takes.
    fn train(&mut self, crew: &mut Crew) -> Result<()> {
        let indices: Vec<u32> = (0..TRIED_IMAGES).collect();
        let began = Instant::now();
        crew.each(&mut self.copies, |member| {
            let side = i64::from(member.trial.resolution);
            let images = Tensor::zeros([i64::from(TRIED_IMAGES), side, side, 3], (Kind::Uint8, Device::Cpu));
            let labels = Tensor::zeros([i64::from(TRIED_IMAGES)], (Kind::Int64, Device::Cpu));
            member.step(&DeviceBatch { images, labels, indices: &indices, next: 0 }).map(drop)
        })?;
        self.seconds.push(began.elapsed().as_secs_f64());
        Ok(())
    }
}

/// With what training on one image costs, the cheapest first.
pub(crate) fn by_cost<'a>(members: &[&'a link::Member]) -> Vec<(u64, &'a link::Member)> {
    let mut costs: Vec<(u64, &link::Member)> = members
        .iter()
        .filter_map(|member| {
            let trial = &member.trial;
            let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes).ok()?;
            Some((network.cost().work(), *member))
        })
        .collect();
    costs.sort_by_key(|(cost, _)| *cost);
    costs
}
