//! `alpharho submit`, and what `run` has in common with it.

use super::with_session;
use crate::arguments::{Place, Submission, Submit};
use crate::exit::{End, Failure, refused};
use crate::output;
use crate::session::{Session, Want};
use proto::wire::{SubmitReply, SubmitRequest};
use serde_json::json;
use std::path::Path;
use sweeps::spec::FILE_BYTES_MAX;
use sweeps::spec::model::Sweep;

/// A sweep file's text and what it says.
pub(crate) fn read(file: &Path) -> anyhow::Result<(String, Sweep)> {
    let shown = file.display();
    let length = std::fs::metadata(file).map_err(|error| {
        Failure::usage(format!("cannot read {shown}: {error}")).hint("sweeps that ship lie in sweeps/")
    })?;
    if length.len() > FILE_BYTES_MAX as u64 {
        return Err(
            Failure::usage(format!("{shown} has {} bytes; at most {FILE_BYTES_MAX} are read", length.len())).into()
        );
    }
    let yaml =
        std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("cannot read {shown}: {error}")))?;
    match sweeps::spec::parse(&shown.to_string(), &yaml) {
        Ok(sweep) => Ok((yaml, sweep)),
        Err(problems) => Err(Failure::usage(format!("{shown} is not a valid sweep file\n{problems}")).into()),
    }
}

/// Hands a sweep over.
pub(crate) async fn hand_over(session: &mut Session, given: &Submission, yaml: String) -> anyhow::Result<SubmitReply> {
    let request = SubmitRequest {
        file_name: given.file.display().to_string(),
        yaml,
        new_name: given.new_name.clone(),
        replace: given.replace,
    };
    Ok(session.client.submit(request).await.map_err(|status| refused(&status))?.into_inner())
}

/// `16 trials, 16 of them new`.
pub(crate) fn words(reply: &SubmitReply) -> String {
    let trials = if reply.trials == 1 { "1 trial".to_owned() } else { format!("{} trials", reply.trials) };
    match reply.trials_new {
        0 => format!("{}: {trials}, all known already", reply.sweep),
        new if new == reply.trials => format!("{}: {trials}", reply.sweep),
        new => format!("{}: {trials}, {new} of them new", reply.sweep),
    }
}

pub(super) async fn submit(place: &Place, arguments: &Submit) -> anyhow::Result<End> {
    let (yaml, _) = read(&arguments.submission.file)?;
    with_session(place, Want::Write, async |session| {
        let reply = hand_over(session, &arguments.submission, yaml).await?;
        if place.json {
            return output::json(
                &json!({"sweep": reply.sweep, "trials": reply.trials, "trials_new": reply.trials_new}),
            );
        }
        output::line(&format!("submitted {}", words(&reply)))?;
        if session.is_embedded() {
            output::note(&format!(
                "hint: nobody coordinates {} now; start `alpharho coordinator` and an alpharho-worker, or use \
                 `alpharho run`",
                place.store.display()
            ));
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}
