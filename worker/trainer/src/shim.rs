//! What tch has no binding for, by the C++ in `shim/shim.cpp`.

use anyhow::{Context, Result, bail};
use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use tch::Tensor;
use torch_sys::C_tensor;

/// Room for what libtorch says of an error.
const PROBLEM_BYTES: usize = 1024;

/// An event of libtorch's.
#[repr(C)]
pub(crate) struct CEvent {
    nothing: [u8; 0],
}

/// A CUDA graph of libtorch's.
#[repr(C)]
pub(crate) struct CGraph {
    nothing: [u8; 0],
}

#[expect(unsafe_code, reason = "C++")]
// SAFETY: as `shim/shim.cpp` defines them.
unsafe extern "C" {
    fn alpharho_convolution_backward(
        gradient: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        stride: i64,
        padding: i64,
        groups: i64,
        wants_input: c_int,
        input_gradient: *mut *mut C_tensor,
        weight_gradient: *mut *mut C_tensor,
        problem: *mut c_char,
        problem_size: usize,
    ) -> c_int;
    fn alpharho_pin(
        tensor: *const C_tensor,
        pinned: *mut *mut C_tensor,
        problem: *mut c_char,
        problem_size: usize,
    ) -> c_int;
    pub(crate) fn alpharho_stream_new(device: i64, id: *mut i64, problem: *mut c_char, problem_size: usize) -> c_int;
    pub(crate) fn alpharho_stream_enter(
        device: i64,
        id: i64,
        before: *mut i64,
        problem: *mut c_char,
        problem_size: usize,
    ) -> c_int;
    pub(crate) fn alpharho_stream_wait(
        device: i64,
        id: i64,
        other: i64,
        problem: *mut c_char,
        problem_size: usize,
    ) -> c_int;
    pub(crate) fn alpharho_stream_uses(
        device: i64,
        id: i64,
        tensor: *const C_tensor,
        problem: *mut c_char,
        problem_size: usize,
    ) -> c_int;
    pub(crate) fn alpharho_event_new(
        device: i64,
        id: i64,
        event: *mut *mut CEvent,
        problem: *mut c_char,
        problem_size: usize,
    ) -> c_int;
    pub(crate) fn alpharho_event_wait(event: *const CEvent, problem: *mut c_char, problem_size: usize) -> c_int;
    pub(crate) fn alpharho_event_delete(event: *mut CEvent);
    pub(crate) fn alpharho_memory(
        device: i64,
        left: *mut u64,
        held: *mut u64,
        problem: *mut c_char,
        problem_size: usize,
    ) -> c_int;
    pub(crate) fn alpharho_memory_trim(problem: *mut c_char, problem_size: usize) -> c_int;
    pub(crate) fn alpharho_graph_begin(graph: *mut *mut CGraph, problem: *mut c_char, problem_size: usize) -> c_int;
    pub(crate) fn alpharho_graph_end(graph: *mut CGraph, problem: *mut c_char, problem_size: usize) -> c_int;
    pub(crate) fn alpharho_graph_replay(graph: *mut CGraph, problem: *mut c_char, problem_size: usize) -> c_int;
    pub(crate) fn alpharho_graph_delete(graph: *mut CGraph);
}

/// Calls a function of the shim, with room for what goes wrong.
///
/// # Errors
/// What libtorch says.
pub(crate) fn ask(what: &str, call: impl FnOnce(*mut c_char, usize) -> c_int) -> Result<()> {
    let mut problem: [c_char; PROBLEM_BYTES] = [0; PROBLEM_BYTES];
    if call(problem.as_mut_ptr(), PROBLEM_BYTES) == 0 {
        return Ok(());
    }
    #[expect(unsafe_code, reason = "C++")]
    // SAFETY: it ends with a zero, there from the start and never written over.
    let problem = unsafe { CStr::from_ptr(problem.as_ptr()) };
    bail!("{what}: {}", problem.to_string_lossy())
}

/// How a convolution's filter moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Pixels between two places.
    pub(crate) stride: i64,
    /// Pixels of zeros around the image.
    pub(crate) padding: i64,
    /// 1, or the number of channels.
    pub(crate) groups: i64,
}

/// The gradients of a convolution by its input (if that is wanted) and its weight.
///
/// # Errors
/// What libtorch says, as when memory does not suffice.
pub(crate) fn convolution_backward(
    gradient: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    geometry: Geometry,
    wants_input: bool,
) -> Result<(Option<Tensor>, Tensor)> {
    let (mut of_input, mut of_weight) = (ptr::null_mut(), ptr::null_mut());
    ask("the gradient of a convolution", |problem, size| {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: the tensors live through the call, which only reads them; what it writes to is ours and as large as it
        // is told; it throws nothing.
        unsafe {
            alpharho_convolution_backward(
                gradient.as_ptr(),
                input.as_ptr(),
                weight.as_ptr(),
                geometry.stride,
                geometry.padding,
                geometry.groups,
                c_int::from(wants_input),
                &raw mut of_input,
                &raw mut of_weight,
                problem,
                size,
            )
        }
    })?;
    Ok((
        (!of_input.is_null()).then(|| own(of_input)),
        own((!of_weight.is_null()).then_some(of_weight).context("no gradient came")?),
    ))
}

/// A copy of the CPU's tensor in memory that stays where it is.
///
/// # Errors
/// When there is no GPU, or too little memory.
pub(crate) fn pin(tensor: &Tensor) -> Result<Tensor> {
    let mut pinned = ptr::null_mut();
    ask("memory that a GPU can copy from", |problem, size| {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: the tensor lives through the call, which only reads it; the pointer that is written to is ours.
        unsafe {
            alpharho_pin(tensor.as_ptr(), &raw mut pinned, problem, size)
        }
    })?;
    Ok(own((!pinned.is_null()).then_some(pinned).context("no tensor came")?))
}

fn own(tensor: *mut C_tensor) -> Tensor {
    #[expect(unsafe_code, reason = "C++")]
    // SAFETY: made by `new` for us alone, as tch's own are; tch deletes it.
    unsafe {
        Tensor::from_ptr(tensor)
    }
}
