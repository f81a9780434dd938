//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use dashboards::selection::{Selection, UnknownName};
use std::path::PathBuf;
use sweeps::plan::PlanFormat;

/// Where the store lies unless told otherwise.
pub(crate) const STORE_DEFAULT: &str = "runs/alpharho.db";

const EXAMPLES: &str = "\
Examples:
  alpharho plan sweeps/quickstart.yaml        # what would be trained, and what it costs
  alpharho run sweeps/quickstart.yaml         # train it here, export table and plot
  alpharho status quickstart                  # how far it is, or how it ended

Exit codes:
  0    done
  1    something failed; the message says what
  2    the command line or the sweep file is wrong
  3    the sweep is over, and trials of it failed
  130  interrupted; `alpharho run` goes on where it stopped";

/// Trains a grid of MobileNets, alpha by resolution, and draws accuracy against cost.
#[derive(Debug, Parser)]
#[command(name = "alpharho", version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which coordinator, and how to print.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Place {
    /// The store: an SQLite file. Whoever coordinates it is asked; if nobody does, it is opened here
    #[arg(long, global = true, value_name = "FILE", default_value = STORE_DEFAULT, value_hint = ValueHint::FilePath)]
    pub(crate) store: PathBuf,
    /// The folder of checkpoints [default: artifacts beside the store]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) artifacts: Option<PathBuf>,
    /// Ask the coordinator at this address instead
    #[arg(long, global = true, value_name = "URL", env = "ALPHARHO_COORDINATOR")]
    pub(crate) coordinator: Option<String>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Place {
    /// The folder of checkpoints.
    pub(crate) fn artifacts_folder(&self) -> PathBuf {
        self.artifacts.clone().unwrap_or_else(|| self.beside_store("artifacts"))
    }

    /// Something in the store's folder.
    pub(crate) fn beside_store(&self, name: &str) -> PathBuf {
        self.store.parent().map(|folder| folder.join(name)).unwrap_or_else(|| PathBuf::from(name))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the trials of a sweep file and what they cost; needs no server and trains nothing
    #[command(after_help = "\
Examples:
  alpharho plan sweeps/mobilenet-imagenet.yaml
  alpharho plan sweeps/fashion-mnist.yaml --format csv")]
    Plan(Plan),
    /// Train a sweep with workers of this machine, watch it, and export its results
    #[command(after_help = "\
The same command goes on where it was stopped: Ctrl-C once lets running trials save a checkpoint, twice stops at once.

Examples:
  alpharho run sweeps/quickstart.yaml
  alpharho run sweeps/elpv-grid.yaml --data elpv=/data/elpv --slots 2
  alpharho run sweeps/fashion-mnist.yaml --workers none   # workers attach from elsewhere
  alpharho run sweeps/fashion-mnist.yaml --new-name fashion-mnist-2

Exit codes: 0 all trials completed, 1 error, 2 bad sweep file, 3 trials failed, 130 interrupted")]
    Run(Run),
    /// Serve a store until stopped: takes sweeps from `submit`, leases trials to workers
    #[command(after_help = "\
Examples:
  alpharho coordinator
  alpharho coordinator --listen 127.0.0.1:7070 --store runs/alpharho.db --artifacts runs/artifacts
  alpharho coordinator --heartbeat-ms 1000 --json
  alpharho coordinator --metrics-listen 127.0.0.1:9463 --log-format json")]
    Coordinator(Coordinator),
    /// Hand a sweep to the coordinator and leave
    #[command(after_help = "\
Examples:
  alpharho submit sweeps/fashion-mnist.yaml
  alpharho submit sweeps/fashion-mnist.yaml --coordinator http://10.0.0.5:7070 --replace")]
    Submit(Submit),
    /// List the sweeps of the store
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  alpharho list
  alpharho list --json"
    )]
    List,
    /// Show a sweep's trials: state, epochs, accuracy
    #[command(after_help = "\
Examples:
  alpharho status                             # the newest sweep
  alpharho status fashion-mnist --json")]
    Status(MaybeSweep),
    /// Say why a trial waits, or what it does
    #[command(after_help = "\
Examples:
  alpharho explain fashion-mnist 3
  alpharho explain 3                          # of the newest sweep
  alpharho explain --id 19                    # by the number of the store, as in messages")]
    Explain(Explain),
    /// Watch a sweep: the dashboard on a terminal, else a line for each event until the sweep is over
    #[command(after_help = "\
Examples:
  alpharho watch fashion-mnist                # the dashboard; ? lists its keys
  alpharho watch fashion-mnist --read-only    # the same, without pausing, cancelling and the like
  alpharho watch fashion-mnist --plain        # lines
  alpharho watch --after 120 --json           # all sweeps, one JSON object a line")]
    Watch(Watch),
    /// Print what a trial's trainers wrote
    #[command(after_help = "\
Examples:
  alpharho logs fashion-mnist 3
  alpharho logs fashion-mnist 3 -f            # go on as lines come")]
    Logs(Logs),
    /// Stop a sweep or a trial with a checkpoint, until it is resumed
    #[command(after_help = "\
Examples:
  alpharho pause fashion-mnist
  alpharho pause fashion-mnist --trial 3")]
    Pause(Control),
    /// Go on with a paused sweep or trial
    #[command(after_help = "\
Examples:
  alpharho resume fashion-mnist
  alpharho resume fashion-mnist --trial 3")]
    Resume(Control),
    /// End the trials of a sweep that are not over, or one of them
    #[command(after_help = "\
Examples:
  alpharho cancel fashion-mnist
  alpharho cancel fashion-mnist --trial 3")]
    Cancel(Control),
    /// Start failed and cancelled trials of a sweep again, or one of them
    #[command(after_help = "\
Examples:
  alpharho retry fashion-mnist
  alpharho retry fashion-mnist --trial 3")]
    Retry(Control),
    /// Change how many trials of a sweep may run at a time, while it runs
    #[command(after_help = "\
Trials that run already go on. The limit stays until another one is asked for, or until a sweep file with another
max_concurrent_trials is submitted under the same name; the same file again does not undo it.

Examples:
  alpharho limit fashion-mnist 4
  alpharho limit fashion-mnist none           # as many as there are slots")]
    Limit(Limit),
    /// Let a worker finish what it trains, and leave
    #[command(after_help = "\
Examples:
  alpharho drain 3fa81c0d99e2b746             # as `alpharho workers` shows it
  alpharho drain 3fa8                         # the start of it is enough, if no other begins so
  alpharho drain gpu-node-7                   # the host's name, if it has one worker")]
    Drain(Drain),
    /// List workers, their slots, and what they train
    #[command(after_help = "\
Examples:
  alpharho workers
  alpharho workers --json")]
    Workers,
    /// Write plots, tables and a report of a sweep, finished or not
    #[command(after_help = "\
Names that --only takes, with commas between:
  plots    tradeoff, parameters, curves, time, staleness; or all of them: plots
  tables   grid, width, resolution, pareto, trials, attempts, metrics; or all of them: tables
  report   one HTML file with everything
  trials   tensorboard (event files); weights (safetensors for timm), onnx: these two only when they are named
  formats  svg, png; csv, json, md, tex, parquet; html
  files    grid.csv, tradeoff.svg

Examples:
  alpharho export fashion-mnist
  alpharho export fashion-mnist --out docs/results/fashion-mnist
  alpharho export fashion-mnist --only tradeoff,svg
  alpharho export fashion-mnist --only grid,width,tex --out paper/tables
  alpharho export fashion-mnist --only report
  alpharho export fashion-mnist --only weights,onnx --checkpoint latest")]
    Export(Export),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  alpharho completion bash > ~/.local/share/bash-completion/completions/alpharho
  alpharho completion zsh")]
    Completion(Completion),
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// The sweep file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// table, csv, json or markdown [default: table]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<PlanFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct Submission {
    /// The sweep file
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Call the sweep so, instead of by the file's name
    #[arg(long, value_name = "NAME", conflicts_with = "replace")]
    pub(crate) new_name: Option<String>,
    /// If settings have changed under the same name: cancel and forget the old sweep
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) submission: Submission,
    /// Where table and plot go [default: runs/SWEEP, beside the store]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) worker: Worker,
}

/// What is handed on to the workers that `run` starts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Workers")]
pub(crate) struct Worker {
    /// How many workers to start on this machine; `none`: others attach
    #[arg(long, value_name = "N", default_value = "1", value_parser = workers)]
    pub(crate) workers: u32,
    /// Trials at a time on each worker; auto: one for each GPU, or as the CPU allows
    #[arg(long, value_name = "N")]
    pub(crate) slots: Option<String>,
    /// What to train on: auto, cpu, or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// CPU threads for each slot
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<String>,
    /// Where a data set of the sweep file lies; may be given several times
    #[arg(long, value_name = "NAME=PATH")]
    pub(crate) data: Vec<String>,
    /// Where data sets that are not named lie
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) data_folder: Option<PathBuf>,
    /// The folder of libtorch
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) libtorch: Option<PathBuf>,
    /// The worker's executable [default: alpharho-worker beside this one]
    #[arg(long, value_name = "FILE", hide = true)]
    pub(crate) worker: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Coordinator {
    /// Address and port; port 0: any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    pub(crate) listen: String,
    /// How often workers must say that they live; a lease lasts six of these
    #[arg(long, value_name = "MS", default_value_t = coordinator::HEARTBEAT_MS_DEFAULT,
        value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub(crate) heartbeat_ms: u64,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<String>,
    /// The form of log lines on standard error: text, or json (one object a line)
    #[arg(long, value_name = "FORM", default_value_t)]
    pub(crate) log_format: telemetry::log::Format,
}

#[derive(Debug, Args)]
pub(crate) struct Submit {
    #[command(flatten)]
    pub(crate) submission: Submission,
}

#[derive(Debug, Args)]
pub(crate) struct MaybeSweep {
    /// The sweep's name [default: the newest]
    pub(crate) sweep: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// A trial's number, after its sweep's name unless that is the newest
    #[arg(value_name = "[SWEEP] TRIAL", num_args = 1..=2, required_unless_present = "id")]
    pub(crate) trial: Vec<String>,
    /// The trial's id in the store
    #[arg(long, conflicts_with = "trial")]
    pub(crate) id: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The sweep's name [default: the newest; of lines: all sweeps]
    pub(crate) sweep: Option<String>,
    /// A line an event instead of the dashboard; also when the output is no terminal, and with --json
    #[arg(long)]
    pub(crate) plain: bool,
    /// The dashboard asks nothing of the coordinator: no pausing, resuming, cancelling, retrying, draining
    #[arg(long)]
    pub(crate) read_only: bool,
    /// The dashboard in ASCII letters; also where TERM is dumb or the locale is not UTF-8
    #[arg(long)]
    pub(crate) ascii: bool,
    /// Lines: only events after this sequence number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) after: u64,
    /// Lines: stay when everything is over
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// The sweep's name
    pub(crate) sweep: String,
    /// The trial's number in it
    pub(crate) trial: u32,
    /// Go on as lines come, until the trial is over
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Control {
    /// The sweep's name
    pub(crate) sweep: String,
    /// Only the trial of this number
    #[arg(long, value_name = "N")]
    pub(crate) trial: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Limit {
    /// The sweep's name
    pub(crate) sweep: String,
    /// At least 1; none: as many as there are slots
    #[arg(value_name = "N|none", value_parser = limit)]
    pub(crate) limit: ConcurrencyLimit,
}

/// How many trials of a sweep may run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConcurrencyLimit(pub(crate) Option<u32>);

#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// Its id or the start of it, or its host
    pub(crate) worker: String,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The sweep's name [default: the newest]
    pub(crate) sweep: Option<String>,
    /// Where to [default: runs/SWEEP, beside the store]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Only these plots, tables, formats or files [default: everything but weights and onnx]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = exported)]
    pub(crate) only: Vec<String>,
    /// Which checkpoint weights and onnx are taken of
    #[arg(long, value_enum, default_value_t)]
    pub(crate) checkpoint: Which,
}

/// Which checkpoint is exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Of the best epoch; the newest where the sweep keeps no best one
    #[default]
    Best,
    /// The newest
    Latest,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// A name that can be exported.
fn exported(text: &str) -> Result<String, UnknownName> {
    Selection::parse(&[text]).map(|_| text.to_owned())
}

fn limit(text: &str) -> Result<ConcurrencyLimit, String> {
    match text {
        "none" => Ok(ConcurrencyLimit(None)),
        _ => match text.parse() {
            Ok(count @ 1..) => Ok(ConcurrencyLimit(Some(count))),
            _ => Err("expected a number of at least 1, or none; to run no trial at all, pause the sweep".to_owned()),
        },
    }
}

fn workers(text: &str) -> Result<u32, String> {
    match text {
        "none" => Ok(0),
        _ => match text.parse() {
            Ok(count @ 0..=64) => Ok(count),
            _ => Err("expected a number up to 64, or none".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_all_of_them_parse() {
        let mut whole = Arguments::command();
        whole.build();
        let mut count = 0;
        for command in std::iter::once(&whole).chain(whole.get_subcommands()).filter(|c| c.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n"), "{} has no examples", command.get_name());
            for line in help.lines().filter(|line| line.starts_with("  alpharho ")) {
                let words = line.split(" #").next().unwrap().split(" > ").next().unwrap().split_whitespace();
                Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                count += 1;
            }
        }
        assert!(count > 30, "{count} examples");
    }

    #[test]
    fn what_does_not_make_sense_is_refused() {
        let check = |line: &str, good: bool| {
            let parsed = Arguments::try_parse_from(line.split_whitespace());
            assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
        };
        check("alpharho status", true);
        check("alpharho status --json --store x.db", true);
        check("alpharho --json status", true);
        check("alpharho", false);
        check("alpharho plan", false);
        check("alpharho plan x.yaml --format xml", false);
        check("alpharho run x.yaml --workers none", true);
        check("alpharho run x.yaml --workers 100", false);
        check("alpharho run x.yaml --new-name y --replace", false);
        check("alpharho explain", false);
        check("alpharho explain a 1 2", false);
        check("alpharho explain 1 --id 2", false);
        check("alpharho limit a 4", true);
        check("alpharho limit a none", true);
        check("alpharho limit a 0", false);
        check("alpharho limit a", false);
        check("alpharho drain", false);
        check("alpharho logs a", false);
        check("alpharho logs a three", false);
        check("alpharho coordinator --heartbeat-ms 0", false);
    }

    #[test]
    fn things_lie_beside_the_store() {
        let place = |line: &str| Arguments::try_parse_from(line.split_whitespace()).unwrap().place;
        assert_eq!(place("alpharho list").artifacts_folder(), PathBuf::from("runs/artifacts"));
        assert_eq!(place("alpharho list --store a.db").artifacts_folder(), PathBuf::from("artifacts"));
        assert_eq!(place("alpharho list --artifacts b").artifacts_folder(), PathBuf::from("b"));
    }
}
