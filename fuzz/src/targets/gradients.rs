//! The exchange of gradients: a chief that listens, and replicas that know the secret and nothing else.

use super::coordinator::{Raw, is_clear};
use super::data_sets::take_block;
use super::words::Vocabulary;
use crate::contract::Contract;
use crate::dice::Dice;
use crate::run::Target;
use gradients::chief::{Chief, Master, Place, Settings, Tally};
use gradients::rmsprop::Rule;
use gradients::service::{Listening, listen};
use gradients::shared::Shared;
use prost::Message;
use proto::gradients as wire;
use std::sync::Arc;
use std::time::Duration;
use sweeps::ids::{Token, TrialId};
use sweeps::spec::model::{Gradients, Optimizer};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

const VALUES: usize = 64;
const SAMPLES: u64 = 1 << 40;
const SECRET: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// An answer that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_millis(2_500);

struct Exchange {
    runtime: Runtime,
    contract: Contract,
    words: Vocabulary,
    round: Option<Round>,
}

struct Round {
    shared: Arc<Shared>,
    _listening: Listening,
    channel: Channel,
    attending: Vec<Streaming<Vec<u8>>>,
    /// Handed out and not pushed yet.
    ranges: Vec<wire::Range>,
    sequence: u64,
}

#[expect(clippy::expect_used, reason = "without a runtime there is nothing to try")]
pub(super) fn open() -> Box<dyn Target> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    Box::new(Exchange { runtime, contract: Contract::read(), words: Vocabulary::new(), round: None })
}

impl Exchange {
    fn begin(&self) -> Result<Round, String> {
        let rule = Rule {
            optimizer: Optimizer::default(),
            decays: vec![(0..VALUES, 0.0)],
            clip_norm: None,
            average_decay: None,
        };
        let settings = Settings {
            rule,
            gradients: Gradients::default(),
            learning_rate: Box::new(|_| 0.01),
            samples: SAMPLES,
            batch_size: 8,
        };
        let zeros = || vec![0.0; VALUES];
        let master = Master { weights: zeros(), mean_square: vec![1.0; VALUES], momentum: zeros(), average: None };
        let place = Place { epoch: 0, version: 0, next: 0, holes: Vec::new() };
        let shared = Shared::new(Chief::new(settings, master, &place, Tally::default(), Tally::default()));
        let chief = Token { trial: TrialId(7), attempt: 2, replica: 0, incarnation: 1 };
        let listening = listen(&shared, chief, SECRET, "127.0.0.1:0", None).map_err(|error| error.to_string())?;
        let endpoint =
            Endpoint::from_shared(format!("http://{}", listening.address)).map_err(|error| error.to_string())?;
        let channel = self.runtime.block_on(endpoint.connect()).map_err(|error| error.to_string())?;
        let (attending, ranges) = (Vec::new(), Vec::new());
        Ok(Round { shared, _listening: listening, channel, attending, ranges, sequence: 0 })
    }
}

fn replica(dice: &mut Dice) -> wire::Replica {
    wire::Replica { trial: 7, attempt: 2, replica: 1 + dice.below(2) as u32, incarnation: 1 }
}

impl Target for Exchange {
    /// 0: joins; 1: pushes, and uses ranges that were handed out; 2: pushes as it is. Then the messages.
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut messages = Vec::new();
        let kind = if dice.one_in(5) { 0 } else { 1 + dice.below(2) as u8 };
        if kind == 0 {
            let made = self.contract.make_up(".alpharho.gradients.v1.JoinRequest", &self.words, dice);
            messages.push(match wire::JoinRequest::decode(&made[..]) {
                Ok(_) if !dice.one_in(4) => {
                    wire::JoinRequest { from: Some(replica(dice)), values: VALUES as u64 }.encode_to_vec()
                }
                _ => made,
            });
        } else {
            let made = self.contract.make_up(".alpharho.gradients.v1.PushRequest", &self.words, dice);
            let mut push = wire::PushRequest::decode(&made[..]).unwrap_or_default();
            if !dice.one_in(6) {
                push.from = Some(replica(dice));
            }
            if let Some(finished) = push.finished.as_mut().filter(|_| !dice.one_in(3)) {
                finished.version = dice.next() % 4;
                finished.samples = dice.next() % 10;
            }
            let part = wire::PushPart { part: Some(wire::push_part::Part::Push(push)) };
            messages.push(part.encode_to_vec());
            let whole = dice.one_in(2);
            for _ in 0..if whole { 1 } else { dice.below(4) } {
                let count = if whole { VALUES * 4 } else { dice.below(VALUES * 5) };
                let bytes = if dice.one_in(3) { dice.bytes(count) } else { 0.01_f32.to_le_bytes().repeat(count / 4) };
                let part = wire::PushPart { part: Some(wire::push_part::Part::Gradient(bytes.into())) };
                messages.push(part.encode_to_vec());
            }
            if dice.one_in(10) {
                messages.push(self.contract.make_up(".alpharho.gradients.v1.PushPart", &self.words, dice));
            }
        }
        let mut case = vec![kind];
        for message in messages {
            case.extend((message.len() as u32).to_le_bytes());
            case.extend(message);
        }
        case
    }

    fn take(&mut self, mut case: &[u8]) -> Result<bool, String> {
        let mut round = match self.round.take() {
            Some(round) => round,
            None => self.begin()?,
        };
        let Some(kind) = case.split_off_first() else { return Ok(false) };
        let mut messages: Vec<Vec<u8>> = std::iter::from_fn(|| take_block(&mut case).map(<[u8]>::to_vec)).collect();
        if *kind == 1 {
            round.use_ranges(&mut messages);
        }
        let answered = self.runtime.block_on(round.call(*kind == 0, messages));
        let is_taken = match answered {
            Ok(()) => true,
            Err(status) => {
                is_clear(&status)?;
                false
            }
        };
        self.round = Some(round);
        Ok(is_taken)
    }

    fn end_round(&mut self) -> Result<(), String> {
        let Some(round) = self.round.take() else { return Ok(()) };
        let (place, finite, done) = round.shared.look(|chief| {
            let finite = chief.master().weights.iter().all(|weight| weight.is_finite());
            (chief.place(), finite || chief.failure().is_some(), chief.version())
        });
        let in_order = place.holes.windows(2).all(|pair| pair[0].next <= pair[1].first);
        if !in_order || place.next > SAMPLES || !finite {
            return Err(format!("after {done} updates: finite weights: {finite}, {place:?}"));
        }
        // The chief still answers.
        let join = wire::JoinRequest {
            from: Some(wire::Replica { trial: 7, attempt: 2, replica: 9, incarnation: 9 }),
            values: VALUES as u64,
        };
        let mut round = round;
        let answered = self.runtime.block_on(round.call(true, vec![join.encode_to_vec()]));
        answered.map_err(|status| format!("in the end a replica could not join: {status}"))
    }
}

impl Round {
    /// Puts ranges that were handed out in the place of made up ones: else no gradient would ever be taken.
    fn use_ranges(&mut self, messages: &mut [Vec<u8>]) {
        let Some(first) = messages.first_mut() else { return };
        let Ok(wire::PushPart { part: Some(wire::push_part::Part::Push(mut push)) }) =
            wire::PushPart::decode(&first[..])
        else {
            return;
        };
        self.sequence += 1;
        push.sequence = self.sequence;
        push.ranges_wanted = push.ranges_wanted.min(4);
        if let (Some(finished), Some(range)) = (&mut push.finished, self.ranges.pop()) {
            finished.ranges = vec![range];
            finished.samples = finished.samples.min(8);
        }
        *first = wire::PushPart { part: Some(wire::push_part::Part::Push(push)) }.encode_to_vec();
    }

    async fn call(&mut self, is_join: bool, messages: Vec<Vec<u8>>) -> Result<(), Status> {
        let path =
            if is_join { "/alpharho.gradients.v1.Gradients/Join" } else { "/alpharho.gradients.v1.Gradients/Push" };
        let late = |_| Status::deadline_exceeded("no answer");
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(tokio_stream::iter(messages));
        if let Ok(secret) = format!("Bearer {SECRET}").parse() {
            request.metadata_mut().insert("authorization", secret);
        }
        let call = client.streaming(request, tonic::codegen::http::uri::PathAndQuery::from_static(path), Raw);
        let mut answers = tokio::time::timeout(PATIENCE, call).await.map_err(late)??.into_inner();
        if is_join {
            tokio::time::timeout(PATIENCE, answers.message()).await.map_err(late)??;
            self.attending.push(answers);
            if self.attending.len() > 4 {
                drop(self.attending.remove(0));
            }
            return Ok(());
        }
        while let Some(part) = tokio::time::timeout(PATIENCE, answers.message()).await.map_err(late)?? {
            if let Ok(wire::ReplyPart { part: Some(wire::reply_part::Part::Reply(reply)) }) =
                wire::ReplyPart::decode(&part[..])
            {
                self.ranges.extend(reply.ranges);
            }
        }
        Ok(())
    }
}
