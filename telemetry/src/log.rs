//! Log lines, for people or for programs. `RUST_LOG` chooses which.

use std::fmt;
use std::fs::File;
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: time, level, words, then fields as `name=value`.
    #[default]
    Text,
    /// One JSON object a line: `timestamp`, `level`, `target`, and `message` with all fields beside each other.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is neither text nor json")),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// To standard error; `RUST_LOG` chooses what, else `level`.
pub fn to_stderr(format: Format, level: &str) {
    // Who reads them may be gone before us: that is no reason to panic, and to leave things lying about.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter(level)).with_writer(std::io::stderr);
    match format {
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).with_target(false).init(),
        Format::Json => log.json().flatten_event(true).init(),
    }
}

/// To a file, so that a terminal stays whole.
pub fn to_file(file: File, level: &str) {
    tracing_subscriber::fmt()
        .with_env_filter(filter(level))
        .with_writer(Mutex::new(file))
        .with_ansi(false)
        .with_target(false)
        .init();
}

fn filter(level: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_a_word() {
        for format in [Format::Text, Format::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("xml".parse::<Format>().is_err());
    }
}
