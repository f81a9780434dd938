//! A store of many finished trials: made-up numbers that went the real way, through a worker's session into a
//! coordinator.

use crate::mouth::Mouth;
use anyhow::{Result, bail};
use coordinator::{Config, Coordinator};
use proto::wire;
use proto::wire::coordinator_message::Body as Told;
use proto::wire::report::Body as Report;
use proto::wire::sweeps_client::SweepsClient;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Endpoint;

/// Trials at a time.
const SLOTS: usize = 64;
/// Where each begins and where it ends.
const METRICS: [(&str, f64, f64); 10] = [
    ("val_top1", 0.1, 0.7),
    ("val_top5", 0.3, 0.9),
    ("val_loss", 4.0, 1.2),
    ("train_loss", 4.5, 1.0),
    ("train_top1", 0.1, 0.8),
    ("learning_rate", 0.045, 0.001),
    ("images_per_second", 500.0, 520.0),
    ("data_wait_seconds", 2.0, 1.0),
    ("epoch_seconds", 60.0, 58.0),
    ("eval_seconds", 6.0, 6.0),
];

/// 16 × `seeds` trials of so many epochs with 10 points each.
pub(crate) async fn fill(store: &str, sweep: &str, seeds: u64, epochs: u32) -> Result<()> {
    let store = std::path::absolute(store)?;
    let mut config = Config::new(&store, store.with_extension("artifacts"));
    config.heartbeat_ms = 60_000;
    let coordinator = Coordinator::open(config, TcpListener::bind("127.0.0.1:0").await?).await?;
    let address = coordinator.address().to_owned();
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(coordinator.serve(async move {
        // A dropped sender means the same.
        let _ = stopped.await;
    }));

    let seeds: Vec<u64> = (1..=seeds).collect();
    let yaml = format!(
        "name: {sweep}\nparameters:\n  alpha: {{values: [1, 0.75, 0.5, 0.25]}}\n  \
         resolution: {{values: [224, 192, 160, 128]}}\nseeds: {seeds:?}\n\
         data: {{format: idx, train: nowhere, validation: nowhere-too, classes: 10}}\n\
         training: {{epochs: {epochs}}}\nscript: []\n"
    );
    let request = wire::SubmitRequest { file_name: "large.yaml".to_owned(), yaml, ..wire::SubmitRequest::default() };
    let trials = SweepsClient::connect(address.clone()).await?.submit(request).await?.into_inner().trials;
    let points = train(&address, trials, epochs).await?;
    // It may have ended by itself.
    let _ = stop.send(());
    served.await??;
    println!("{}: {trials} trials, {points} points", store.display());
    Ok(())
}

/// Takes every lease and says at once what a trainer would say in hours. Returns the number of points said.
async fn train(address: &str, trials: u64, epochs: u32) -> Result<u64> {
    let channel = Endpoint::from_shared(address.to_owned())?.connect().await?;
    let (mut mouth, mut told) = Mouth::open(channel, 1, SLOTS).await?;
    let (mut begun, mut points, mut last) = (0, 0, u64::MAX);
    while let Some(message) = told.message().await? {
        match message.body {
            Some(Told::Grant(grant)) => {
                for token in grant.members.into_iter().map(|member| member.token) {
                    begun += 1;
                    for epoch in 1..=epochs {
                        mouth.report(token, Report::EpochFinished(finished(begun, epoch, epochs))).await?;
                        points += METRICS.len() as u64;
                    }
                    let at = mouth.ended(token).await?;
                    if begun == trials {
                        last = at;
                    }
                }
            }
            Some(Told::Ack(ack)) if ack.sequence >= last => return Ok(points),
            _ => {}
        }
    }
    bail!("the coordinator ended the session")
}

fn finished(trial: u64, epoch: u32, epochs: u32) -> wire::EpochFinished {
    let way = f64::from(epoch) / f64::from(epochs);
    let noise = (trial.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24);
    let points = METRICS.iter().map(|(name, from, to)| {
        let value = from + (to - from) * way * (0.9 + 0.1 * noise);
        wire::Point { name: (*name).to_owned(), step: u64::from(epoch), value }
    });
    wire::EpochFinished { epoch, duration_ms: 60_000, points: points.collect() }
}
