//! Wire types to domain types and back. What comes from outside is checked here.

use crate::wire;
use sweeps::ids::{Token, TrialId};
use sweeps::metrics::{self, Point};
use sweeps::scheduler::{AttemptEnd, StopReason};
use sweeps::trial::Trial;
use thiserror::Error;

/// A message that is not what the contract says.
#[derive(Debug, Error)]
pub enum BadMessage {
    /// A part is missing.
    #[error("the message has no {0}")]
    Missing(&'static str),
    /// A value that makes no sense.
    #[error("{field}: {problem}")]
    Value {
        /// Which.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl From<BadMessage> for tonic::Status {
    fn from(bad: BadMessage) -> Self {
        Self::invalid_argument(bad.to_string())
    }
}

impl From<Token> for wire::Token {
    fn from(token: Token) -> Self {
        Self { trial: token.trial.0, attempt: token.attempt, replica: token.replica, incarnation: token.incarnation }
    }
}

/// The token of a message.
///
/// # Errors
/// When there is none.
pub fn token(from: Option<wire::Token>) -> Result<Token, BadMessage> {
    let from = from.ok_or(BadMessage::Missing("token"))?;
    Ok(Token {
        trial: TrialId(from.trial),
        attempt: from.attempt,
        replica: from.replica,
        incarnation: from.incarnation,
    })
}

impl From<Point> for wire::Point {
    fn from(point: Point) -> Self {
        Self { name: point.name, step: point.step, value: point.value }
    }
}

/// Points with known names and finite values.
///
/// # Errors
/// When a name is not in the table of metrics, or a value is not finite.
pub fn points(from: Vec<wire::Point>) -> Result<Vec<Point>, BadMessage> {
    from.into_iter()
        .map(|point| {
            if metrics::find(&point.name).is_none() {
                return Err(BadMessage::Value {
                    field: "points",
                    problem: format!("no metric is called {:?}", point.name),
                });
            }
            if !point.value.is_finite() {
                return Err(BadMessage::Value {
                    field: "points",
                    problem: format!("{} is {}", point.name, point.value),
                });
            }
            Ok(Point { name: point.name, step: point.step, value: point.value })
        })
        .collect()
}

/// How an attempt ended.
///
/// # Errors
/// When the JSON is not one.
pub fn attempt_end(json: &str) -> Result<AttemptEnd, BadMessage> {
    from_json("end_json", json)
}

/// A trial's settings.
///
/// # Errors
/// When the JSON is not one.
pub fn trial(json: &str) -> Result<Trial, BadMessage> {
    from_json("trial_json", json)
}

/// Why to stop, from its word.
///
/// # Errors
/// When the word is unknown.
pub fn stop_reason(word: &str) -> Result<StopReason, BadMessage> {
    match word {
        "pause" => Ok(StopReason::Pause),
        "cancel" => Ok(StopReason::Cancel),
        "superseded" => Ok(StopReason::Superseded),
        other => Err(BadMessage::Value { field: "reason", problem: format!("{other:?} is no reason to stop") }),
    }
}

/// The word of a reason to stop.
#[must_use]
pub fn stop_word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Pause => "pause",
        StopReason::Cancel => "cancel",
        StopReason::Superseded => "superseded",
    }
}

/// JSON of a value whose types cannot fail to become JSON.
#[must_use]
pub fn to_json<T: serde::Serialize>(value: &T) -> String {
    // Our types have text keys and finite numbers only, so this cannot fail; an empty object would be refused
    // by every reader.
    serde_json::to_string(value).unwrap_or_default()
}

fn from_json<T: serde::de::DeserializeOwned>(field: &'static str, json: &str) -> Result<T, BadMessage> {
    serde_json::from_str(json).map_err(|error| BadMessage::Value { field, problem: error.to_string() })
}
