//! What reaches the dashboard.

use super::detail::Attempt;
use proto::wire::{Checkpoint, Event, LogLine, MetricPoint, StatusReply, WorkerStatus};
use ratatui::crossterm::event::{KeyEvent, MouseEvent};

/// Something came.
#[derive(Clone, Debug)]
pub enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// The terminal has another size.
    Resized,
    /// Time went on: asked for about once a second, where [`super::Watch::wants_ticks`].
    Tick,
    /// The sweep as it is.
    Status(Box<StatusReply>),
    /// What happened, in order.
    Event(Event),
    /// Who is attached.
    Workers(Vec<WorkerStatus>),
    /// Points of a trial, in order of name and step; `first`: they replace what is known of their metrics.
    Points {
        /// The trial's id.
        trial: u64,
        /// They replace what is known.
        first: bool,
        /// Newest attempt of each step.
        points: Vec<MetricPoint>,
    },
    /// All attempts of a trial.
    Attempts(u64, Vec<Attempt>),
    /// The checkpoints kept of a trial.
    Checkpoints(u64, Vec<Checkpoint>),
    /// Lines of a trial's log; `true`: from its beginning.
    Log(u64, bool, Vec<LogLine>),
    /// Why a trial waits, or what it does.
    Explained(u64, String),
    /// What was asked for is done.
    Done(String),
    /// What was asked for was refused, and why.
    Refused(String),
    /// The connection.
    Link(Link),
}

/// Whether the coordinator is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It answers.
    Live,
    /// It does not since then (Unix time), and why.
    Away {
        /// Unix time.
        since_ms: u64,
        /// In a few words.
        why: String,
    },
}
