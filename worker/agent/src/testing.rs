//! Values for tests.

use sweeps::trial::Trial;

/// A scripted trial of three epochs.
pub(crate) fn trial() -> Trial {
    serde_json::from_value(serde_json::json!({
        "key": "0".repeat(32), "parameters": {}, "network": "mobilenet", "alpha": 0.5, "resolution": 128, "seed": 1,
        "data": {"format": "idx", "train": "x", "validation": "y", "classes": 10},
        "training": {"epochs": 3}, "checkpoint": {}, "best": {"name": "val_top1", "goal": "maximize"},
        "script": []
    }))
    .unwrap()
}
