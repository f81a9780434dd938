//! The command line.

use agent::devices::{Count, DeviceChoice};
use clap::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  alpharho-worker --coordinator http://127.0.0.1:7070 --device cpu --slots 1
  alpharho-worker --coordinator https://10.0.0.5:7070 --credentials node7 --data imagenet=/mnt/imagenet
  alpharho-worker --metrics-listen 127.0.0.1:9464 --log-format json
  alpharho-worker --check          what was found: trainers, libtorch, devices

Exit codes:
  0    left as asked (SIGTERM or SIGINT once, or idle with --exit-when-idle): trials were checkpointed and given back
  1    something failed; the message says what
  2    the command line is wrong
  3    no trainer can run here; the message lists what was looked for
  4    left as asked, but the coordinator was away and has not heard of everything
  130  a second signal: trainers were killed";

/// Trains the trials that a coordinator leases to this machine.
///
/// One trainer process for each slot. When the coordinator goes away, trials train on and the worker waits for it to
/// come back. SIGTERM and SIGINT make trials save a checkpoint and give them back, within 30 seconds.
#[derive(Debug, Parser)]
#[command(name = "alpharho-worker", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Address of the coordinator
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7070", env = "ALPHARHO_COORDINATOR")]
    pub(crate) coordinator: String,
    /// What is shown over https://: a folder with ca.pem, cert.pem, key.pem and token, as `alpharho certs issue` and
    /// `alpharho tokens create --role worker` make them
    #[arg(long, value_name = "DIR", env = "ALPHARHO_CREDENTIALS")]
    pub(crate) credentials: Option<PathBuf>,
    /// Trials at a time; auto: one for each GPU, or one for each CPU core up to 4
    #[arg(long, value_name = "N", default_value = "auto")]
    pub(crate) slots: Count,
    /// What to train on: auto (GPUs if there are any), cpu, or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// CPU threads for each slot; auto: the cores divided by the slots
    #[arg(long, value_name = "N", default_value = "auto")]
    pub(crate) threads: Count,
    /// Where a data set lies here; may be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = name_and_path)]
    pub(crate) data: Vec<(String, PathBuf)>,
    /// Where data sets that are not named lie [default: .alpharho/data if it is there]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_folder: Option<PathBuf>,
    /// Checkpoints on their way lie here [default: runs/worker-ID; removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// The folder of libtorch 2.11 [default: LIBTORCH, an installed PyTorch, the folder of `cargo xtask setup`]
    #[arg(long, value_name = "DIR")]
    pub(crate) libtorch: Option<PathBuf>,
    /// The trainer [default: alpharho-trainer beside this executable, or on PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) trainer: Option<PathBuf>,
    /// The trainer of scripted trials [default: alpharho-trainer-scripted beside this executable, or on PATH]
    #[arg(long, value_name = "FILE")]
    pub(crate) scripted_trainer: Option<PathBuf>,
    /// Serve scripted trials alone, so that neither trainer nor libtorch is needed
    #[arg(long, hide = true, env = "ALPHARHO_SCRIPTED_ONLY")]
    pub(crate) scripted_only: bool,
    /// Where a trial's chief listens for gradients of other replicas: off loopback replicas on other nodes can join, over
    /// TLS with --credentials, whose certificate must name the host (`alpharho certs issue NAME --host HOST`)
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub(crate) gradients_listen: SocketAddr,
    /// Without TLS between replicas on different nodes: authenticated, but not encrypted. For all workers of a coordinator
    /// or for none
    #[arg(long)]
    pub(crate) gradients_unencrypted: bool,
    /// Kill a trainer that says nothing for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 120.0, value_parser = seconds)]
    pub(crate) trainer_silence_seconds: f64,
    /// Leave when there is nothing to do
    #[arg(long)]
    pub(crate) exit_when_idle: bool,
    /// How long `nothing to do` must last
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds, hide = true)]
    pub(crate) idle_seconds: f64,
    /// Leave when the process that started this one is gone
    #[arg(long)]
    pub(crate) die_with_parent: bool,
    /// Print what was found on this machine, and leave
    #[arg(long)]
    pub(crate) check: bool,
    /// With --check: print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// The form of log lines on standard error: text, or json (one object a line)
    #[arg(long, value_name = "FORM", default_value_t)]
    pub(crate) log_format: telemetry::log::Format,
    /// Serve metrics for Prometheus at http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_listen: Option<String>,
    /// Needed for --metrics-listen off loopback: everybody who reaches it may read them
    #[arg(long)]
    pub(crate) metrics_public: bool,
}

impl Arguments {
    /// Off loopback nothing goes in the clear unless somebody has said so.
    ///
    /// # Errors
    /// With what is wrong and what to do.
    pub(crate) fn check_gradients(&self) -> Result<(), String> {
        let Self { gradients_listen, gradients_unencrypted, credentials, .. } = self;
        if gradients_listen.ip().is_loopback() || *gradients_unencrypted || credentials.is_some() {
            return Ok(());
        }
        Err(format!(
            "--gradients-listen {gradients_listen} is not on loopback, and what goes between replicas would not be \
             encrypted: give --credentials DIR, with a certificate made by `alpharho certs issue NAME --host HOST`; or \
             --gradients-unencrypted if you trust that network (THREATS.md says with what); or leave it out"
        ))
    }
}

fn name_and_path(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !name.contains('/') && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(path)))
        }
        _ => Err("expected NAME=PATH, as in imagenet=/mnt/imagenet".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=1.0e6).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0.001 to 1000000".to_owned()),
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
    fn bad_values_are_refused() {
        let check = |arguments: &[&str], good: bool| {
            let line = std::iter::once("alpharho-worker").chain(arguments.iter().copied());
            assert_eq!(Arguments::try_parse_from(line).is_ok(), good, "{arguments:?}");
        };
        check(&[], true);
        check(&["--data", "imagenet=/mnt/imagenet", "--data", "x=y=z"], true);
        check(&["--data", "imagenet"], false);
        check(&["--data", "=x"], false);
        check(&["--data", "a/b=x"], false);
        check(&["--slots", "0"], false);
        check(&["--device", "gpu"], false);
        check(&["--gradients-listen", "10.0.0.5:0"], true);
        check(&["--gradients-listen", "[::1]:4000"], true);
        check(&["--gradients-listen", "10.0.0.5"], false);
        for (line, good) in [
            ("alpharho-worker", true),
            ("alpharho-worker --gradients-listen [::1]:4000", true),
            ("alpharho-worker --gradients-listen 10.0.0.5:0", false),
            ("alpharho-worker --gradients-listen 0.0.0.0:0 --gradients-unencrypted", true),
            ("alpharho-worker --gradients-listen 10.0.0.5:0 --credentials node7", true),
        ] {
            let arguments = Arguments::try_parse_from(line.split_whitespace()).unwrap();
            assert_eq!(arguments.check_gradients().is_ok(), good, "{line}");
        }
        check(&["--log-format", "json", "--metrics-listen", "127.0.0.1:9464"], true);
        check(&["--log-format", "xml"], false);
        check(&["--trainer-silence-seconds", "0.5"], true);
        check(&["--trainer-silence-seconds", "nan"], false);
    }
}
