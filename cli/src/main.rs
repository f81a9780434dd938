//! The `alpharho` command: arguments in, calls out.

mod arguments;
mod commands;
mod exit;
mod output;
mod run;
mod session;
mod watch;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;

/// A coordinator makes and drops millions of small things. glibc keeps what was freed between what is not, and takes longer:
/// with it 60,000 trials left 200 MB behind instead of 60, and a tenth fewer were scheduled in a second.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads at its start: freed memory goes back after a second.
#[expect(unsafe_code, non_upper_case_globals, reason = "the symbol that jemalloc looks for")]
// SAFETY: jemalloc declares `const char *malloc_conf`; the first word of a reference to bytes is a pointer to
// them, they end with NUL and live as long as the program.
#[unsafe(export_name = "malloc_conf")]
pub static malloc_conf: &[u8; 70] = b"narenas:2,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:true\0";

/// How long what still hangs on a broken connection may keep the process alive.
const LEAVING_MAX: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot be started: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    // On this thread, which lives as long as the process: workers started from it may be tied to it.
    let ended = runtime.block_on(commands::dispatch(arguments));
    runtime.shutdown_timeout(LEAVING_MAX);
    match ended {
        Ok(end) => end.into(),
        Err(error) => exit::report(&error),
    }
}
