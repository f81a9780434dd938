//! `alpharho-worker`: started by a person on a node, or by `alpharho run`.

mod arguments;
mod report;
mod watch;

use access::Credentials;
use agent::config::{Config, PATIENCE, host_name, new_worker_id};
use agent::libtorch::Places;
use agent::metrics::Metrics;
use agent::trainers::{self, RealTrainer, SCRIPTED_TRAINER, TRAINER, Trainers};
use agent::{Left, devices};
use anyhow::Context;
use arguments::Arguments;
use clap::Parser;
use proto::link::DataPlaces;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_NO_TRAINER: u8 = 3;
const EXIT_UNHEARD: u8 = 4;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before anything takes time: the parent may die at any moment.
    let parent = arguments.die_with_parent.then(watch::tie_to_parent);
    telemetry::log::to_stderr(arguments.log_format, "info");
    match serve(&arguments, parent) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn serve(arguments: &Arguments, parent: Option<watch::Parent>) -> anyhow::Result<ExitCode> {
    if let Err(wrong) = arguments.check_gradients() {
        tracing::error!("{wrong}");
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    let config = config(arguments)?;
    if arguments.check {
        report::print(&config, arguments.json)?;
        let usable = config.trainers.real.is_ok() || arguments.scripted_only && config.trainers.scripted.is_ok();
        return Ok(if usable { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO_TRAINER) });
    }
    let missing = if arguments.scripted_only {
        config.trainers.scripted.as_ref().err()
    } else {
        config.trainers.real.as_ref().err()
    };
    if let Some(missing) = missing {
        tracing::error!("no trainer can run here: {missing}");
        return Ok(ExitCode::from(EXIT_NO_TRAINER));
    }
    if let Ok(real) = &config.trainers.real {
        tracing::info!(
            "libtorch {} in {} (by {})",
            real.libtorch.version.as_deref().unwrap_or("of unknown version"),
            real.libtorch.library_folder.display(),
            real.libtorch.found_by
        );
    }
    if !arguments.gradients_listen.ip().is_loopback() && config.gradients_credentials.is_none() {
        tracing::warn!(
            "gradients are taken on {}, and what goes between replicas is not encrypted",
            arguments.gradients_listen
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let left = runtime.block_on(async {
        if let Some(address) = &arguments.metrics_listen {
            let listener = tokio::net::TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot listen for metrics on {address}"))?;
            telemetry::http::check_public(listener.local_addr()?, arguments.metrics_public)?;
            tracing::info!("metrics at http://{}/metrics", listener.local_addr()?);
            let metrics = config.metrics.clone();
            let text = move || std::future::ready(metrics.text());
            tokio::spawn(telemetry::http::serve(listener, text, std::future::pending()));
        }
        let leave = watch::leave_when_told(parent)?;
        anyhow::Ok(agent::run(config, leave).await?)
    })?;
    // What still waits for a broken stream is of no use.
    runtime.shutdown_timeout(Duration::from_millis(200));
    Ok(match left {
        Left::Clean => ExitCode::SUCCESS,
        Left::Unheard => {
            tracing::warn!("the coordinator has not heard of everything; it will find these leases lost");
            ExitCode::from(EXIT_UNHEARD)
        }
        Left::NeverAttached => {
            tracing::error!("the coordinator at {} never answered", arguments.coordinator);
            ExitCode::from(EXIT_FAILED)
        }
    })
}

fn config(arguments: &Arguments) -> anyhow::Result<Config> {
    let worker = new_worker_id();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let gpus = devices::gpus(Path::new("/dev"));
    let mut names = std::collections::BTreeMap::new();
    for (name, path) in &arguments.data {
        let path = path.canonicalize().with_context(|| format!("--data {name}={}", path.display()))?;
        names.insert(name.clone(), path);
    }
    let usual = PathBuf::from(".alpharho/data");
    let folder = match &arguments.data_folder {
        Some(told) => Some(told.canonicalize().with_context(|| format!("--data-folder {}", told.display()))?),
        None => usual.canonicalize().ok(),
    };
    let secure = arguments.coordinator.starts_with("https:");
    let credentials = arguments.credentials.as_deref().filter(|_| secure).map(Credentials::read).transpose()?;
    Ok(Config {
        coordinator: arguments.coordinator.clone(),
        credentials,
        worker,
        host: host_name(),
        slots: devices::plan(
            &arguments.device,
            arguments.slots,
            arguments.threads,
            &gpus,
            u32::try_from(cores).unwrap_or(u32::MAX),
        ),
        data: DataPlaces { names, folder },
        folder: arguments.folder.clone().unwrap_or_else(|| PathBuf::from(format!("runs/worker-{worker}"))),
        trainers: Trainers {
            real: if arguments.scripted_only {
                Err("this worker serves scripted trials alone (--scripted-only)".to_owned())
            } else {
                real_trainer(arguments)
            },
            scripted: trainers::find(SCRIPTED_TRAINER, arguments.scripted_trainer.as_deref()),
        },
        gradients_listen: arguments.gradients_listen.to_string(),
        gradients_credentials: gradients_credentials(arguments)?,
        silence: Duration::from_secs_f64(arguments.trainer_silence_seconds),
        patience: PATIENCE,
        metrics: Metrics::new()?,
        leave_when_idle: arguments.exit_when_idle.then(|| Duration::from_secs_f64(arguments.idle_seconds)),
    })
}

/// What trainers show each other, unless they are to do without.
fn gradients_credentials(arguments: &Arguments) -> anyhow::Result<Option<PathBuf>> {
    let Some(folder) = arguments.credentials.as_deref().filter(|_| !arguments.gradients_unencrypted) else {
        return Ok(None);
    };
    if !arguments.gradients_listen.ip().is_loopback() {
        // Better told now than by the first chief.
        Credentials::read(folder)?.to_listen().context("--gradients-listen off loopback")?;
    }
    Ok(Some(folder.canonicalize().with_context(|| format!("--credentials {}", folder.display()))?))
}

fn real_trainer(arguments: &Arguments) -> Result<RealTrainer, String> {
    let executable = trainers::find(TRAINER, arguments.trainer.as_deref())?;
    let libtorch = Places::usual(arguments.libtorch.clone()).find().map_err(|error| error.to_string())?;
    let real = RealTrainer { executable, libtorch };
    real.try_to_load()?;
    Ok(real)
}
