//! A batch on its way to the device: once for all that read it.

use crate::device::Lane;
use crate::gpu::Stream;
use crate::shim;
use anyhow::{Context, Result};
use images::Batch;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Tensor, kind::Element};

/// A batch on the device, at each resolution that anybody reads.
#[derive(Debug)]
pub struct Sent {
    /// By place in the stream: u8, `[n, ρ, ρ, 3]`. Behind a lock for handles of it to be taken by several threads; nobody
    /// writes to them.
    images: Mutex<Vec<Tensor>>,
    /// i64, `[n]`.
    labels: Mutex<Tensor>,
}

impl Sent {
    /// Copies the batch to the device. A GPU may still be copying when this returns.
    ///
    /// # Errors
    /// When a buffer is not of the batch's shape, or the device has too little memory.
    pub fn new(batch: &Batch, device: Device) -> Result<Self> {
        let count = i64::try_from(batch.labels.len())?;
        let images = batch.images.iter().map(|pixels| {
            let side = i64::from(pixels.resolution);
            send(&pixels.bytes, &[count, side, side, 3], device)
        });
        let images = Mutex::new(images.collect::<Result<_>>()?);
        Ok(Self { images, labels: Mutex::new(send(&batch.labels, &[count], device)?) })
    }

    /// The images at a place in the stream and the labels, for work in that lane.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn to(&self, lane: Lane, place: usize) -> Result<(Tensor, Tensor)> {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        let images = images.get(place).context("the batch has no images of that resolution")?.shallow_clone();
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner).shallow_clone();
        hand_over(lane, &[&images, &labels])?;
        Ok((images, labels))
    }
}

/// Has a lane's stream read what was sent on the first one.
fn hand_over(lane: Lane, tensors: &[&Tensor]) -> Result<()> {
    let (Some(stream), Device::Cuda(index)) = (lane.stream, lane.device) else { return Ok(()) };
    stream.wait_for(Stream::first(index))?;
    tensors.iter().try_for_each(|tensor| stream.uses(tensor))
}

/// Values to a device. To a GPU they go from memory that stays where it is, so that nobody waits for them.
///
/// # Errors
/// When they do not fill that shape, or there is too little memory.
pub fn send<T: Element>(values: &[T], size: &[i64], device: Device) -> Result<Tensor> {
    send_tensor(&Tensor::f_from_slice(values)?.f_view(size)?, device)
}

/// The same for a tensor of the CPU's.
///
/// # Errors
/// When there is too little memory.
pub fn send_tensor(tensor: &Tensor, device: Device) -> Result<Tensor> {
    match device {
        Device::Cpu => Ok(tensor.shallow_clone()),
        _ => Ok(shim::pin(tensor)?.f_to_dtype_layout((tensor.kind(), device), true, false)?),
    }
}
