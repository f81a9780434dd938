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
