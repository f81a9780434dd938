//! What is asked of a cohort while it trains, and how a member begins in it: at the start, or beside those that train.

use crate::cohort::ended;
use crate::crew::Crew;
use crate::device::{Lane, words};
use crate::gpu::Stream;
use crate::member::Member;
use crate::memory;
use crate::sharing::Sharing;
use crate::speech::Speech;
use anyhow::{Result, ensure};
use crossbeam_channel::Receiver;
use proto::link::{self, Order, Said};
use std::collections::VecDeque;
use sweeps::ids::Token;
use sweeps::scheduler::{AttemptEnd, StopReason};
use sweeps::spec::model::Data;
use tch::Device;

/// Orders that came and are not yet done.
pub(crate) struct Inbox<'a> {
    orders: &'a Receiver<Order>,
    stops: VecDeque<(Token, StopReason)>,
    joins: Vec<link::Member>,
}

impl<'a> Inbox<'a> {
    pub(crate) fn new(orders: &'a Receiver<Order>) -> Self {
        Self { orders, stops: VecDeque::new(), joins: Vec::new() }
    }

    fn listen(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Stop { token, reason } => self.stops.push_back((token, reason)),
                Order::Join { member } => self.joins.push(*member),
                Order::Start(_) => {}
            }
        }
    }

    /// Whether somebody is to stop.
    pub(crate) fn has_stop(&mut self) -> bool {
        self.listen();
        !self.stops.is_empty()
    }

    /// Who is to stop next.
    pub(crate) fn next_stop(&mut self) -> Option<(Token, StopReason)> {
        self.listen();
        self.stops.pop_front()
    }

    /// Who wants to join.
    pub(crate) fn joins(&mut self) -> Vec<link::Member> {
        self.listen();
        std::mem::take(&mut self.joins)
    }

    /// Whether it wanted to join, and now does not.
    pub(crate) fn forget_join(&mut self, token: Token) -> bool {
        let before = self.joins.len();
        self.joins.retain(|member| member.token != token);
        self.joins.len() < before
    }
}

/// On which terms members are taken in.
pub(crate) struct Terms {
    /// What is trained on here.
    pub(crate) data: Data,
    pub(crate) samples: u64,
    /// Of those whose first attempt this is.
    pub(crate) threads: u32,
    /// On a GPU.
    pub(crate) sharing: Option<Sharing>,
}

impl Terms {
    /// Begins to train that member, beside so many others of which the last one has that stream; nothing comes of it where
    /// it cannot be trained, which is said.
    ///
    /// # Errors
    /// When the GPU is gone, or has no memory for so many.
    pub(crate) fn begin(
        &self,
        mut member: link::Member,
        others: usize,
        stream: Option<Stream>,
        crew: &mut Crew,
        speech: &Speech,
    ) -> Result<Option<Member>> {
        let token = member.token;
        if member.threads == 0 {
            member.threads = self.threads;
        }
        let threads = member.threads;
        crew.compute_with(threads);
        let device = crew.device();
        let lane = match (self.sharing, device) {
            (Some(sharing), Device::Cuda(gpu)) => sharing.lane(gpu, stream)?,
            _ => Lane::from(device),
        };
        let has_others = member.exchange.is_some() && others > 0;
        let begun = if has_others {
            Err(anyhow::anyhow!("a trial with several replicas has its trainers for itself"))
        } else if member.trial.data != self.data {
            Err(anyhow::anyhow!("its data are not those that its trainer has opened"))
        } else {
            Member::new(member, lane, self.samples)
        };
        match begun {
            Ok(member) => {
                speech.say(&Said::Started {
                    token,
                    device: describe(device),
                    threads,
                    instruction_set: link::instruction_set().to_owned(),
                    libtorch: crate::LIBTORCH_VERSION.to_owned(),
                    resumed_epoch: member.progress.epochs_done,
                });
                Ok(Some(member))
            }
            Err(error) => {
                check_memory(others + 1, &error)?;
                speech.say(&ended(token, AttemptEnd::Failed { reason: words(&error) }));
                Ok(None)
            }
        }
    }
}

/// Where memory does not suffice for several at a time, the process ends: the coordinator blames nobody, and lets half
/// of them go on together.
pub(crate) fn check_memory(count: usize, error: &anyhow::Error) -> Result<()> {
    ensure!(
        count < 2 || !memory::is_short(error),
        "memory does not suffice for {count} trials at a time: {}",
        words(error)
    );
    Ok(())
}

fn describe(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}
