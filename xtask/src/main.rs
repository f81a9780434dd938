//! The habits of the house as a program: `cargo xtask setup`, `demo`, `test`, `peers`.

mod background;
mod bench;
mod bench_control_plane;
mod bench_grid;
mod bench_input;
mod bench_makespan;
mod bench_replicas;
mod bench_watch;
mod chaos;
mod demo;
mod download;
mod elpv;
mod fashion_mnist;
mod fuzz;
mod gcompris;
mod house;
mod install;
mod libtorch;
mod needs;
mod peers;
mod pin;
mod rcc;
mod run;
mod setup;
mod test;

use std::path::PathBuf;
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
    /// Hold exported networks against timm and onnxruntime, and event files against TensorBoard's own reader
    #[command(
        after_help = "Examples:\n  cargo xtask peers                     trains three sweeps of one epoch first\n  \
        cargo xtask peers --sweep elpv-grid   one that is trained already\n\nGets PyTorch, timm and the others into \
        .alpharho/peers (5 GB)."
    )]
    Peers {
        /// A sweep that is trained already
        #[arg(long, value_name = "NAME")]
        sweep: Option<String>,
        /// The store that holds it
        #[arg(long, value_name = "FILE", default_value = "runs/alpharho.db")]
        store: PathBuf,
        /// The folder of its checkpoints [default: artifacts beside the store]
        #[arg(long, value_name = "DIR")]
        artifacts: Option<PathBuf>,
    },
    /// Kill, stop, cut off and damage real processes while sweeps run, and compare the results with undisturbed runs
    #[command(after_help = "Examples:\n  cargo xtask chaos --seed 7 --minutes 2    scripted trainers\n  \
        cargo xtask chaos --minutes 1 --trained   libtorch\n  \
        cargo xtask chaos --minutes 1 --calls     single calls lost, doubled, delayed, cut")]
    Chaos {
        /// Decides what is broken; each half minute has the next seed
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How long
        #[arg(long, value_parser = minutes, default_value = "1")]
        minutes: f64,
        /// Train with libtorch instead of acting out scripts
        #[arg(long)]
        trained: bool,
        /// Only single calls and messages between agents and coordinator are broken
        #[arg(long, conflicts_with = "trained")]
        calls: bool,
    },
    /// Make up and spoil what comes in at each door: sweep files, messages, images, data sets, checkpoints
    #[command(after_help = "Examples:\n  cargo xtask fuzz --minutes 10                      all targets in turn\n  \
        cargo xtask fuzz --seed 7 --from 4000 images       again from a case on that was told of")]
    Fuzz {
        /// Decides all cases
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How long, all targets together
        #[arg(long, value_parser = minutes, default_value = "5")]
        minutes: f64,
        /// The number of the first case
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Which doors; all, if none is named
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
    },
    /// Measure, beside peers or physical limits in the same run
    #[command(
        after_help = "Examples:\n  cargo xtask bench gradients\n  cargo xtask bench grid\n  cargo xtask bench grid --pairs 5\n  cargo xtask bench input\n  cargo xtask bench step\n  \
        cargo xtask bench replicas\n  cargo xtask bench watch\n  \
        cargo xtask bench control-plane"
    )]
    Bench {
        /// What
        #[command(subcommand)]
        what: Bench,
    },
}

/// What can be measured.
#[derive(Clone, Copy, Subcommand)]
enum Bench {
    /// Pushes of gradients a second: a chief, a tonic echo, raw TCP, and PyTorch's RPC; takes 7 minutes
    Gradients,
    /// The 16 cells on photographs: wall time of ours, of their steps alone, and of PyTorch; takes 15 minutes
    Grid {
        /// So many runs of ours, each after the steps alone, without peers: a minute each
        #[arg(long)]
        pairs: Option<usize>,
    },
    /// Photographs read, decoded, cropped and resized a second, beside torchvision; takes 3 minutes
    Input,
    /// The grid on scripted workers of unequal speed, beside the least time in which it can be done; takes 15 minutes
    Makespan,
    /// One trial trained by two replicas, one of them slow: async keeps its pace, sync does not; takes 5 minutes
    Replicas,
    /// Images a second of a training step of each cell, beside PyTorch, eager and compiled; takes 20 minutes
    Step,
    /// Trials, metric points, heartbeats and leases that a coordinator bears, and its start with a large store; beside Ray
    /// Tune, Optuna and `HyperQueue`; takes 12 minutes
    ControlPlane,
    /// The dashboard's start, idle load and memory on 16 and on 10,000 trials, and TensorBoard's loading of the same
    Watch,
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.1..=10_000.0).contains(&minutes) => Ok(minutes),
        _ => Err("expected minutes, from 0.1 to 10000".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let house = House::of_xtask();
    let result = match arguments.command {
        Task::Setup { cuda, data } => setup::setup(&house, &Wanted { cuda, data })
            .map(|libtorch| println!("ready; libtorch in {}", libtorch.folder.display())),
        Task::Demo => demo::demo(&house),
        Task::Test => test::test(&house),
        Task::Peers { sweep, store, artifacts } => {
            let artifacts = artifacts.unwrap_or_else(|| store.with_file_name("artifacts"));
            peers::peers(&house, sweep.map(|sweep| peers::Trained { sweep, store, artifacts }))
        }
        Task::Chaos { seed, minutes, trained, calls } => {
            let alone = trained.then_some("trained").or(calls.then_some("calls"));
            chaos::chaos(&house, chaos::Wish { seed, minutes, alone })
        }
        Task::Bench { what: Bench::ControlPlane } => bench_control_plane::control_plane(&house),
        Task::Fuzz { seed, minutes, from, targets } => fuzz::fuzz(&house, fuzz::Wish { seed, minutes, from, targets }),
        Task::Bench { what: Bench::Gradients } => bench::gradients(&house),
        Task::Bench { what: Bench::Grid { pairs } } => bench_grid::grid(&house, pairs),
        Task::Bench { what: Bench::Step } => bench_grid::step(&house),
        Task::Bench { what: Bench::Input } => bench_input::input(&house),
        Task::Bench { what: Bench::Makespan } => bench_makespan::makespan(&house),
        Task::Bench { what: Bench::Replicas } => bench_replicas::replicas(&house),
        Task::Bench { what: Bench::Watch } => bench_watch::watch(&house),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
