//! `alpharho store`: what a person does with the files themselves.

use crate::arguments::{Place, Store};
use crate::exit::{End, Failure};
use crate::output;
use coordinator::upkeep::{self, Backup, Checked};
use dashboards::format;
use serde_json::json;

pub(super) async fn store(place: &Place, arguments: &Store) -> anyhow::Result<End> {
    if !place.store.exists() {
        let message = format!("there is no store {}", place.store.display());
        return Err(Failure::new(message).hint("--store FILE names another one").into());
    }
    match arguments {
        Store::Check { quick } => check(place, *quick).await,
        Store::Backup { to, no_checkpoints } => {
            let made = upkeep::backup(&place.store, &place.artifacts_folder(), to, !no_checkpoints).await?;
            report(place, &made)
        }
    }
}

async fn check(place: &Place, quick: bool) -> anyhow::Result<End> {
    let checked = upkeep::check(&place.store, &place.artifacts_folder(), !quick).await?;
    let Checked { sweeps, trials, checkpoints, checkpoint_bytes, problems, notes } = checked;
    if place.json {
        output::json(&json!({
            "sweeps": sweeps, "trials": trials, "checkpoints": checkpoints, "checkpoint_bytes": checkpoint_bytes,
            "problems": problems, "notes": notes,
        }))?;
    } else {
        output::line(&format!(
            "{}: {sweeps} sweeps, {trials} trials, {checkpoints} checkpoints of {}",
            place.store.display(),
            format::bytes(checkpoint_bytes)
        ))?;
        for note in &notes {
            output::line(&format!("note: {note}"))?;
        }
        for problem in &problems {
            output::line(&format!("problem: {problem}"))?;
        }
        if problems.is_empty() {
            output::line("it is whole")?;
        }
    }
    if problems.is_empty() {
        return Ok(End::Done);
    }
    Err(Failure::new(format!("{} problems", problems.len()))
        .hint(
            "a trial passes over a damaged checkpoint and goes on from an older one; a damaged database is best replaced \
             by a backup",
        )
        .into())
}

fn report(place: &Place, made: &Backup) -> anyhow::Result<End> {
    let Backup { store, checkpoints, checkpoint_bytes, problems } = made;
    if place.json {
        output::json(&json!({
            "store": store, "checkpoints": checkpoints, "checkpoint_bytes": checkpoint_bytes, "problems": problems,
        }))?;
    } else {
        let bytes = format::bytes(*checkpoint_bytes);
        output::line(&format!("copied to {}, with {checkpoints} checkpoints of {bytes}", store.display()))?;
        for problem in problems {
            output::line(&format!("not copied: {problem}"))?;
        }
    }
    if problems.is_empty() {
        return Ok(End::Done);
    }
    Err(Failure::new(format!("{} checkpoints are not in the backup", problems.len())).into())
}
