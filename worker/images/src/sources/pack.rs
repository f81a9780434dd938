//! Our own pack.

use super::super::error::DataError;
use super::super::pack::Pack;
use super::store::Store;
use super::{Listing, check_class_count};
use std::path::Path;
use std::sync::Arc;

/// Names and labels are those of what was packed.
pub(super) fn list(path: &Path, classes: Option<u32>, known: Option<&[String]>) -> Result<Listing, DataError> {
    let (pack, mut samples, class_names) = Pack::open(path)?;
    match known {
        None => check_class_count(path, classes, &class_names)?,
        // A validation set may lack classes.
        Some(known) => {
            let mut labels = Vec::with_capacity(class_names.len());
            for name in &class_names {
                let label = known.iter().position(|known| known == name).and_then(|label| u32::try_from(label).ok());
                let problem = || format!("its class `{name}` is not among the training classes");
                labels.push(label.ok_or_else(|| DataError::malformed(path.display().to_string(), problem()))?);
            }
            for sample in &mut samples {
                sample.label = labels.get(sample.label as usize).copied().unwrap_or(u32::MAX);
            }
        }
    }
    Ok(Listing { samples, store: Store::Pack(Arc::new(pack)), class_names, notes: Vec::new() })
}
