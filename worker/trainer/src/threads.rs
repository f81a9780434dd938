//! libtorch's own threads, for what is computed between its operations: threads of another kind would have to wait for
//! cores on which libtorch's wait for their next work.

use kernels::Team;
use std::ffi::{c_uint, c_void};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `GOMP_parallel(function, data, threads, flags)` of the OpenMP that libtorch was loaded with (GCC's, or LLVM's, which has it
/// too): calls the function on that many threads, the caller's among them, and returns when all have.
type Parallel = unsafe extern "C" fn(extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

static PARALLEL: LazyLock<Option<Parallel>> = LazyLock::new(|| {
    #[expect(unsafe_code, reason = "what libtorch brings is not known when linking")]
    // SAFETY: the name ends with a zero; a symbol of that name is a function of that type in every OpenMP that has one.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
        (!symbol.is_null()).then(|| std::mem::transmute::<*mut c_void, Parallel>(symbol))
    }
});

/// As many threads as libtorch's operations use where it is called.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LibtorchThreads;

struct Shared<'a> {
    next: AtomicUsize,
    count: usize,
    work: &'a (dyn Fn(usize) + Sync),
}

impl Team for LibtorchThreads {
    fn each(&self, count: usize, work: &(dyn Fn(usize) + Sync)) {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).min(count);
        let Some(parallel) = *PARALLEL else { return (0..count).for_each(work) };
        if threads < 2 {
            return (0..count).for_each(work);
        }
        let mut shared = Shared { next: AtomicUsize::new(0), count, work };
        #[expect(unsafe_code, reason = "OpenMP")]
        // SAFETY: `shared` outlives the call; `take_part` only reads it, from several threads, which its parts allow.
        unsafe {
            parallel(take_part, (&raw mut shared).cast(), c_uint::try_from(threads).unwrap_or(1), 0);
        }
    }
}

/// Takes piece after piece until none is left.
extern "C" fn take_part(shared: *mut c_void) {
    #[expect(unsafe_code, reason = "OpenMP")]
    // SAFETY: the pointer that `each` gave, still borrowed there, and by nobody to be written to.
    let shared = unsafe { &*shared.cast::<Shared<'_>>() };
    loop {
        let at = shared.next.fetch_add(1, Ordering::Relaxed);
        if at >= shared.count {
            return;
        }
        (shared.work)(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    #[test]
    fn work_is_shared_and_done_once() {
        assert!(PARALLEL.is_some(), "libtorch comes with OpenMP");
        let before = tch::get_num_threads();
        for threads in [1, 2, 3] {
            tch::set_num_threads(threads);
            let (done, who) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()));
            LibtorchThreads.each(64, &|at| {
                done.lock().unwrap().push(at);
                who.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
                std::thread::sleep(std::time::Duration::from_millis(1));
            });
            let mut done = done.into_inner().unwrap();
            done.sort_unstable();
            assert_eq!(done, (0..64).collect::<Vec<_>>());
            assert_eq!(who.into_inner().unwrap().len(), usize::try_from(threads).unwrap());
        }
        tch::set_num_threads(before);
    }
}
