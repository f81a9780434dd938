//! `alpharho pause`, `resume`, `cancel`, `retry`.

use super::with_session;
use crate::arguments::{Control, Place};
use crate::exit::{End, refused};
use crate::output;
use crate::session::Want;
use dashboards::tables;
use dashboards::view::SweepView;
use proto::wire::control_request::Target;
use proto::wire::{Action, ControlRequest};

pub(super) async fn control(place: &Place, arguments: &Control, action: Action) -> anyhow::Result<End> {
    with_session(place, Want::Read, async |session| {
        let target = match arguments.trial {
            None => Target::Sweep(arguments.sweep.clone()),
            Some(number) => Target::Trial(session.trial_id(&arguments.sweep, number).await?),
        };
        let request = ControlRequest { target: Some(target), action: action.into() };
        session.client.control(request).await.map_err(|status| refused(&status))?;
        let view = SweepView::new(&session.status(&arguments.sweep).await?);
        if place.json {
            return output::json(&view);
        }
        output::line(&tables::headline(&view))?;
        let running = view.count("running");
        if running > 0 && action == Action::Pause {
            output::note("what still runs saves a checkpoint first; `alpharho watch` shows when");
        }
        if session.is_embedded() && matches!(action, Action::Resume | Action::Retry) {
            output::note("hint: nobody coordinates this store now; `alpharho run` or `alpharho coordinator` goes on");
        }
        Ok(())
    })
    .await?;
    Ok(End::Done)
}
