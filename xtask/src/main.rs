//! The habits of the house as a program: `cargo xtask setup`, `demo`, `test`.

mod demo;
mod download;
mod elpv;
mod fashion_mnist;
mod gcompris;
mod house;
mod install;
mod libtorch;
mod needs;
mod pin;
mod rcc;
mod run;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::house::House;
use crate::setup::{Data, Wanted};

/// Sets up a machine for alpharho, shows it at work, tests it. Every command may be run again at any time and does
/// only what is missing.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask demo                     from a bare machine to a trade-off curve
  cargo xtask test                     formatting, clippy, docs and all tests
  cargo xtask setup --cuda             libtorch with CUDA, for a machine with a GPU
  cargo xtask setup --data gcompris    one more data set

A libtorch of your own is taken instead of ours: LIBTORCH=/path/to/libtorch, or LIBTORCH_USE_PYTORCH=1.";

#[derive(Subcommand)]
enum Task {
    /// Get libtorch and data into .alpharho/, where they are missing
    #[command(after_help = "Examples:\n  cargo xtask setup\n  cargo xtask setup --cuda --data elpv,gcompris")]
    Setup {
        /// The CUDA flavour of libtorch too (3.6 GB on disk)
        #[arg(long)]
        cuda: bool,
        /// The data sets to fetch
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Data::Elpv, Data::FashionMnist])]
        data: Vec<Data>,
    },
    /// Set up, build in release mode, train sweeps/quickstart.yaml, and print its table and plot
    #[command(after_help = "Example:\n  cargo xtask demo\n\nRun again, it goes on where it stopped.")]
    Demo,
    /// Set up, then check formatting, clippy and docs, and run all tests
    #[command(after_help = "Example:\n  cargo xtask test\n\nUses cargo-nextest where it is installed.")]
    Test,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let house = House::of_xtask();
    let result = match arguments.command {
        Task::Setup { cuda, data } => setup::setup(&house, &Wanted { cuda, data })
            .map(|libtorch| println!("ready; libtorch in {}", libtorch.folder.display())),
        Task::Demo => demo::demo(&house),
        Task::Test => test::test(&house),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
