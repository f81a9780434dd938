//! What is wrong with a sweep file, all of it at once.

use serde::Serialize;
use std::fmt;

/// Problems kept; what comes after is only counted.
const PROBLEMS_MAX: usize = 100;

/// A place in the file; both from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Place {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// The key it is about, as `training.optimizer.decay` or `seeds[2]`; empty for the file as a whole.
    pub path: String,
}

/// All that is wrong with a file, in the order of lines. Displays as one line each:
/// `sweep.yaml:14:7: unknown key "resolutoin" in parameters; did you mean "resolution"?`
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file's name, as it was given.
    pub file: String,
    /// At least one; at most a hundred.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl Problems {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), problems: Vec::new(), more: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether more would only be counted.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() == PROBLEMS_MAX
    }

    /// Adds one. The message is made only if it is kept: a file can hold very many mistakes.
    pub(super) fn add(&mut self, place: Place, path: &str, message: impl FnOnce() -> String) {
        if self.is_full() {
            self.more += 1;
            return;
        }
        let Place { line, column } = place;
        self.problems.push(Problem { line, column, message: message(), path: path.to_owned() });
    }

    /// Whether something is already known to be wrong with that key, or within it.
    pub(super) fn touch(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| {
            problem.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Itself as an error, sorted, if there is any problem.
    pub(super) fn into_result(mut self) -> Result<(), Self> {
        if self.is_empty() {
            return Ok(());
        }
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(self)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, column, message, .. }) in self.problems.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{}:{line}:{column}: {message}", self.file)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more problems", self.file),
        }
    }
}

impl std::error::Error for Problems {}
