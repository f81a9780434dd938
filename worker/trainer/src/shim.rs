//! What tch has no binding for, by the C++ in `shim/shim.cpp`.

use anyhow::{Context, Result, bail};
use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use tch::Tensor;
use torch_sys::C_tensor;

/// Room for what libtorch says of an error.
const PROBLEM_BYTES: usize = 1024;

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
    let mut problem: [c_char; PROBLEM_BYTES] = [0; PROBLEM_BYTES];
    #[expect(unsafe_code, reason = "C++")]
    // SAFETY: the tensors live through the call, which only reads them; what it writes to is ours and as large as it is
    // told; it throws nothing.
    let failed = unsafe {
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
            problem.as_mut_ptr(),
            PROBLEM_BYTES,
        )
    };
    if failed != 0 {
        #[expect(unsafe_code, reason = "C++")]
        // SAFETY: it ends with a zero, there from the start and never written over.
        let problem = unsafe { CStr::from_ptr(problem.as_ptr()) };
        bail!("the gradient of a convolution: {}", problem.to_string_lossy());
    }
    Ok((
        (!of_input.is_null()).then(|| own(of_input)),
        own((!of_weight.is_null()).then_some(of_weight).context("no gradient came")?),
    ))
}

fn own(tensor: *mut C_tensor) -> Tensor {
    #[expect(unsafe_code, reason = "C++")]
    // SAFETY: made by `new` for us alone, as tch's own are; tch deletes it.
    unsafe {
        Tensor::from_ptr(tensor)
    }
}
