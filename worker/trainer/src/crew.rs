//! Who works on the members of a cohort, and with how many threads.
//!
//! A member computes with as many threads as its first attempt did, because its numbers depend on that to the last
//! bit. On a CPU several members are worked on at a time, as many as their threads fit the slot's; small networks use
//! one thread each far better than all of them together. On a GPU one thread hands out the work of all, to one stream or
//! to one for each member, step by step or as graphs: whatever is measured to be fastest.

use crate::device::Lane;
use crate::gpu::{Mark, Stream, trim_memory};
use crate::member::{DeviceBatch, Member};
use crate::memory;
use anyhow::{Context, Result, bail};
use proto::link;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;
use sweeps::network::Network;
use sweeps::plan;
use sweeps::trial::Trial;
use tch::{Device, Kind, Tensor};

/// Images in a batch of the measurement.
const TRIED_IMAGES: u32 = 16;
/// Batches of each member that are measured; the fastest counts. The first ones find memory and kernels cold.
const TRIED_BATCHES: usize = 5;
/// Members at a time in a measurement of a GPU.
const TRIED_COPIES: usize = 4;
/// More members at a time must be so much faster: they take memory.
const WORTH_IT: f64 = 1.03;
/// Of a GPU's memory, what is left to chance: other processes, blocks that do not fit where others were.
const MEMORY_SPARED: f64 = 0.1;

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

/// How a GPU is shared by members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sharing {
    /// A stream for each, or one for all.
    pub streams: bool,
    /// Steps kept as graphs.
    pub graphs: bool,
    /// What a member takes of the GPU's memory, measured, as a multiple of [`plan::memory_bytes`].
    pub memory: f64,
    /// Bytes of the GPU's memory that members may take.
    pub room: f64,
}

impl Sharing {
    /// The lane of the next member, where members before it have `one`.
    ///
    /// # Errors
    /// When the GPU is gone.
    pub fn lane(self, gpu: usize, one: Option<Stream>) -> Result<Lane> {
        let stream = match one.filter(|_| !self.streams) {
            Some(stream) => stream,
            None => Stream::new(gpu)?,
        };
        Ok(Lane { device: Device::Cuda(gpu), stream: Some(stream), graphs: self.graphs })
    }

    /// How many of these members, the first ones, have room at a time; one always does.
    ///
    /// # Errors
    /// When a trial is of no network.
    pub fn fitting(self, members: &[Member]) -> Result<usize> {
        let mut room = self.room;
        let mut count = 0;
        for member in members {
            room -= self.memory * estimated_bytes(&member.trial)?;
            if room < 0.0 {
                break;
            }
            count += 1;
        }
        Ok(count.max(1))
    }
}

fn estimated_bytes(trial: &Trial) -> Result<f64> {
    let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes)?;
    Ok(plan::memory_bytes(trial, network.cost()) as f64)
}

/// Names a way of [`WAYS`] that is to be taken without measuring others: where one makes trouble, or in tests.
pub const GPU_SHARING: &str = "ALPHARHO_GPU_SHARING";

/// Whether members have streams of their own, and whether steps are kept as graphs. What is more complicated comes later,
/// and must be worth it.
const WAYS: [(&str, bool, bool); 4] =
    [("launches", false, false), ("streams", true, false), ("graphs", false, true), ("streams+graphs", true, true)];

/// How these members should share a GPU: measured on copies of the one in the middle of the work.
///
/// # Errors
/// When a step cannot be done in any way, as for want of memory; when [`GPU_SHARING`] names none.
pub fn choose_sharing(members: &[&link::Member], gpu: usize) -> Result<Sharing> {
    let Some(typical) = typical(members) else { bail!("there is no trial whose network can be made") };
    let wanted = std::env::var(GPU_SHARING).ok();
    if let Some(wanted) = wanted.as_deref().filter(|wanted| WAYS.iter().all(|(name, ..)| name != wanted)) {
        bail!("{GPU_SHARING}={wanted} is none of {}", WAYS.map(|(name, ..)| name).join(", "));
    }
    let mut best: Option<(f64, Sharing)> = None;
    let mut problem = None;
    for (name, streams, graphs) in WAYS {
        let is_wanted = wanted.as_ref().map_or(members.len() > 1 || !streams, |wanted| wanted == name);
        if !is_wanted {
            continue;
        }
        let sharing = Sharing { streams, graphs, memory: 1.0, room: 0.0 };
        let mut copies = members.len().min(TRIED_COPIES);
        let tried = loop {
            match try_sharing(typical, copies, gpu, sharing) {
                Err(error) if copies > 1 && memory::is_short(&error) => copies /= 2,
                tried => break tried,
            }
        };
        match tried {
            Ok((rate, sharing)) => {
                if best.is_none_or(|(known, _)| rate > known * WORTH_IT) {
                    best = Some((rate, sharing));
                }
            }
            // What cannot be done is not chosen.
            Err(error) => problem = Some(error),
        }
        trim_memory()?;
    }
    match (best, problem) {
        (Some((_, sharing)), _) => {
            let (left, _) = Stream::first(gpu).memory()?;
            Ok(Sharing { room: left as f64 * (1.0 - MEMORY_SPARED), ..sharing })
        }
        (None, Some(problem)) => Err(problem),
        (None, None) => bail!("no way of sharing the GPU was tried"),
    }
}

/// Images a second, and the sharing with its measure of memory.
fn try_sharing(member: &link::Member, count: usize, gpu: usize, sharing: Sharing) -> Result<(f64, Sharing)> {
    let batch = member.trial.training.batch_size;
    let indices: Vec<u32> = (0..batch).collect();
    let side = i64::from(member.trial.resolution);
    let device = Device::Cuda(gpu);
    trim_memory()?;
    let (_, held) = Stream::first(gpu).memory()?;
    let mut copies: Vec<Member> = Vec::new();
    for _ in 0..count {
        let lane = sharing.lane(gpu, copies.last().and_then(|copy| copy.lane().stream))?;
        let fresh = link::Member { resume: None, threads: 1, ..member.clone() };
        copies.push(Member::new(fresh, lane, u64::from(batch))?);
    }
    let mut crew = Crew::new(device, 1);
    let mut fastest = f64::INFINITY;
    // The first two are not like the others: libtorch chooses, the step is kept.
    for _ in 0..TRIED_BATCHES + 2 {
        let began = Instant::now();
        let done = crew.each(&mut copies, |copy| {
            let images = Tensor::f_zeros([i64::from(batch), side, side, 3], (Kind::Uint8, device))?;
            let labels = Tensor::f_zeros([i64::from(batch)], (Kind::Int64, device))?;
            copy.step(&DeviceBatch { images, labels, indices: &indices, next: 0 }).map(drop)
        })?;
        done.into_iter().collect::<Result<()>>()?;
        crew.keep_pace(&copies)?;
        crew.keep_pace(&copies)?;
        fastest = fastest.min(began.elapsed().as_secs_f64());
    }
    if sharing.graphs && !copies.iter().all(Member::has_graph) {
        bail!("the step cannot be kept as a CUDA graph");
    }
    let count = copies.len() as f64;
    let (_, holds) = Stream::first(gpu).memory()?;
    let memory = holds.saturating_sub(held) as f64 / (count * estimated_bytes(&member.trial)?.max(1.0));
    Ok((count / fastest.max(1e-9), Sharing { memory, ..sharing }))
}

/// The member in the middle: half of the work is in those that cost no more.
fn typical<'a>(members: &[&'a link::Member]) -> Option<&'a link::Member> {
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
