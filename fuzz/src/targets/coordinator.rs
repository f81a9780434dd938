//! Every call of a coordinator, made over a socket to a real one with a store of its own; workers that register, say
//! what makes sense and what does not, send checkpoints, and go.

mod house;

use super::data_sets::take_block;
use super::words::Vocabulary;
use crate::contract::{Contract, Method};
use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use house::House;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use proto::wire;
use sha2::{Digest, Sha256};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

/// Workers that there are.
const WORKERS: u64 = 3;
/// What is done, each with its number in a case.
const CALL: u8 = 0;
const ATTACH: u8 = 1;
const SAY: u8 = 2;
const SAY_OF_A_LEASE: u8 = 3;
const UPLOAD: u8 = 4;

struct Coordinator {
    contract: Contract,
    /// Those of a coordinator.
    methods: Vec<Method>,
    words: Vocabulary,
    house: Option<House>,
}

pub(super) fn open() -> Box<dyn Target> {
    let contract = Contract::read();
    let methods = contract.methods.iter().filter(|method| method.path.starts_with("/alpharho.v1.")).cloned().collect();
    Box::new(Coordinator { contract, methods, words: Vocabulary::new(), house: None })
}

impl Coordinator {
    fn made_up(&self, message: &str, dice: &mut Dice) -> Vec<u8> {
        let mut bytes = self.contract.make_up(message, &self.words, dice);
        if dice.one_in(8) {
            let other = self.contract.make_up(message, &self.words, dice);
            spoil(&mut bytes, &other, &[], 1 << 16, dice);
        }
        bytes
    }

    /// Its kind, what is needed for it, and the messages.
    fn step(&self, dice: &mut Dice) -> (u8, u8, Vec<Vec<u8>>) {
        let which = dice.next() as u8;
        match dice.below(10) {
            0 => {
                let made = self.made_up(".alpharho.v1.Register", dice);
                let mut register = wire::Register::decode(&made[..]).unwrap_or_default();
                if !dice.one_in(4) {
                    register.worker = 1 + dice.next() % WORKERS;
                    register.slots.truncate(3);
                    if register.slots.is_empty() {
                        register.slots.push(wire::Slot { device: "cpu".to_owned() });
                    }
                    register.holding.retain(|held| held.slot == 0);
                }
                (ATTACH, which, vec![register.encode_to_vec()])
            }
            1 | 2 => (SAY, which, vec![self.made_up(".alpharho.v1.WorkerMessage", dice)]),
            3 | 4 => {
                let body = self.said_of_a_lease(dice);
                let token = Some(wire::Token::default());
                let report = wire::worker_message::Body::Report(wire::Report { token, body });
                let message = wire::WorkerMessage { sequence: 0, body: Some(report) };
                (SAY_OF_A_LEASE, which, vec![message.encode_to_vec()])
            }
            5 => {
                let made = self.made_up(".alpharho.v1.UploadHeader", dice);
                let mut header = wire::UploadHeader::decode(&made[..]).unwrap_or_default();
                let count = 1 + dice.below(400);
                let data = dice.bytes(count);
                if !dice.one_in(3) {
                    header.bytes = count as u64;
                    header.sha256 = hex::encode(Sha256::digest(&data));
                }
                let body = |body| wire::UploadMessage { body: Some(body) }.encode_to_vec();
                let mut messages = vec![body(wire::upload_message::Body::Header(header))];
                let parts = data.chunks(1 + dice.below(400));
                messages.extend(parts.map(|part| body(wire::upload_message::Body::Data(part.to_vec().into()))));
                if dice.one_in(10) {
                    messages.push(self.made_up(".alpharho.v1.UploadMessage", dice));
                }
                (UPLOAD, which, messages)
            }
            _ => {
                let at = dice.below(self.methods.len());
                let method = &self.methods[at];
                let count = if method.is_stream { 1 + dice.below(4) } else { 1 };
                let messages = (0..count).map(|_| self.made_up(method.input, dice)).collect();
                (CALL, at as u8, messages)
            }
        }
    }

    fn said_of_a_lease(&self, dice: &mut Dice) -> Option<wire::report::Body> {
        use wire::report::Body;
        let made = self.contract.make_up(".alpharho.v1.Report", &self.words, dice);
        let made_up = wire::Report::decode(&made[..]).ok().and_then(|report| report.body);
        let point = |name: &str, value| wire::Point { name: name.to_owned(), step: 1, value };
        match dice.below(5) {
            0 => Some(Body::EpochFinished(wire::EpochFinished {
                epoch: 1 + dice.next() as u32 % 3,
                duration_ms: dice.number(),
                points: vec![point("val_top1", dice.float()), point("images_per_second", dice.float())],
            })),
            1 => Some(Body::Ended(wire::Ended { end_json: r#"{"end":"completed"}"#.to_owned() })),
            _ => made_up,
        }
    }
}

impl Target for Coordinator {
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut case = Vec::new();
        for _ in 0..=dice.below(3) {
            let (kind, which, messages) = self.step(dice);
            case.extend([kind, which, messages.len() as u8]);
            for message in messages.iter().take(255) {
                case.extend((message.len() as u32).to_le_bytes());
                case.extend(message);
            }
        }
        case
    }

    fn take(&mut self, mut case: &[u8]) -> Result<bool, String> {
        let mut house = match self.house.take() {
            Some(house) => house,
            None => House::open()?,
        };
        let mut is_taken = false;
        while let Some(([kind, which, count], rest)) = case.split_first_chunk::<3>() {
            case = rest;
            let messages: Vec<Vec<u8>> = (0..*count).map_while(|_| take_block(&mut case).map(<[u8]>::to_vec)).collect();
            let result = match *kind {
                ATTACH => house.attach(messages),
                SAY | SAY_OF_A_LEASE => house.say(*which, messages, *kind == SAY_OF_A_LEASE),
                UPLOAD => house.upload(*which, messages),
                _ => house.call(self.methods[usize::from(*which) % self.methods.len()].path, messages),
            };
            match result {
                Ok(()) => is_taken = true,
                Err(status) => is_clear(&status)?,
            }
        }
        house.settle()?;
        self.house = Some(house);
        Ok(is_taken)
    }

    fn end_round(&mut self) -> Result<(), String> {
        self.house.take().map_or(Ok(()), House::close)
    }
}

/// Whether a refusal says what is wrong, and that it is not our own fault.
pub(super) fn is_clear(status: &Status) -> Result<(), String> {
    // What cannot be decoded, or is not there, is refused by the library, which calls it so.
    let of_the_library = ["failed to decode Protobuf message", "Missing request message."];
    let is_undecoded = of_the_library.iter().any(|known| status.message().starts_with(known));
    match status.code() {
        Code::Internal | Code::Unknown if !is_undecoded => Err(format!("it was answered with {status:?}")),
        _ if status.message().is_empty() => Err(format!("it was refused without a word: {status:?}")),
        _ => Ok(()),
    }
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else only what is refused would be tried.
    #[test]
    fn made_up_workers_get_leases_report_epochs_and_send_checkpoints() {
        let contract = Contract::read();
        let methods = contract.methods.clone();
        let methods = methods.into_iter().filter(|method| method.path.starts_with("/alpharho.v1.")).collect();
        let mut target = Coordinator { contract, methods, words: Vocabulary::new(), house: None };
        let wanted = ["leases_granted", "epochs", "checkpoints", "attempts_ended"];
        let mut missing = wanted.to_vec();
        // On a slow machine leases run out before much is said of them.
        for index in 0..5_000 {
            let case = target.make(&mut Dice::of(1, index));
            target.take(&case).unwrap();
            if index % 100 == 99 {
                let text = target.house.as_ref().unwrap().numbers();
                missing.retain(|name| {
                    let counted = text.lines().filter(|line| line.starts_with(&format!("alpharho_{name}_total")));
                    !counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).any(|count| count > 0.0)
                });
                if missing.is_empty() {
                    break;
                }
            }
        }
        assert!(missing.is_empty(), "{missing:?} did not happen");
        target.end_round().unwrap();
    }
}
