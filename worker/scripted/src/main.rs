//! Acts out a script instead of training, so that everything around training can be tested fast and loaded
//! hard. Speaks the trainer's pipe of `proto::link`; its numbers are made up, its trials are marked so.

mod actor;
mod exchange;
mod metrics;
mod orders;
mod sleep;
mod voice;

use proto::link::{EXIT_DONE, EXIT_ORDERS, Order, Start};
use scripted::checkpoint;
use sleep::SPEED;
use std::io::BufRead;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some() {
        println!(
            "alpharho-trainer-scripted {}: started by alpharho-worker, with orders on standard input. It acts out \
             the `script` of a sweep file instead of training. With {SPEED}=2 it sleeps half as long.",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::SUCCESS;
    }
    let start = match first_order() {
        Ok(start) => start,
        Err(error) => {
            eprintln!("alpharho-trainer-scripted: {error:#}");
            return code(EXIT_ORDERS);
        }
    };
    let (stops, joins) = orders::listen();
    if let Err(problem) = sleep::check_speed() {
        eprintln!("alpharho-trainer-scripted: {problem}");
        return code(EXIT_ORDERS);
    }
    let voice = voice::Voice::new();
    voice.keep_saying_alive();
    match actor::act(start, &stops, &joins, &voice) {
        Ok(()) => code(EXIT_DONE),
        Err(error) => {
            eprintln!("alpharho-trainer-scripted: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn first_order() -> anyhow::Result<Start> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    match serde_json::from_str(&line)? {
        Order::Start(start) => Ok(start),
        Order::Stop { .. } | Order::Join { .. } => anyhow::bail!("the first order must be `start`"),
    }
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
