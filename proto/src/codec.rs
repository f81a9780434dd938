//! How messages become bytes: as prost does it, with small buffers.
//!
//! tonic begins each call with a buffer of 8 KiB in each direction. A coordinator has a call open for each worker, on
//! which a few dozen bytes come and go now and then: for 10,000 workers that was 160 MB.

use prost::Message;
use std::marker::PhantomData;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

/// What a buffer begins with; it grows as messages need it.
const BUFFER_BYTES: usize = 64;
/// Encoded messages are sent together up to here. With tonic's own 32 KiB a lease of a kilobyte is followed by its
/// acknowledgement in the same buffer, which doubles for it and stays as large.
const YIELD_BYTES: usize = 512;

/// Named by the build script.
#[derive(Debug)]
pub(crate) struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallBuffers<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ExactEncoder<T>;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ExactEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}

/// Makes room for a message at once: a buffer that doubles as it is filled stays nearly twice as large as its largest
/// message, for as long as the call.
#[derive(Debug)]
pub(crate) struct ExactEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for ExactEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
