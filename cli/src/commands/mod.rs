//! The commands.

mod certs;
mod control;
pub(crate) mod export;
mod export_trials;
mod follow;
pub(crate) use follow::is_broken;
mod pack;
pub(crate) use pack::parse_format;
mod plan;
mod serve;
mod show;
mod store;
pub(crate) mod submit;
mod tokens;

use crate::arguments::{Arguments, Command, Place};
use crate::exit::End;
use crate::run;
use crate::session::{Session, Want};
use clap::CommandFactory;
use proto::wire::Action;
use telemetry::log;

/// Does what the command line says.
pub(crate) async fn dispatch(arguments: Arguments) -> anyhow::Result<End> {
    let Arguments { place, command } = arguments;
    match &command {
        Command::Run(_) => {}
        Command::Coordinator(arguments) => log::to_stderr(arguments.log_format, "info"),
        _ => log::to_stderr(log::Format::Text, "error"),
    }
    match command {
        Command::Plan(arguments) => plan::plan(&place, &arguments),
        Command::Run(arguments) => run::run(&place, &arguments).await,
        Command::Coordinator(arguments) => serve::serve(&place, &arguments).await,
        Command::Submit(arguments) => submit::submit(&place, &arguments).await,
        Command::List => show::list(&place).await,
        Command::Status(arguments) => show::status(&place, &arguments).await,
        Command::Explain(arguments) => show::explain(&place, &arguments).await,
        Command::Watch(arguments) => follow::watch(&place, &arguments).await,
        Command::Logs(arguments) => follow::logs(&place, &arguments).await,
        Command::Pause(arguments) => control::control(&place, &arguments, Action::Pause).await,
        Command::Resume(arguments) => control::control(&place, &arguments, Action::Resume).await,
        Command::Cancel(arguments) => control::control(&place, &arguments, Action::Cancel).await,
        Command::Retry(arguments) => control::control(&place, &arguments, Action::Retry).await,
        Command::Limit(arguments) => control::limit(&place, &arguments).await,
        Command::Drain(arguments) => control::drain(&place, &arguments).await,
        Command::Workers => show::workers(&place).await,
        Command::Export(arguments) => export::export(&place, &arguments).await,
        Command::Certs(arguments) => certs::certs(&place, &arguments),
        Command::Tokens(arguments) => tokens::tokens(&place, &arguments).await,
        Command::Store(arguments) => store::store(&place, &arguments).await,
        Command::Pack(arguments) => pack::pack(&place, arguments).await,
        Command::Completion(arguments) => {
            let mut script = Vec::new();
            clap_complete::generate(arguments.shell, &mut Arguments::command(), "alpharho", &mut script);
            crate::output::text(&String::from_utf8_lossy(&script))?;
            Ok(End::Done)
        }
    }
}

/// Works with a session and closes it, whatever came of it.
async fn with_session<T>(
    place: &Place,
    want: Want,
    work: impl AsyncFnOnce(&mut Session) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut session = Session::open(place, want).await?;
    let done = work(&mut session).await;
    let closed = session.close().await;
    let done = done?;
    closed?;
    Ok(done)
}
