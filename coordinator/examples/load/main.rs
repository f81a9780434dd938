//! Made-up workers, for measurements: they hold real sessions with a real coordinator, and say at once what trainers
//! would say in hours. Each kind of load prints one line of JSON.

mod fill;
mod leases;
mod mouth;
mod points;
mod trials;

use anyhow::{Result, bail};

const USAGE: &str = "usage:
  load fill STORE SWEEP SEEDS EPOCHS                   a store of 16 x SEEDS finished trials, 10 points an epoch
  load trials ADDRESS SWEEP TRIALS WORKERS SLOTS       empty trials, from the lease to the end
  load points ADDRESS SWEEP WORKERS SECONDS POINTS     messages of POINTS each, as fast as they are acknowledged;
                                                       if the coordinator dies, what it had acknowledged is looked for
                                                       once it is back
  load answers ADDRESS                                 waits until the coordinator answers
  load leases ADDRESS SWEEP WORKERS SECONDS FIRST      a slot each, heartbeats every 5 s, leases of 20 to 60 s;
                                                       workers are numbered from FIRST";

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["fill", store, sweep, seeds, epochs] => fill::fill(store, sweep, seeds.parse()?, epochs.parse()?).await,
        ["trials", address, sweep, trials, workers, slots] => {
            trials::trials(address, sweep, trials.parse()?, workers.parse()?, slots.parse()?).await
        }
        ["points", address, sweep, workers, seconds, points] => {
            points::points(address, sweep, workers.parse()?, seconds.parse()?, points.parse()?).await
        }
        ["answers", address] => points::back(address).await.map(drop),
        ["leases", address, sweep, workers, seconds, first] => {
            leases::leases(address, sweep, workers.parse()?, seconds.parse()?, first.parse()?).await
        }
        _ => bail!(USAGE),
    }
}
