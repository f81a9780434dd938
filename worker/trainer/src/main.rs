//! `alpharho-trainer`: started by `alpharho-worker`, one process for each lease of a slot.

use anyhow::{Context, Result};
use crossbeam_channel::Receiver;
use proto::link::{EXIT_DONE, EXIT_ORDERS, Order};
use std::process::ExitCode;
use trainer::speech::{self, Speech};

trainer::keep_large_buffers!();

/// Exit code when the agent is gone.
const EXIT_ORPHAN: i32 = 3;

fn main() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        if argument == "--version" {
            println!("alpharho-trainer {} (libtorch {})", env!("CARGO_PKG_VERSION"), trainer::LIBTORCH_VERSION);
            return ExitCode::SUCCESS;
        }
        eprintln!("alpharho-trainer is started by alpharho-worker, which writes its orders to standard input");
        return code(EXIT_ORDERS);
    }
    trainer::device::keep_caught_panics_quiet();
    match train(&speech::listen(EXIT_ORPHAN)) {
        Ok(()) => leave(EXIT_DONE),
        Err(error) => {
            eprintln!("error: {}", trainer::device::words(&error));
            ExitCode::FAILURE
        }
    }
}

/// Ends the process at once: everything was said, and libtorch takes a tenth of a second to put its own things away.
fn leave(code: i32) -> ! {
    #[expect(unsafe_code, reason = "C: an exit without the destructors of what is static")]
    // SAFETY: C11's function of that name; it takes a number and does not return.
    unsafe extern "C" {
        safe fn quick_exit(code: libc::c_int) -> !;
    }
    quick_exit(code)
}

fn train(orders: &Receiver<Order>) -> Result<()> {
    let Order::Start(start) = orders.recv().context("the agent went away before it gave an order")? else {
        anyhow::bail!("the first order must be a start");
    };
    trainer::cohort::run(start, orders, &Speech::to(Box::new(std::io::stdout())))
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
