//! A replica that is not the chief: trains on what it is handed, until all is done or it is asked to stop.

use super::hand::Hand;
use crate::device::words;
use crate::member::Member;
use crate::speech::Speech;
use access::Credentials;
use anyhow::{Result, bail};
use crossbeam_channel::Receiver;
use gradients::ExchangeError;
use gradients::chief::Phase;
use gradients::remote::{Caller, Remote};
use images::{Dataset, StreamOptions};
use proto::link::{Exchange, ExchangeRole, Order, Said};
use std::sync::Arc;
use sweeps::scheduler::AttemptEnd;

/// How a replica's training ended. For the chief and the coordinator it is of no weight: what the replica had in hand
/// is handed out again.
pub(crate) fn end(trained: Result<AttemptEnd>, member: &Member, speech: &Speech) -> AttemptEnd {
    trained.unwrap_or_else(|error| match error.downcast_ref::<ExchangeError>() {
        // The chief, or its coordinator, decides what becomes of the trial.
        Some(gone) => {
            let text = format!("the replica leaves: {gone}");
            speech.say(&Said::Log { token: Some(member.token), text });
            AttemptEnd::Stopped
        }
        None => AttemptEnd::Failed { reason: words(&error) },
    })
}

/// Trains as a replica of the member's trial.
///
/// # Errors
/// When images cannot be read, or the exchange is over; [`end`] says what that means.
pub(crate) fn train(
    member: &mut Member,
    exchange: &Exchange,
    dataset: &Arc<Dataset>,
    options: StreamOptions,
    orders: &Receiver<Order>,
    speech: &Speech,
) -> Result<AttemptEnd> {
    let ExchangeRole::Replica { chief } = &exchange.role else {
        bail!("only replica 0 of a trial may be its chief");
    };
    // The chief has the slots; a replica needs its weights and its gradient alone.
    member.model.parts().0.drop_slots();
    let caller = Caller {
        chief: chief.clone(),
        token: member.token,
        secret: exchange.secret.clone(),
        values: member.model.layout().len,
        gradients: member.trial.training.gradients,
        credentials: exchange.credentials_at(chief).map(Credentials::read).transpose()?,
    };
    let mut remote = speech.alive_while(|| Remote::join(&caller))?;
    let mut hand = Hand::new(dataset, member, options);
    loop {
        if hand.step(member, &mut remote, speech)? == Phase::Done {
            return Ok(AttemptEnd::Completed);
        }
        speech.alive();
        while let Ok(order) = orders.try_recv() {
            if matches!(order, Order::Stop { token, .. } if token == member.token) {
                return Ok(AttemptEnd::Stopped);
            }
        }
    }
}
