//! The command line.

use access::{Role, UnknownRole};
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use dashboards::selection::{Selection, UnknownName};
use std::path::PathBuf;
use sweeps::plan::PlanFormat;
use sweeps::spec::model::Format;

/// Where the store lies unless told otherwise.
pub(crate) const STORE_DEFAULT: &str = "runs/alpharho.db";

/// A coordinator itself gives up after 120 seconds, and says why.
const ANSWER_SECONDS: u64 = 150;

/// Where certificates and tokens lie unless told otherwise.
pub(crate) const CERTS_DEFAULT: &str = "certs";

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
    /// What is shown over https://: a folder with ca.pem, cert.pem, key.pem and token, as `alpharho certs issue` and
    /// `alpharho tokens create` make them. Of `alpharho coordinator`: listen with TLS, with that certificate
    #[arg(long, global = true, value_name = "DIR", env = "ALPHARHO_CREDENTIALS", value_hint = ValueHint::DirPath)]
    pub(crate) credentials: Option<PathBuf>,
    /// Give a question up that the coordinator has not answered after so long
    #[arg(long, global = true, value_name = "SECONDS", env = "ALPHARHO_TIMEOUT", default_value_t = ANSWER_SECONDS,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) timeout: u64,
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
  alpharho coordinator --metrics-listen 127.0.0.1:9463 --log-format json
  alpharho coordinator --listen 0.0.0.0:7070 --credentials certs/coordinator   # for other machines; see `certs`")]
    Coordinator(Coordinator),
    /// Hand a sweep to the coordinator and leave
    #[command(after_help = "\
Examples:
  alpharho submit sweeps/fashion-mnist.yaml
  alpharho submit sweeps/fashion-mnist.yaml --replace
  alpharho submit sweeps/fashion-mnist.yaml --coordinator https://10.0.0.5:7070 --credentials certs/me")]
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
    /// Make the certificates with which a coordinator and those who call it know each other
    #[command(after_help = "\
A name is a person or a machine. Everything that belongs to one lies in a folder of its name: take that folder to its
machine, and keep certs/authority at home, for whoever has its key can make certificates of any name.

Examples:
  alpharho certs init
  alpharho certs issue coordinator --host 10.0.0.5 --host gpu0.example.org
  alpharho certs issue me
  alpharho certs issue node7 --days 90 --json")]
    Certs(Certs),
    /// Say what a name may do: make, list, revoke and rotate tokens, while the coordinator runs
    #[command(after_help = "\
Roles: admin (everything), submit (submit and steer sweeps, and look), worker (train), read (look).
A token is written to a file and never printed; of it the store has a hash. Once nobody coordinates the store, these
commands open it themselves: so the first token is made.

Examples:
  alpharho tokens create me --role admin
  alpharho tokens create node7 --role worker
  alpharho tokens list
  alpharho tokens rotate node7 --grace-minutes 60     # the old one is good for an hour more
  alpharho tokens revoke node7                        # at once, open streams included")]
    Tokens(Tokens),
    /// See whether a store is whole, or copy it, also while it is in use
    #[command(
        subcommand,
        after_help = "\
Examples:
  alpharho store check                        # the database, and every byte of its checkpoints
  alpharho store check --quick                # lengths of checkpoints only
  alpharho store backup /backups/2026-11-23   # the copy is a store: --store /backups/2026-11-23/alpharho.db
  alpharho store backup copy --no-checkpoints

Exit codes: 0 it is whole, 1 something is damaged or missing"
    )]
    Store(Store),
    /// Pack a data set into one file that is mapped into memory: `data.format: pack`
    #[command(after_help = "\
Files are kept as they are; with --size, what is larger is shrunk and stored as JPEG; with --raw, as pixels that need no
decoding. Broken images are named and left out. The same command goes on after an interruption, also after kill -9.

Examples:
  alpharho pack imagenet/train --format image_folder --out train.pack
  alpharho pack imagenet/train --format image_folder --out train.pack --size 256 --quality 90
  alpharho pack 'shards/train-{000..127}.tar' --format webdataset --classes 1000 --out train.pack
  alpharho pack data/train --format parquet --out train.pack
  alpharho pack --show train.pack             # what is in it
  alpharho pack --check train.pack            # every byte, against its hash

Exit codes: 0 done, 1 error or damage, 2 bad command line, 130 interrupted")]
    Pack(Pack),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  alpharho completion bash > ~/.local/share/bash-completion/completions/alpharho
  alpharho completion zsh")]
    Completion(Completion),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Look for damage: in the database, between its rows, in the checkpoints that it names
    #[command(after_help = "\
Examples:
  alpharho store check
  alpharho store check --quick --json")]
    Check {
        /// Compare only the lengths of checkpoints, not their hashes
        #[arg(long)]
        quick: bool,
    },
    /// Copy it as it is in one moment into a folder that is not there yet
    #[command(after_help = "\
Examples:
  alpharho store backup /backups/2026-11-23
  alpharho store backup copy --no-checkpoints")]
    Backup {
        /// The folder
        #[arg(value_hint = ValueHint::DirPath)]
        to: PathBuf,
        /// The database alone: trials that go on from the copy begin anew
        #[arg(long)]
        no_checkpoints: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// The data set, as data.train of a sweep file names it
    #[arg(required_unless_present_any = ["check", "show"], requires = "out", value_hint = ValueHint::AnyPath)]
    pub(crate) source: Option<PathBuf>,
    /// The pack to write
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: Option<PathBuf>,
    /// How the data set lies on disk, as data.format of a sweep file
    #[arg(long, value_name = "FORMAT", required_unless_present_any = ["check", "show"],
        value_parser = crate::commands::parse_format)]
    pub(crate) format: Option<Format>,
    /// How many classes; needed where the data set does not name them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) classes: Option<u32>,
    /// Shrink images whose shorter side is longer than this to it
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=8192))]
    pub(crate) size: Option<u32>,
    /// Store pixels, which need no decoding in training and much more room
    #[arg(long)]
    pub(crate) raw: bool,
    /// Of the JPEG that shrunk images are stored as
    #[arg(long, value_name = "1-100", default_value_t = 90, requires = "size", conflicts_with = "raw",
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) quality: u8,
    /// Threads that read, decode and encode [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Give up when more images than this are broken
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) broken_max: u32,
    /// Replace a pack that is there, and give up one that was begun from something else
    #[arg(long)]
    pub(crate) force: bool,
    /// Instead: compare every byte of a pack with its hashes, and say what is damaged
    #[arg(long, value_name = "PACK", conflicts_with_all = ["source", "out", "format", "show"], value_hint = ValueHint::FilePath)]
    pub(crate) check: Option<PathBuf>,
    /// Instead: say what is in a pack
    #[arg(long, value_name = "PACK", conflicts_with_all = ["source", "out", "format"], value_hint = ValueHint::FilePath)]
    pub(crate) show: Option<PathBuf>,
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
    /// Begin no trial while less is free on the disks of store and checkpoints [default: a fiftieth of the disk, from 64
    /// to 1024]
    #[arg(long, value_name = "MIB")]
    pub(crate) disk_reserve_mib: Option<u64>,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<String>,
    /// Needed for --metrics-listen off loopback: everybody who reaches it may read them
    #[arg(long)]
    pub(crate) metrics_public: bool,
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
pub(crate) struct Certs {
    /// The folder of the authority and of all names
    #[arg(long, global = true, value_name = "DIR", default_value = CERTS_DEFAULT, value_hint = ValueHint::DirPath)]
    pub(crate) certs: PathBuf,
    #[command(subcommand)]
    pub(crate) command: CertsCommand,
}

/// What to make.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// A private authority, in certs/authority
    #[command(after_help = "\
Examples:
  alpharho certs init
  alpharho certs init --certs /safe/certs --days 3650")]
    Init {
        /// How long it is good
        #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// The key and certificate of a name, in certs/NAME
    #[command(after_help = "\
Examples:
  alpharho certs issue coordinator --host 10.0.0.5
  alpharho certs issue node7")]
    Issue {
        /// Of a person or a machine: a to z, 0 to 9 and -
        name: String,
        /// A name or address under which others reach it, for one that listens; may be given several times
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// How long it is good
        #[arg(long, value_name = "DAYS", default_value_t = 397, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Tokens {
    #[command(subcommand)]
    pub(crate) command: TokensCommand,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Make a token for a name that has none
    #[command(after_help = "\
Examples:
  alpharho tokens create node7 --role worker
  alpharho tokens create bob --role read --out bob.token")]
    Create {
        /// The same as of its certificate
        name: String,
        /// admin, submit, worker or read
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Role,
        /// The file it is written to; must not be there yet [default: certs/NAME/token]
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
    /// List those that are good
    #[command(after_help = "\
Examples:
  alpharho tokens list
  alpharho tokens list --json")]
    List,
    /// End all tokens of a name at once, and the streams opened with them
    #[command(after_help = "\
Examples:
  alpharho tokens revoke node7")]
    Revoke {
        /// Whose
        name: String,
    },
    /// Make another token in place of the one that a name has
    #[command(after_help = "\
Examples:
  alpharho tokens rotate node7
  alpharho tokens rotate node7 --grace-minutes 0 --out node7.token")]
    Rotate {
        /// Whose
        name: String,
        /// How long the old one is good still
        #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=527_040))]
        grace_minutes: u64,
        /// The file it is written to, in place of what is there [default: certs/NAME/token]
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

fn role(word: &str) -> Result<Role, UnknownRole> {
    word.parse()
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
        let commands = whole.get_subcommands().filter(|command| command.get_name() != "help");
        let nested = commands.flat_map(clap::Command::get_subcommands);
        let all = std::iter::once(&whole).chain(whole.get_subcommands()).chain(nested);
        for command in all.filter(|command| command.get_name() != "help") {
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
        check("alpharho store", false);
        check("alpharho store backup", false);
        check("alpharho logs a", false);
        check("alpharho logs a three", false);
        check("alpharho coordinator --heartbeat-ms 0", false);
        check("alpharho certs", false);
        check("alpharho certs issue", false);
        check("alpharho certs issue a --days 0", false);
        check("alpharho tokens create a", false);
        check("alpharho tokens create a --role root", false);
        check("alpharho tokens rotate a --grace-minutes -1", false);
    }

    #[test]
    fn things_lie_beside_the_store() {
        let place = |line: &str| Arguments::try_parse_from(line.split_whitespace()).unwrap().place;
        assert_eq!(place("alpharho list").artifacts_folder(), PathBuf::from("runs/artifacts"));
        assert_eq!(place("alpharho list --store a.db").artifacts_folder(), PathBuf::from("artifacts"));
        assert_eq!(place("alpharho list --artifacts b").artifacts_folder(), PathBuf::from("b"));
    }
}
