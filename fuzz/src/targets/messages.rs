//! Every message of both contracts: decoded, and what becomes of it converted.

use super::words::Vocabulary;
use crate::contract::Contract;
use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use prost::{DecodeError, Message};
use proto::wire::report::Body as Reported;
use proto::{convert, gradients, wire};

/// Of one message; larger ones are refused before they are decoded.
const BYTES_MAX: usize = 1 << 20;

/// Name, and how its bytes are read.
type Reader = (&'static str, fn(&[u8]) -> Result<bool, DecodeError>);

/// True if it says something; some would rather be read than converted, as replies are.
fn read<M: Message + Default + PartialEq>(bytes: &[u8]) -> Result<bool, DecodeError> {
    let message = M::decode(bytes)?;
    let again = M::decode(&message.encode_to_vec()[..])?;
    // Not a number differs from itself, so that what differs is only looked at when it is written out.
    Ok(again.encode_to_vec() == message.encode_to_vec())
}

macro_rules! readers {
    ($($package:literal $module:ident: $($message:ident)*;)*) => {
        &[$($((concat!(".", $package, ".", stringify!($message)), read::<$module::$message>),)*)*]
    };
}

const READERS: &[Reader] = readers! {
    "alpharho.v1" wire: Ack AttemptStatus AttemptsReply AttemptsRequest Checkpoint CheckpointsReply CheckpointsRequest
        Chunk ControlReply ControlRequest CoordinatorMessage Counts DrainReply DrainRequest Draining Ended EpochFinished
        Event Exchange ExplainReply ExplainRequest FetchRequest Goodbye GpuUse Grant Heartbeat Held InfoReply InfoRequest
        LeaveWhenDone LimitReply LimitRequest ListReply ListRequest ListTokensReply ListTokensRequest Listening LogBatch
        LogLine LogLines LogsRequest Member MetricPoint MetricsBatch MetricsRequest Point Points Progress PutTokenReply
        PutTokenRequest Register Registered Report RevokeTokenReply RevokeTokenRequest Slot SlotGpu SlotStatus Started
        StatusReply StatusRequest Stop SubmitReply SubmitRequest SweepSummary Token TokenStatus TrialStatus UploadHeader
        UploadMessage UploadReceipt WatchRequest WorkerMessage WorkerStatus WorkersReply WorkersRequest;
    "alpharho.gradients.v1" gradients: Finished JoinRequest PushPart PushReply PushRequest Range Replica ReplyPart Welcome;
};

struct Messages {
    contract: Contract,
    words: Vocabulary,
}

pub(super) fn open() -> Box<dyn Target> {
    Box::new(Messages { contract: Contract::read(), words: Vocabulary::new() })
}

impl Target for Messages {
    /// A byte that says which, then the message.
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        // What is converted has more ways to go wrong.
        let converted = [".alpharho.v1.WorkerMessage", ".alpharho.v1.Register", ".alpharho.v1.CoordinatorMessage"];
        let which = match dice.below(2) {
            0 => dice.below(READERS.len()),
            _ => {
                let name = *dice.pick(&converted);
                READERS.iter().position(|(known, _)| *known == name).unwrap_or(0)
            }
        };
        let name = READERS[which].0;
        let mut message = self.contract.make_up(name, &self.words, dice);
        if dice.one_in(4) {
            let other = self.contract.make_up(name, &self.words, dice);
            spoil(&mut message, &other, &[], BYTES_MAX, dice);
        }
        message.insert(0, which as u8);
        message
    }

    fn take(&mut self, case: &[u8]) -> Result<bool, String> {
        let Some((which, bytes)) = case.split_first() else { return Ok(false) };
        let (name, read) = READERS[usize::from(*which) % READERS.len()];
        match read(bytes) {
            Ok(true) => {}
            Ok(false) => return Err(format!("{name} comes back as another message")),
            Err(_) => return Ok(false),
        }
        match name {
            ".alpharho.v1.WorkerMessage" => said(bytes),
            ".alpharho.v1.Register" => registered(bytes),
            ".alpharho.v1.CoordinatorMessage" => Ok(told(bytes)),
            _ => Ok(true),
        }
    }
}

fn said(bytes: &[u8]) -> Result<bool, String> {
    let Ok(wire::WorkerMessage { body: Some(body), .. }) = wire::WorkerMessage::decode(bytes) else { return Ok(false) };
    let is_log =
        matches!(&body, wire::worker_message::Body::Report(report) if matches!(report.body, Some(Reported::Log(_))));
    match convert::saying(body) {
        Err(bad) => refused(&bad.to_string()),
        Ok(convert::Saying::Report(_, report)) => match report {
            convert::Report::Points(points) | convert::Report::EpochFinished { points, .. }
                if points.iter().any(|point| !point.value.is_finite()) =>
            {
                Err("a value that is not finite was taken".to_owned())
            }
            convert::Report::Log(lines) if is_log && lines.iter().any(|line| line.contains('\u{1b}')) => {
                Err("a line that moves a cursor was taken".to_owned())
            }
            _ => Ok(true),
        },
        Ok(_) => Ok(true),
    }
}

fn registered(bytes: &[u8]) -> Result<bool, String> {
    let Ok(register) = wire::Register::decode(bytes) else { return Ok(false) };
    match convert::registration(register) {
        Err(bad) => refused(&bad.to_string()),
        Ok(known) if known.host.chars().any(char::is_control) => Err("a host that moves a cursor was taken".to_owned()),
        Ok(known) if known.holding.iter().any(|(slot, _)| *slot as usize >= known.slots.len()) => {
            Err("a slot that there is not was taken".to_owned())
        }
        Ok(_) => Ok(true),
    }
}

/// What an agent makes of it.
fn told(bytes: &[u8]) -> bool {
    use wire::coordinator_message::Body;
    match wire::CoordinatorMessage::decode(bytes).ok().and_then(|message| message.body) {
        Some(Body::Grant(grant)) => grant
            .members
            .into_iter()
            .all(|member| convert::token(member.token).is_ok() && convert::trial(&member.trial_json).is_ok()),
        Some(Body::Stop(stop)) => convert::stop_reason(&stop.reason).is_ok() && convert::token(stop.token).is_ok(),
        Some(_) => true,
        None => false,
    }
}

fn refused(said: &str) -> Result<bool, String> {
    if said.is_empty() { Err("it was refused without a word".to_owned()) } else { Ok(false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_message_of_the_contracts_is_tried() {
        // Entries of maps are no messages of their own.
        let contract = Contract::read();
        let all: BTreeSet<&str> = contract.messages().filter(|name| !name.ends_with("Entry")).collect();
        let tried: BTreeSet<&str> = READERS.iter().map(|(name, _)| *name).collect();
        assert_eq!(all, tried);
    }
}
