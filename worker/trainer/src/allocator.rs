//! The allocator of an executable that trains.

pub use tikv_jemallocator;

/// Links jemalloc, told to keep large buffers and to ask for huge pages.
///
/// libtorch frees and allocates the same large buffers in each step. glibc gives them back to the kernel and faults them
/// in again; this one keeps them, and in huge pages they are found faster (5 to 10 % of a step). An allocator linked into
/// the executable serves libtorch too.
#[macro_export]
macro_rules! keep_large_buffers {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::allocator::tikv_jemallocator::Jemalloc = $crate::allocator::tikv_jemallocator::Jemalloc;

        /// What jemalloc reads at its start.
        #[expect(unsafe_code, non_upper_case_globals, reason = "the symbol that jemalloc looks for")]
        // SAFETY: jemalloc declares `const char *malloc_conf`; the first word of a reference to bytes is a pointer to
        // them, and they end with a zero.
        #[unsafe(export_name = "malloc_conf")]
        pub static malloc_conf: &[u8; 120] = b"oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1,background_thread:false,metadata_thp:auto,narenas:4,thp:always\0";
    };
}
