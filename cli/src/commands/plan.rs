//! `alpharho plan`.

use super::submit::read;
use crate::arguments::{Place, Plan as Arguments};
use crate::exit::{End, Failure};
use crate::output;
use sweeps::plan::{Plan, PlanFormat};

pub(super) fn plan(place: &Place, arguments: &Arguments) -> anyhow::Result<End> {
    let format = match (arguments.format, place.json) {
        (None, false) => PlanFormat::Table,
        (None | Some(PlanFormat::Json), true) => PlanFormat::Json,
        (Some(format), false) => format,
        (Some(_), true) => return Err(Failure::usage("--json and another --format contradict each other").into()),
    };
    let (_, sweep) = read(&arguments.file)?;
    let plan = Plan::new(&sweep).map_err(|error| Failure::usage(format!("{}: {error}", arguments.file.display())))?;
    let rendered = plan.render(format);
    output::text(&rendered)?;
    if !rendered.ends_with('\n') {
        output::text("\n")?;
    }
    Ok(End::Done)
}
