//! How the members of a cohort share a GPU: whatever is measured to be fastest, and no more of them at a time than its
//! memory holds, measured too.

use crate::crew::{Crew, WORTH_IT, by_cost};
use crate::device::Lane;
use crate::gpu::{Stream, trim_memory};
use crate::member::{DeviceBatch, Member};
use crate::memory;
use crate::speech::Speech;
use anyhow::{Result, bail};
use proto::link::{self, Said};
use std::time::Instant;
use sweeps::network::Network;
use sweeps::plan;
use sweeps::trial::Trial;
use tch::{Device, Kind, Tensor};

/// Batches of each member that are measured; the fastest counts.
const TRIED_BATCHES: usize = 5;
/// Members at a time in a measurement.
const TRIED_COPIES: usize = 4;
/// Of a GPU's memory, what is left to chance: other processes, blocks that do not fit where others were.
const MEMORY_SPARED: f64 = 0.1;

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

/// Chooses for a GPU, and says so. Nothing on a CPU, or for a trial that other replicas may train too.
///
/// # Errors
/// As [`choose_sharing`].
pub(crate) fn share_gpu(members: &[link::Member], device: Device, speech: &Speech) -> Result<Option<Sharing>> {
    let Device::Cuda(gpu) = device else { return Ok(None) };
    if members.iter().any(|member| member.exchange.is_some()) {
        return Ok(None);
    }
    let sharing = choose_sharing(&members.iter().collect::<Vec<_>>(), gpu)?;
    let streams = if sharing.streams { "a stream each" } else { "one stream" };
    let steps = if sharing.graphs { "CUDA graphs" } else { "single launches" };
    speech.say(&Said::Log { token: None, text: format!("on the GPU with {streams} and {steps}: measured") });
    Ok(Some(sharing))
}

/// Names a way that is to be taken without measuring others: where one makes trouble, or in tests.
pub const GPU_SHARING: &str = "ALPHARHO_GPU_SHARING";

/// Whether members have streams of their own, and whether steps are kept as graphs. What is more complicated comes later,
/// and must be worth it.
const WAYS: [(&str, bool, bool); 4] =
    [("launches", false, false), ("streams", true, false), ("graphs", false, true), ("streams+graphs", true, true)];

/// How these members should share a GPU: measured on copies of the one in the middle of the work.
///
/// # Errors
/// When a step cannot be done in any way, as for want of memory; when [`GPU_SHARING`] names none.
fn choose_sharing(members: &[&link::Member], gpu: usize) -> Result<Sharing> {
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
    }
    trim_memory()?;
    match (best, problem) {
        (Some((_, sharing)), _) => {
            let (left, _) = Stream::first(gpu).memory()?;
            Ok(Sharing { room: left as f64 * (1.0 - MEMORY_SPARED), ..sharing })
        }
        (None, Some(problem)) => Err(problem),
        (None, None) => bail!("no way of sharing the GPU was tried"),
    }
}

/// The member in the middle of the work: half of it is in those that cost no more.
fn typical<'a>(members: &[&'a link::Member]) -> Option<&'a link::Member> {
    let costs = by_cost(members);
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
