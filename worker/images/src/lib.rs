//! Images in, batches of pixels out. Knows nothing of libtorch: it hands over plain buffers.
//!
//! ```text
//! let dataset = Arc::new(Dataset::open(&trial.data, &places)?);        // lists, checks, splits; DataError
//! let options = StreamOptions { epoch, from_sample: 0, batch_size: 32, resolutions: vec![128, 224],
//!                               ..StreamOptions::default() };          // + threads: 2, queue: 4
//! for batch in train_stream(&dataset, options) {                       // or eval_stream(&dataset, options)
//!     let batch: Batch = batch?;                                       // DataError ends the trial
//!     for warning in &batch.warnings { .. }                            // "skipped broken image x.jpg: .."
//!     batch.images[0].bytes   // Buffer (of u8), NHWC [n, ρ, ρ, 3], ρ = batch.images[0].resolution
//!     batch.labels            // Vec<i64>, n
//!     batch.indices           // Vec<u32>, n: which samples, for dropout masks of (seed, step, sample)
//!     batch.next              // resume with from_sample: batch.next
//! }
//! ```
//!
//! The network wants `byte / 127.5 − 1`; that is done where the tensor is made, so that a batch is handed
//! over in a quarter of the memory.
//!
//! What a batch holds is a pure function of the data, its seed, the epoch and the position: neither the
//! number of threads, nor the queue, nor the set of resolutions, nor where a stream began changes a byte.
//! Every sample comes once an epoch. The last batch is shorter when the count is no multiple of the batch
//! size: with fewer than 4 images its BatchNorm statistics would be poor, and the training loop decides
//! whether to use it. A broken image leaves its batch shorter by one, and a batch may even be empty.
//!
//! Alpha is dropped, as torchvision's `ImageFolder` drops it: the colour stored under it is kept. Images of
//! 16 bits a channel are scaled to 8.

mod buffer;
mod cache;
mod colour;
mod dataset;
mod decode;
mod draw;
mod error;
mod files;
mod jpeg;
mod pack;
mod planar;
mod render;
mod resample;
mod show;
mod sources;
mod stream;
mod taps;
mod turn;

#[cfg(test)]
mod tests;

pub use buffer::Buffer;
pub use dataset::{CACHE_BYTES, Dataset, ENCODED_BYTES_MAX, Sample, Set, Side};
pub use decode::{Decoded, decode};
pub use draw::{Augmentation, Rect, augmentation, epoch_order, evaluation};
pub use error::DataError;
pub use jpeg::STOPS_BYTES_MAX;
pub use pack::{PackCheck, PackEvent, PackForm, PackOptions, PackOutcome, PackSummary, check_pack, pack, show_pack};
pub use show::show;
pub use stream::{Batch, Pixels, Stream, StreamOptions, eval_stream, train_stream, train_stream_on_demand};
