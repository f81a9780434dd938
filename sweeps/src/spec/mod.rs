//! The sweep file: [`parse`] reads it into the values of [`model`], or says everything that is wrong with it.
//!
//! Two steps. The text becomes a marked tree, which is held against the table of keys: unknown, missing and
//! doubled keys, kinds, bounds. Then the values are held against each other. Only when nothing is wrong do the
//! values come through serde, which has the last word.

mod batch_norm;
pub(crate) mod expand;
mod fingerprint;
mod meaning;
pub mod model;
mod problems;
mod schema;
mod shape;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod words;

pub use batch_norm::effective_batch_norm_decay;
pub use problems::{Problem, Problems};

use model::Sweep;
use problems::Place;

/// Longer files are not read.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Reads a sweep file. `file_name` is only for messages.
///
/// Limits: 1 MiB, 100,000 trials, no anchors, aliases or tags, no number that is infinite or not a number.
///
/// # Errors
/// All problems at once, each with line, column and what to write instead.
pub fn parse(file_name: &str, text: &str) -> Result<Sweep, Problems> {
    let mut problems = Problems::new(file_name);
    if text.len() > FILE_BYTES_MAX {
        let bytes = text.len();
        problems.add(Place::START, "", || format!("the file has {bytes} bytes; at most {FILE_BYTES_MAX} are read"));
        return Err(problems);
    }
    let root = tree::read(text, &mut problems);
    let mut repaired = None;
    if let Some((value, places)) = root.and_then(|root| shape::check(&root, &mut problems)) {
        // What is left of the file, with everything wrong taken out, has the right shape by construction.
        repaired = serde_json::from_value::<Sweep>(value).ok();
        if let Some(sweep) = &repaired {
            meaning::check(sweep, &places, &mut problems);
        }
    }
    problems.into_result()?;

    let mut problems = Problems::new(file_name);
    match serde_yaml::from_str::<Sweep>(text) {
        Ok(sweep) if repaired.as_ref() == Some(&sweep) => return Ok(sweep),
        Ok(_) => problems.add(Place::START, "", || {
            "two readers of YAML understand this file differently; put words in quotes and indent evenly".to_owned()
        }),
        Err(error) => {
            let place = error
                .location()
                .map_or(Place::START, |at| Place { line: at.line().max(1), column: at.column().max(1) });
            let whole = error.to_string();
            let message = whole.rfind(" at line ").map_or(whole.as_str(), |end| &whole[..end]).to_owned();
            problems.add(place, "", || message);
        }
    }
    Err(problems)
}
