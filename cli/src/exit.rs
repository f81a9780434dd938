//! How a command ends: exit codes, and errors with a way out.

use std::fmt;
use std::process::ExitCode;

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As wished.
    Done,
    /// The sweep is over, and trials of it failed.
    TrialsFailed,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Something failed.
pub(crate) const FAILED: u8 = 1;
/// The command line or the sweep file is wrong.
pub(crate) const USAGE: u8 = 2;

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        match end {
            End::Done => Self::SUCCESS,
            End::TrialsFailed => Self::from(3),
            End::Interrupted => Self::from(130),
        }
    }
}

/// An error that knows what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What happened, and where.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// The exit code.
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: FAILED }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: USAGE }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// A coordinator's refusal as an error of ours: its own sentence, without gRPC's words around it.
pub(crate) fn refused(status: &tonic::Status) -> Failure {
    use tonic::Code;
    let said = status.message().trim();
    match status.code() {
        Code::InvalidArgument => Failure::usage(said),
        Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists => Failure::new(said),
        Code::Unavailable => Failure::new(format!("the coordinator cannot answer now: {said}"))
            .hint("is it still running? `alpharho list` says whether this store has one"),
        Code::Unimplemented => {
            Failure::new("the coordinator does not know this request").hint("it may be of another version of alpharho")
        }
        Code::PermissionDenied => {
            Failure::new(said).hint("an admin gives out tokens: `alpharho tokens create NAME --role ROLE`")
        }
        Code::Unauthenticated => Failure::new(said)
            .hint("--credentials DIR, or ALPHARHO_CREDENTIALS, names the folder of certificate and token"),
        Code::DataLoss => Failure::new(format!("the coordinator found damaged data: {said}")),
        // tonic's words for our own limit.
        Code::Cancelled if said == "Timeout expired" => Failure::new("the coordinator did not answer in time").hint(
            "it may have done what was asked: look with `alpharho status`, then ask again, which does no harm; --timeout \
             SECONDS waits longer",
        ),
        Code::Cancelled | Code::DeadlineExceeded => Failure::new(format!("the coordinator broke off: {said}")),
        Code::Ok | Code::Unknown | Code::ResourceExhausted | Code::Aborted | Code::OutOfRange | Code::Internal => {
            Failure::new(format!("the coordinator failed: {said}"))
        }
    }
}

/// Prints an error for people, and gives its exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        eprintln!("error: {}", failure.message);
        if let Some(hint) = &failure.hint {
            eprintln!("hint: {hint}");
        }
        return ExitCode::from(failure.code);
    }
    eprintln!("error: {error:#}");
    ExitCode::from(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Status;

    #[test]
    fn a_refusal_is_the_coordinators_sentence() {
        for (status, message, code) in [
            (Status::not_found("there is no sweep x"), "there is no sweep x", FAILED),
            (Status::invalid_argument("f.yaml:1:1: no"), "f.yaml:1:1: no", USAGE),
            (Status::internal("disk"), "the coordinator failed: disk", FAILED),
            (Status::unavailable("gone"), "the coordinator cannot answer now: gone", FAILED),
            (Status::cancelled("Timeout expired"), "the coordinator did not answer in time", FAILED),
            (Status::cancelled("gone"), "the coordinator broke off: gone", FAILED),
        ] {
            let failure = refused(&status);
            assert_eq!((failure.message.as_str(), failure.code), (message, code));
        }
    }
}
