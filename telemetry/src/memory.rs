//! Memory that was needed once.

/// Gives what was freed back to the system: a sweep of ten thousand trials, or its status, takes many times what is kept
/// of it, in pieces so small that the allocator keeps them for itself.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "no safe crate offers malloc_trim")]
    // SAFETY: it takes a number of bytes to keep and touches nothing but free memory; any thread may call it.
    unsafe {
        libc::malloc_trim(0);
    }
}
