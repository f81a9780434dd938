//! Where tensors live, and what the machine is.

use crate::gpu::Stream;
use anyhow::{Context, Result, anyhow, bail};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tch::{Cuda, Device};

/// Names the folder that libtorch was loaded from; the agent sets it.
pub const LIBTORCH_FOLDER: &str = "ALPHARHO_LIBTORCH";

/// Where the work of a member goes.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// Holds its tensors.
    pub device: Device,
    /// Of a GPU. None is the first one.
    pub stream: Option<Stream>,
    /// Whether its step is kept as a graph. Only on a stream of its own.
    pub graphs: bool,
}

impl From<Device> for Lane {
    fn from(device: Device) -> Self {
        Self { device, stream: None, graphs: false }
    }
}

impl Lane {
    /// Has this thread's work go there while `work` runs.
    ///
    /// # Errors
    /// When there is no such GPU any more; what libtorch said when `work` panicked.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> Result<T> {
        match self.stream {
            Some(stream) => stream.run(|| caught(work))?,
            None => caught(work),
        }
    }
}

thread_local! {
    /// Whether a panic of this thread is caught by [`caught`].
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Does work of which tch makes panics where libtorch has errors: `one + &other` cannot give any. Too little memory is to be
/// told like all else.
///
/// # Errors
/// What the panic said.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T> {
    let before = IS_CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(before);
    done.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        anyhow!("{}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words"))
    })
}

/// Panics that become errors are not told as panics too.
pub fn keep_caught_panics_quiet() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !IS_CAUGHT.get() {
            tell(panic);
        }
    }));
}

/// What an error says, without what libtorch and tch put around it: the place in the code, the call stack.
#[must_use]
pub fn words(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    // Of a panic the text is quoted.
    let stacks = ["\nException raised from ", "\\nException raised from ", "\nframe #0: ", "\\nframe #0: "];
    let end = stacks.iter().filter_map(|stack| text.find(stack)).min().unwrap_or(text.len());
    text[..end].replacen("called `Result::unwrap()` on an `Err` value: Torch(\"", "", 1).replacen(
        "Internal torch error: ",
        "",
        1,
    )
}

/// The device of a start order: `cpu` or `cuda:N`.
///
/// # Errors
/// When the words mean nothing, or there is no such GPU: says what was looked for.
pub fn open(words: &str) -> Result<Device> {
    if words == "cpu" {
        return Ok(Device::Cpu);
    }
    let Some(index) = words.strip_prefix("cuda:").and_then(|index| index.parse::<usize>().ok()) else {
        bail!("device {words:?} is neither `cpu` nor `cuda:N`");
    };
    load_cuda()?;
    let count = Cuda::device_count();
    if usize::try_from(count).unwrap_or(0) <= index {
        bail!("there is no {words}: libtorch sees {count} GPUs here; look at nvidia-smi and CUDA_VISIBLE_DEVICES");
    }
    Ok(Device::Cuda(index))
}

/// Loads `libtorch_cuda.so`, which registers CUDA with libtorch. The executable is linked against the CPU
/// libraries alone, so that it starts on every node; this must come before the first CUDA call.
fn load_cuda() -> Result<()> {
    let folder = std::env::var(LIBTORCH_FOLDER)
        .with_context(|| format!("CUDA is asked for, but {LIBTORCH_FOLDER} does not name libtorch's folder"))?;
    let library = Path::new(&folder).join("libtorch_cuda.so");
    if !library.exists() {
        bail!("CUDA is asked for, but {} is not there: this libtorch knows only the CPU", library.display());
    }
    let name = CString::new(library.to_string_lossy().as_bytes())?;
    #[expect(unsafe_code, reason = "there is no safe way to load a library for its side effects")]
    // SAFETY: `name` is a C string that outlives the call. The library's initialisers only register operators
    // with the libtorch that is loaded already; it is never unloaded.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        #[expect(unsafe_code, reason = "the error text of dlopen")]
        // SAFETY: after a failed dlopen on this thread, dlerror gives a C string that is valid until the next
        // call of its family.
        let why = unsafe {
            let text = libc::dlerror();
            if text.is_null() { "no reason given".into() } else { CStr::from_ptr(text).to_string_lossy() }
        };
        bail!("cannot load {}: {why}", library.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn what_libtorch_says_is_told_without_its_call_stack() {
        let large = || Tensor::empty([1 << 50], (Kind::Float, Device::Cpu));
        let panicked = caught(large).unwrap_err();
        let refused = Tensor::f_empty([1 << 50], (Kind::Float, Device::Cpu)).map_err(anyhow::Error::from).unwrap_err();
        for error in [panicked, refused] {
            assert!(format!("{error:#}").contains("frame #0"));
            let words = words(&error.context("a step"));
            assert!(words.starts_with("a step: ") && words.contains("memory"), "{words}");
            assert!(!words.contains("frame") && !words.contains("unwrap"), "{words}");
        }
        assert_eq!(words(&anyhow!("one\ntwo")), "one\ntwo");
    }
}
