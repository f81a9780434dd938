//! A table of typed values that can be written in any of the formats: for programs every column at full precision
//! ([`csv`], [`json`], [`parquet`]), for people the chosen ones with units and rounding ([`markdown`], [`latex`],
//! [`html`]).

mod csv;
pub(crate) mod html;
mod json;
mod latex;
pub(crate) mod markdown;
mod parquet;
mod shown;

pub use csv::csv;
pub use html::html;
pub use json::json;
pub use latex::latex;
pub use markdown::markdown;
pub use parquet::parquet;

use crate::view::SweepView;
use thiserror::Error;

/// Why a table could not be written.
#[derive(Debug, Error)]
pub enum TabularError {
    /// The CSV writer.
    #[error("cannot write comma-separated values: {0}")]
    Csv(#[from] ::csv::Error),
    /// The JSON writer.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The Parquet writer.
    #[error("cannot write Parquet: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
}

/// One value; `None` where it is not known.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not known, or does not apply.
    None,
    /// Yes or no.
    Bool(bool),
    /// A count.
    Count(u64),
    /// A measurement; finite.
    Number(f64),
    /// Words.
    Text(String),
}

impl Value {
    /// A measurement, where there is one.
    #[must_use]
    pub fn number(value: Option<f64>) -> Self {
        value.filter(|value| value.is_finite()).map_or(Self::None, Self::Number)
    }

    /// Words; empty ones are none.
    #[must_use]
    pub fn text(words: impl Into<String>) -> Self {
        let words = words.into();
        if words.is_empty() { Self::None } else { Self::Text(words) }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Value::Bool`].
    Bool,
    /// [`Value::Count`].
    Count,
    /// [`Value::Number`].
    Number,
    /// [`Value::Text`].
    Text,
}

/// How people read a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// A fraction, in percent with two decimals.
    Percent,
    /// A difference of fractions, in points with a sign and two decimals.
    Points,
    /// `568.7 M`.
    Thousands,
    /// So many decimals.
    Decimals(usize),
    /// Images per second.
    Rate,
    /// Seconds as `2 h 07 min`.
    Duration,
    /// `yes`, or nothing.
    Mark,
    /// `yes` or `no`.
    YesNo,
}

/// Who sees a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Everybody.
    All,
    /// Programs.
    Programs,
    /// Programs see it by itself, people as the `±` of the column before.
    Spread,
}

/// A column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// For programs: `val_top1_best`.
    pub name: String,
    /// For people, with the unit: `top-1 best (%)`.
    pub head: String,
    /// What it holds.
    pub kind: Kind,
    /// How people read it.
    pub style: Style,
    /// Who sees it.
    pub show: Show,
}

impl Column {
    /// For everybody.
    #[must_use]
    pub fn new(name: impl Into<String>, head: impl Into<String>, kind: Kind, style: Style) -> Self {
        Self { name: name.into(), head: head.into(), kind, style, show: Show::All }
    }

    /// For programs alone.
    #[must_use]
    pub fn hidden(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), head: String::new(), kind, style: Style::Plain, show: Show::Programs }
    }

    /// The spread of the column before.
    #[must_use]
    pub fn spread(name: impl Into<String>, style: Style) -> Self {
        Self { name: name.into(), head: String::new(), kind: Kind::Number, style, show: Show::Spread }
    }
}

/// Rows of values below columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tabular {
    /// `grid`: also the name of its files.
    pub name: String,
    /// One line: what the table is of.
    pub title: String,
    /// Sentences below the title: what columns mean, what is missing.
    pub notes: Vec<String>,
    /// From left to right.
    pub columns: Vec<Column>,
    /// As many values as columns each.
    pub rows: Vec<Vec<Value>>,
}

/// What every file says about the sweep it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The sweep's name.
    pub sweep: String,
    /// All trials were completed when this was written.
    pub complete: bool,
    /// `16 of 16 trials completed`.
    pub standing: String,
    /// The numbers are made up by the scripted trainer.
    pub scripted: bool,
}

impl About {
    /// Of this sweep.
    #[must_use]
    pub fn new(view: &SweepView) -> Self {
        Self {
            sweep: view.name.clone(),
            complete: view.count("completed") == view.trials.len(),
            standing: view.standing(),
            scripted: view.scripted,
        }
    }

    /// What a reader must not overlook; none for a complete sweep that was really trained.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.scripted {
            warnings
                .push("Scripted: these numbers are made up by the scripted trainer. Nothing was trained.".to_owned());
        }
        if !self.complete {
            warnings.push(format!("Not complete: {}. This is what is there so far.", self.standing));
        }
        warnings
    }
}
