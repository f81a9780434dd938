//! What agent and trainer say to each other: a line of JSON each.

use super::files;
use crate::dice::Dice;
use crate::run::Target;
use crate::spoil::spoil;
use proto::link::{DataPlaces, Exchange, ExchangeRole, Member, Order, Said, Start};
use sweeps::ids::{Token, TrialId};
use sweeps::metrics::Point;
use sweeps::scheduler::{AttemptEnd, StopReason};

/// The agent cuts longer lines.
const LINE_BYTES_MAX: usize = 1 << 20;
const WORDS: &[&[u8]] = &[
    b"null",
    b"1e999",
    b"-1",
    b"{}",
    b"[]",
    b"[[[[[[[[",
    b"{\"a\":",
    b"\"",
    b"\\u0000",
    b"\\uD800",
    b"\xFF",
    b",",
    b"18446744073709551616",
];

struct Pipe {
    lines: Vec<Vec<u8>>,
}

pub(super) fn open() -> Box<dyn Target> {
    let token = Token::chief(TrialId(7), 2);
    let points = || vec![Point { name: "val_top1".to_owned(), step: 3, value: 0.5 }];
    let mut lines: Vec<String> = Vec::new();
    for text in files("sweeps", "yaml") {
        let Ok(sweep) = sweeps::spec::parse("sweep.yaml", &String::from_utf8_lossy(&text)) else { continue };
        let role = ExchangeRole::Chief { listen: "127.0.0.1:0".to_owned() };
        let exchange = Some(Exchange { secret: "c0ffee".to_owned(), credentials: Some("/c".into()), role });
        let members = sweep.expand().take(2);
        let members = members.map(|trial| Member {
            token,
            trial,
            resume: Some("/x/y".into()),
            threads: 2,
            exchange: exchange.clone(),
        });
        let members: Vec<Member> = members.collect();
        let joins = members.first().map(|member| Order::Join { member: Box::new(member.clone()) });
        lines.extend(joins.iter().map(proto::convert::to_json));
        let start = Start {
            members,
            device: "cuda:0".to_owned(),
            threads: 4,
            slots: 2,
            folder: "/scratch".into(),
            data: DataPlaces::default(),
        };
        lines.push(proto::convert::to_json(&Order::Start(start)));
    }
    lines.push(proto::convert::to_json(&Order::Stop { token, reason: StopReason::Pause }));
    let word = || "cpu".to_owned();
    let said = [
        Said::Started {
            token,
            device: word(),
            threads: 2,
            instruction_set: word(),
            libtorch: word(),
            resumed_epoch: 1,
        },
        Said::Listening { token, address: "127.0.0.1:4000".to_owned() },
        Said::Alive,
        Said::Points { token, points: points() },
        Said::Progress { token, epoch: 3, share: 0.5, duration_ms: 500 },
        Said::EpochFinished { token, epoch: 3, duration_ms: 1_000, points: points() },
        Said::CheckpointSaved {
            token,
            path: "/x".into(),
            epoch: 3,
            step: 9,
            bytes: 7,
            sha256: "00".repeat(32),
            best: true,
        },
        Said::Log { token: None, text: "a line".to_owned() },
        Said::Ended { token, end: AttemptEnd::Failed { reason: "why".to_owned() } },
    ];
    lines.extend(said.iter().map(proto::convert::to_json));
    Box::new(Pipe { lines: lines.into_iter().map(String::into_bytes).collect() })
}

impl Target for Pipe {
    fn make(&self, dice: &mut Dice) -> Vec<u8> {
        let mut line = dice.pick(&self.lines).clone();
        if !dice.one_in(10) {
            let other = dice.pick(&self.lines);
            spoil(&mut line, other, WORDS, LINE_BYTES_MAX, dice);
        }
        line
    }

    fn take(&mut self, case: &[u8]) -> Result<bool, String> {
        let text = String::from_utf8_lossy(case);
        let order = serde_json::from_str::<Order>(&text);
        let said = serde_json::from_str::<Said>(&text);
        if let Ok(order) = &order {
            let again = serde_json::from_str::<Order>(&proto::convert::to_json(order));
            if again.ok().as_ref() != Some(order) {
                return Err("an order comes back as another".to_owned());
            }
        }
        if let Ok(said) = &said {
            let again = serde_json::from_str::<Said>(&proto::convert::to_json(said));
            if again.ok().as_ref() != Some(said) {
                return Err("what was said comes back as something else".to_owned());
            }
        }
        Ok(order.is_ok() || said.is_ok())
    }
}
