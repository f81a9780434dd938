//! Streams, memory and graphs of a GPU.
//!
//! What goes to one stream is done in that order; what goes to several may be done at the same time. Nothing of it is
//! done when the call that asks for it returns: who reads on one stream what another one writes must have it wait
//! ([`Stream::wait_for`]), and must keep the memory from being given away meanwhile ([`Stream::uses`]).

use crate::device::caught;
use crate::shim::{
    CEvent, CGraph, alpharho_event_delete, alpharho_event_new, alpharho_event_wait, alpharho_graph_begin,
    alpharho_graph_delete, alpharho_graph_end, alpharho_graph_replay, alpharho_memory, alpharho_memory_trim,
    alpharho_stream_enter, alpharho_stream_new, alpharho_stream_uses, alpharho_stream_wait, ask,
};
use anyhow::Result;
use std::ptr;
use tch::Tensor;

/// A queue of work on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    device: i64,
    id: i64,
}

impl Stream {
    /// A stream out of libtorch's pool, which goes round: the 33rd is the first one again.
    ///
    /// # Errors
    /// When there is no such GPU.
    pub fn new(device: usize) -> Result<Self> {
        let mut stream = Self { id: 0, ..Self::first(device) };
        ask("a stream", |problem, size| {
            #[expect(unsafe_code, reason = "C++")]
            // SAFETY: the number that is written to is ours.
            unsafe {
                alpharho_stream_new(stream.device, &raw mut stream.id, problem, size)
            }
        })?;
        Ok(stream)
    }

    /// Where work goes if nothing else is said.
    #[must_use]
    pub fn first(device: usize) -> Self {
        Self { device: i64::try_from(device).unwrap_or(0), id: 0 }
    }

    /// Has this thread's work go to the stream while `work` runs.
    ///
    /// # Errors
    /// When there is no such GPU any more.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> Result<T> {
        let _entered = Entered { before: self.enter()? };
        Ok(work())
    }

    /// Gives the stream that this thread's work went to.
    fn enter(self) -> Result<Self> {
        let mut before = self;
        ask("entering a stream", |problem, size| {
            #[expect(unsafe_code, reason = "C++")]
            // SAFETY: the number that is written to is ours; the stream was made by libtorch.
            unsafe {
                alpharho_stream_enter(self.device, self.id, &raw mut before.id, problem, size)
            }
        })?;
        Ok(before)
    }

    /// What it is given from now on begins when `other` has done what that was given so far.
    ///
    /// # Errors
    /// What CUDA says: of work that went wrong before, it tells here.
    pub fn wait_for(self, other: Self) -> Result<()> {
        ask("waiting for another stream", |problem, size| {
            #[expect(unsafe_code, reason = "C++")]
            // SAFETY: both streams were made by libtorch.
            unsafe {
                alpharho_stream_wait(self.device, self.id, other.id, problem, size)
            }
        })
    }

    /// Keeps the memory of another stream's tensor until this one has done what it was given so far.
    ///
    /// # Errors
    /// When the tensor is on no GPU.
    pub fn uses(self, tensor: &Tensor) -> Result<()> {
        ask("using another stream's tensor", |problem, size| {
            #[expect(unsafe_code, reason = "C++")]
            // SAFETY: the tensor lives through the call.
            unsafe {
                alpharho_stream_uses(self.device, self.id, tensor.as_ptr(), problem, size)
            }
        })
    }

    /// Marks the place in its queue.
    ///
    /// # Errors
    /// What CUDA says.
    pub fn mark(self) -> Result<Mark> {
        let mut event = ptr::null_mut();
        ask("an event", |problem, size| {
            #[expect(unsafe_code, reason = "C++")]
            // SAFETY: the pointer that is written to is ours.
            unsafe {
                alpharho_event_new(self.device, self.id, &raw mut event, problem, size)
            }
        })?;
        Ok(Mark(event))
    }

    /// Bytes that the device has left, and those that libtorch's allocator holds there, in use or not.
    ///
    /// # Errors
    /// What CUDA says.
    pub fn memory(self) -> Result<(u64, u64)> {
        let (mut left, mut held) = (0, 0);
        ask("the GPU's memory", |problem, size| {
            #[expect(unsafe_code, reason = "C++")]
            // SAFETY: the numbers that are written to are ours.
            unsafe {
                alpharho_memory(self.device, &raw mut left, &raw mut held, problem, size)
            }
        })?;
        Ok((left, held))
    }
}

/// Gives the memory back that libtorch's allocator holds and nobody uses, once all work that used it is done.
///
/// # Errors
/// What CUDA says.
pub fn trim_memory() -> Result<()> {
    ask("giving memory back", |problem, size| {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: it takes nothing.
        unsafe {
            alpharho_memory_trim(problem, size)
        }
    })
}

struct Entered {
    before: Stream,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // It was entered before; it can be again.
        let _ = self.before.enter();
    }
}

/// A place in a stream's queue.
#[derive(Debug)]
pub struct Mark(*mut CEvent);

impl Mark {
    /// Waits until the stream has come there.
    ///
    /// # Errors
    /// What CUDA says: of work that went wrong before, it tells here.
    pub fn wait(&self) -> Result<()> {
        ask("work on the GPU", |problem, size| {
            #[expect(unsafe_code, reason = "C++")]
            // SAFETY: the event is ours until it is dropped.
            unsafe {
                alpharho_event_wait(self.0, problem, size)
            }
        })
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: made by `new` for us alone, and deleted once.
        unsafe {
            alpharho_event_delete(self.0);
        }
    }
}

/// Work that is kept, to be done again and again with one call.
#[derive(Debug)]
pub struct Graph {
    graph: *mut CGraph,
    stream: Stream,
}

#[expect(unsafe_code, reason = "C++")]
// SAFETY: libtorch's graph may be used by any thread, by one at a time.
unsafe impl Send for Graph {}

impl Graph {
    /// Keeps what `work` asks for, without doing it. It goes to `stream`, which must not be the first one. Tensors that
    /// it makes belong to the graph; those that it reads and writes must stay where they are.
    ///
    /// # Errors
    /// What `work` says; when it asks for something that cannot be kept, as whatever waits for the GPU.
    pub fn capture(stream: Stream, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let mut made = Self { graph: ptr::null_mut(), stream };
        stream.run(|| {
            ask("beginning a CUDA graph", |problem, size| {
                #[expect(unsafe_code, reason = "C++")]
                // SAFETY: the pointer that is written to is ours.
                unsafe {
                    alpharho_graph_begin(&raw mut made.graph, problem, size)
                }
            })?;
            let worked = caught(work).flatten();
            // Also after an error: nothing else can be done on the stream before.
            let ended = ask("a CUDA graph", |problem, size| {
                #[expect(unsafe_code, reason = "C++")]
                // SAFETY: the graph is ours, and was begun.
                unsafe {
                    alpharho_graph_end(made.graph, problem, size)
                }
            });
            worked.and(ended)
        })??;
        Ok(made)
    }

    /// Does what was kept.
    ///
    /// # Errors
    /// What CUDA says.
    pub fn replay(&self) -> Result<()> {
        self.stream.run(|| {
            ask("a CUDA graph", |problem, size| {
                #[expect(unsafe_code, reason = "C++")]
                // SAFETY: the graph is ours, and complete.
                unsafe {
                    alpharho_graph_replay(self.graph, problem, size)
                }
            })
        })?
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.graph.is_null() {
            return;
        }
        // Its memory must not be given away while it still runs. If waiting fails, so has the device.
        let _ = self.stream.mark().and_then(|mark| mark.wait());
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: made by `new` for us alone, and deleted once.
        unsafe {
            alpharho_graph_delete(self.graph);
        }
    }
}
