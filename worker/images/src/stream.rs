//! Batches, made ahead of time by threads of their own and handed out in strict order.
//!
//! The reader holds tickets: one for each batch that may be in the making or wait ready. It gives a ticket
//! out for each batch it takes, so never more than `queue + threads` batches are in memory. Where the reader does
//! not take the epoch in its order but asks for ranges of it, each range asked for is a ticket. Dropping the stream
//! stops the threads within an image and waits for them.

use super::buffer::{Buffer, Shelf};
use super::dataset::{Dataset, Side};
use super::draw::{augmentation, epoch_order, evaluation};
use super::error::DataError;
use super::render::{Renderer, Targets, image_bytes};
use crossbeam_channel::{Receiver, Sender};
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// The resolution of the paper's largest cell. Trials of no higher one have the same pixels whoever shares their stream;
/// those of a higher one, when they share it with trials of the same highest.
const BASE_MIN: u32 = 224;

/// What to stream, and how.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// From 0; orders the samples and draws their distortion. Evaluation takes no notice of it.
    pub epoch: u32,
    /// Begin at this position of the epoch: 0, or a batch's `next`.
    pub from_sample: usize,
    /// Images in each batch but the last.
    pub batch_size: usize,
    /// The sides ρ in pixels, as the batch's `images` shall have them.
    pub resolutions: Vec<u32>,
    /// That decode and resize; at least one is started.
    pub threads: usize,
    /// Batches that may wait ready, beside the one that each thread works on.
    pub queue: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { epoch: 0, from_sample: 0, batch_size: 32, resolutions: Vec::new(), threads: 2, queue: 4 }
    }
}

/// Some images, once for each resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// For each of the stream's resolutions, in that order: the same parts of the same images.
    pub images: Vec<Pixels>,
    /// From 0.
    pub labels: Vec<i64>,
    /// Numbers of the samples in their set.
    pub indices: Vec<u32>,
    /// Position of the first sample in the epoch.
    pub first: usize,
    /// Position after the last sample, broken ones included: where the next batch begins.
    pub next: usize,
    /// Images that are broken, first met here and left out: a sentence each.
    pub warnings: Vec<String>,
}

/// Images of one resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// ρ: the side in pixels.
    pub resolution: u32,
    /// NHWC: `[n, ρ, ρ, 3]`, red, green, blue, 0 to 255.
    pub bytes: Buffer,
}

/// The training set in the order of an epoch, distorted by chance. Each sample comes once.
#[must_use]
pub fn train_stream(dataset: &Arc<Dataset>, options: StreamOptions) -> Stream {
    let count = u32::try_from(dataset.train.samples.len()).unwrap_or(u32::MAX);
    let order = epoch_order(dataset.settings.seed, options.epoch, count);
    Stream::start(dataset, Side::Train, order, options)
}

/// The validation set in its own order, undistorted. Each sample comes once.
#[must_use]
pub fn eval_stream(dataset: &Arc<Dataset>, options: StreamOptions) -> Stream {
    let count = u32::try_from(dataset.validation.samples.len()).unwrap_or(u32::MAX);
    Stream::start(dataset, Side::Validation, (0..count).collect(), options)
}

/// The same, but only of the ranges that are asked for ([`Stream::ask`]): for replicas that share an epoch.
#[must_use]
pub fn train_stream_on_demand(dataset: &Arc<Dataset>, options: StreamOptions) -> Stream {
    let count = u32::try_from(dataset.train.samples.len()).unwrap_or(u32::MAX);
    let order = epoch_order(dataset.settings.seed, options.epoch, count);
    Stream::open(dataset, Side::Train, order, options, None)
}

/// An iterator over batches. After an error it ends. One that works on demand has ended while nothing is asked for.
#[derive(Debug)]
pub struct Stream {
    work: Arc<Work>,
    /// Batches to be made: number and place in the epoch's order. Without it the threads end.
    tickets: Option<Sender<(usize, Range<usize>)>>,
    /// Batches in all; none if they are asked for one by one.
    batches: Option<usize>,
    made: Receiver<(usize, Result<Made, String>)>,
    /// Made before their turn.
    early: BTreeMap<usize, Result<Made, String>>,
    pub(super) next_ticket: usize,
    next_batch: usize,
    threads: Vec<JoinHandle<()>>,
    start_error: Option<String>,
}

/// What all threads of a stream share.
#[derive(Debug)]
struct Work {
    dataset: Arc<Dataset>,
    side: Side,
    order: Vec<u32>,
    options: StreamOptions,
    /// Photographs are shrunk while they are decoded as far as a crop keeps so many pixels on both sides.
    base: u32,
    /// For each resolution, what readers of earlier batches are done with.
    shelves: Vec<Shelf>,
    stop: AtomicBool,
}

#[derive(Debug)]
struct Made {
    batch: Batch,
    /// Sample and what is wrong with it.
    broken: Vec<(u32, String)>,
}

impl Stream {
    fn start(dataset: &Arc<Dataset>, side: Side, order: Vec<u32>, options: StreamOptions) -> Self {
        let window = options.threads.max(1).saturating_add(options.queue);
        let batches = order.len().saturating_sub(options.from_sample).div_ceil(options.batch_size.max(1));
        let mut stream = Self::open(dataset, side, order, options, Some(batches));
        (0..window).for_each(|_| stream.give_ticket());
        stream
    }

    fn open(
        dataset: &Arc<Dataset>,
        side: Side,
        order: Vec<u32>,
        options: StreamOptions,
        batches: Option<usize>,
    ) -> Self {
        let threads_wanted = options.threads.max(1).min(batches.unwrap_or(usize::MAX));
        let base = options.resolutions.iter().copied().fold(BASE_MIN, u32::max);
        let shelves = options.resolutions.iter().map(|_| Shelf::new()).collect();
        let stop = AtomicBool::new(false);
        let work = Arc::new(Work { dataset: dataset.clone(), side, order, options, base, shelves, stop });
        // Tickets bound the batches; so nobody ever waits to send.
        let (tickets, tickets_out) = crossbeam_channel::unbounded();
        let (made_in, made) = crossbeam_channel::unbounded();
        let (mut threads, mut start_error) = (Vec::new(), None);
        for number in 0..threads_wanted {
            let (work, tickets_out, made_in) = (work.clone(), tickets_out.clone(), made_in.clone());
            let builder = thread::Builder::new().name(format!("loader-{number}"));
            match builder.spawn(move || work.run(&tickets_out, &made_in)) {
                Ok(thread) => threads.push(thread),
                // One is enough.
                Err(error) if number == 0 => start_error = Some(error.to_string()),
                Err(_) => break,
            }
        }
        let early = BTreeMap::new();
        let tickets = Some(tickets);
        Self { work, tickets, batches, made, early, next_ticket: 0, next_batch: 0, threads, start_error }
    }

    /// Has the batch of a range of the epoch's order made; batches come in the order in which they were asked for.
    /// Only of a stream on demand.
    pub fn ask(&mut self, range: Range<usize>) {
        if self.batches.is_none() {
            self.send_ticket(range);
        }
    }

    fn give_ticket(&mut self) {
        if self.batches.is_some_and(|batches| self.next_ticket < batches) {
            self.send_ticket(self.work.range(self.next_ticket));
        }
    }

    fn send_ticket(&mut self, range: Range<usize>) {
        if let Some(tickets) = &self.tickets
            && tickets.send((self.next_ticket, range)).is_ok()
        {
            self.next_ticket += 1;
        }
    }

    /// The number of the batch after the last one that will come, as far as is known.
    fn end(&self) -> usize {
        self.batches.unwrap_or(self.next_ticket)
    }

    fn take(&mut self) -> Result<Batch, DataError> {
        if let Some(reason) = self.start_error.take() {
            return Err(DataError::Loader { reason });
        }
        let made = loop {
            if let Some(made) = self.early.remove(&self.next_batch) {
                break made;
            }
            match self.made.recv() {
                Ok((number, made)) => {
                    self.early.insert(number, made);
                }
                Err(_) => return Err(DataError::Loader { reason: "they ended before their work was done".into() }),
            }
        };
        self.next_batch += 1;
        self.give_ticket();
        let Made { mut batch, broken } = made.map_err(|reason| DataError::Loader { reason })?;
        // Counted here and not where they are found, so that the order of batches decides which is the last.
        for (index, reason) in broken {
            let Work { dataset, side, .. } = &*self.work;
            if dataset.note_broken(*side, index, &reason)? {
                let path = dataset.set(*side).path(index);
                batch.warnings.push(format!("left out a broken image, {path}: {reason}"));
            }
        }
        Ok(batch)
    }

    fn stop(&mut self) {
        self.work.stop.store(true, Ordering::Relaxed);
        self.tickets = None;
        for thread in self.threads.drain(..) {
            // A panic in it was caught and reported, or nobody waits for its work any more.
            let _ = thread.join();
        }
    }
}

impl Iterator for Stream {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.tickets.is_none() || self.next_batch >= self.end() {
            return None;
        }
        let batch = self.take();
        if batch.is_err() {
            self.stop();
        }
        Some(batch)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    /// Positions of a batch in the epoch.
    fn range(&self, number: usize) -> Range<usize> {
        let batch_size = self.options.batch_size.max(1);
        let first = self.options.from_sample + number * batch_size;
        first..(first + batch_size).min(self.order.len())
    }

    /// A thread.
    fn run(&self, tickets: &Receiver<(usize, Range<usize>)>, made: &Sender<(usize, Result<Made, String>)>) {
        let mut renderer = Renderer::default();
        for (number, range) in tickets {
            // A batch must come whatever happens: the reader waits for just this one.
            let batch = catch_unwind(AssertUnwindSafe(|| self.make(range, &mut renderer)));
            let batch = batch.map_err(|_| format!("one panicked over batch {number}; its message is in the log"));
            if self.stop.load(Ordering::Relaxed) || made.send((number, batch)).is_err() {
                return;
            }
        }
    }

    fn make(&self, range: Range<usize>, renderer: &mut Renderer) -> Made {
        let (first, next) = (range.start.min(self.order.len()), range.end.min(self.order.len()));
        let indices = self.order.get(first..next).unwrap_or_default();
        let mut batch = Batch {
            images: Vec::with_capacity(self.options.resolutions.len()),
            labels: Vec::with_capacity(indices.len()),
            indices: Vec::with_capacity(indices.len()),
            first,
            next,
            ..Batch::default()
        };
        for (&resolution, shelf) in self.options.resolutions.iter().zip(&self.shelves) {
            let bytes = shelf.lend(indices.len() * image_bytes(resolution));
            batch.images.push(Pixels { resolution, bytes });
        }
        let mut broken = Vec::new();
        for &index in indices {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            // A decoder that panics on an image has found a broken image too.
            let place = batch.labels.len();
            let drawn = catch_unwind(AssertUnwindSafe(|| self.draw(index, place, &mut batch.images, renderer)));
            match drawn.unwrap_or_else(|_| Err("its decoder panicked".into())) {
                Ok(label) => {
                    batch.labels.push(label);
                    batch.indices.push(index);
                }
                Err(reason) => broken.push((index, reason)),
            }
        }
        for pixels in &mut batch.images {
            pixels.bytes.truncate(batch.labels.len() * image_bytes(pixels.resolution));
        }
        Made { batch, broken }
    }

    /// Puts a sample in its place in each resolution's buffer. Its label.
    fn draw(&self, index: u32, place: usize, images: &mut [Pixels], renderer: &mut Renderer) -> Result<i64, String> {
        let Self { dataset, side, options, .. } = self;
        let settings = &dataset.settings;
        let look_of = |width, height| match side {
            Side::Train => augmentation(settings.seed, options.epoch, index, width, height, settings),
            Side::Validation => evaluation(width, height, settings.evaluation_crop),
        };
        dataset.draw(*side, index, look_of, renderer, &mut Targets { images, place, base: self.base })?;
        let sample = dataset.set(*side).samples.get(index as usize).ok_or("there is no such sample")?;
        Ok(i64::from(sample.label))
    }
}
