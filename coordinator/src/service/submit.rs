//! A sweep file as text becomes a submission.

use crate::driver::{PricedTrial, Submission};
use proto::wire;
use std::collections::{BTreeMap, BTreeSet};
use sweeps::network::Network;
use sweeps::plan::checkpoint_bytes;
use sweeps::spec::model::Sweep;
use tonic::Status;

/// Of what the user called his file, as long as paths are.
const FILE_NAME_BYTES_MAX: usize = 4096;

/// Reads, checks and expands a sweep file. Takes a while for very large ones.
pub(super) fn read(request: wire::SubmitRequest) -> Result<Submission, Status> {
    let wire::SubmitRequest { file_name, yaml, new_name, replace } = request;
    let file_name = if file_name.is_empty() { "sweep.yaml".to_owned() } else { file_name };
    if file_name.len() > FILE_NAME_BYTES_MAX || file_name.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!(
            "the file's name has {} bytes, or control characters; at most {FILE_NAME_BYTES_MAX} bytes are taken",
            file_name.len()
        )));
    }
    let mut sweep =
        sweeps::spec::parse(&file_name, &yaml).map_err(|problems| Status::invalid_argument(problems.to_string()))?;
    if let Some(name) = new_name {
        check_name(&name)?;
        sweep.name = name;
    }
    let trials = price(&sweep)?;
    Ok(Submission { file_name, yaml, sweep, trials, replace })
}

fn check_name(name: &str) -> Result<(), Status> {
    let fits = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    if (1..=64).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "--new-name {name}: a sweep's name has 1 to 64 of the characters a to z, 0 to 9 and -"
    )))
}

fn price(sweep: &Sweep) -> Result<Vec<PricedTrial>, Status> {
    let mut costs = BTreeMap::new();
    let mut keys = BTreeSet::new();
    let mut priced = Vec::new();
    for trial in sweep.expand() {
        if !keys.insert(trial.key.clone()) {
            let parameters = proto::convert::to_json(&trial.parameters);
            let text = format!("sweep {}: two trials are the same: {parameters}, seed {}", sweep.name, trial.seed);
            return Err(Status::invalid_argument(text));
        }
        let cell = (trial.alpha.to_bits(), trial.resolution);
        let (work, mult_adds, params) = match costs.get(&cell) {
            Some(cost) => *cost,
            None => {
                let network = Network::new(trial.network, trial.alpha, trial.resolution, trial.data.classes);
                let cost = network.map_err(|error| Status::invalid_argument(error.to_string()))?.cost();
                *costs.entry(cell).or_insert((cost.work(), cost.mult_adds, cost.params))
            }
        };
        priced.push(PricedTrial {
            parameters_json: proto::convert::to_json(&trial.parameters),
            settings_json: proto::convert::to_json(&trial),
            alpha: trial.alpha,
            resolution: trial.resolution,
            seed: trial.seed,
            epochs: trial.training.epochs,
            replicas: trial.training.replicas.into(),
            stream: trial.stream(),
            checkpoint_bytes: checkpoint_bytes(params, &trial.training),
            key: trial.key,
            work,
            mult_adds,
            params,
        });
    }
    Ok(priced)
}
