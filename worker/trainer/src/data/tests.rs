//! Whole data sets, made on the spot.

use super::*;
use proto::link::DataPlaces;
use std::path::Path;
use sweeps::spec::model::Data;

/// Settings with every default, and a quarter held out.
pub(super) fn settings(format: &str, train: &str, classes: u32) -> Data {
    let text = serde_json::json!({
        "format": format, "train": train, "validation": {"fraction": 0.25}, "classes": classes,
    });
    serde_json::from_value(text).unwrap()
}
