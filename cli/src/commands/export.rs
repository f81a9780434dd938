//! `alpharho export`, and the end of `run`.

use super::with_session;
use crate::arguments::{Export, Place};
use crate::exit::End;
use crate::output;
use crate::session::Want;
use dashboards::export::write_all;
use dashboards::view::SweepView;
use serde_json::json;

pub(super) async fn export(place: &Place, arguments: &Export) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let name = session.sweep_name(arguments.sweep.as_deref()).await?;
        let view = SweepView::new(&session.status(&name).await?);
        let out = arguments.out.clone().unwrap_or_else(|| place.beside_store(&name));
        let files = write_all(&view, &out)?;
        if place.json {
            return output::json(
                &json!({"sweep": view.name, "complete": view.count("completed") == view.trials.len(), "files": files}),
            );
        }
        if !view.is_over() {
            output::note(&format!("{name} is not finished: {}. Exporting what is there", view.standing()));
        }
        for file in files {
            output::line(&file.display().to_string())?;
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}
