use super::*;
use crate::trained::tests::checkpoint;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

const ORIGIN: Origin<'_> = Origin { sweep: "stripes", number: 4 };

fn exported(network: &str, alpha: f64, training: serde_json::Value) -> Vec<u8> {
    let trained = Trained::read(&checkpoint(network, alpha, 128, training, &[])).unwrap();
    let file = write(&trained, ORIGIN).unwrap();
    assert_eq!(file, write(&trained, ORIGIN).unwrap(), "the same data gives the same bytes");
    file
}

fn metadata(file: &[u8], key: &str) -> String {
    let (_, metadata) = SafeTensors::read_metadata(file).unwrap();
    metadata.metadata().as_ref().unwrap()[key].clone()
}

/// The lists were printed by `bench/peers/weights/names.py` from timm's own models of ten classes.
#[test]
fn names_and_shapes_are_those_of_timm() {
    let check = |network: &str, alpha: f64, list: &str| {
        let file = exported(network, alpha, json!({}));
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let mut ours: Vec<String> = tensors
            .tensors()
            .iter()
            .map(|(name, view)| {
                let sides: Vec<String> = view.shape().iter().map(ToString::to_string).collect();
                let kind = if view.dtype() == Dtype::F32 { "float32" } else { "int64" };
                format!("{name} {kind} [{}]", sides.join(", "))
            })
            .collect();
        let mut theirs: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
        ours.sort();
        theirs.sort_unstable();
        assert_eq!(ours, theirs, "{network} {alpha}");
    };
    check("mobilenet", 1.0, include_str!("../../tests/data/timm/mobilenet-1.txt"));
    check("mobilenet", 0.75, include_str!("../../tests/data/timm/mobilenet-0.75.txt"));
    check("mobilenet", 0.25, include_str!("../../tests/data/timm/mobilenet-0.25.txt"));
    check("shallow_mobilenet", 0.5, include_str!("../../tests/data/timm/shallow_mobilenet-0.5.txt"));
    check("conv_mobilenet", 0.25, include_str!("../../tests/data/timm/conv_mobilenet-0.25.txt"));
}

#[test]
fn the_model_to_load_it_is_named() {
    let check = |network: &str, alpha: f64, training: serde_json::Value, call: &str| {
        assert_eq!(metadata(&exported(network, alpha, training), "timm"), call);
    };
    check("mobilenet", 1.0, json!({}), "timm.create_model('mobilenetv1_100', num_classes=10)");
    check(
        "mobilenet",
        1.0,
        json!({"activation": "relu"}),
        "timm.create_model('mobilenetv1_100', num_classes=10, act_layer='relu')",
    );
    check(
        "mobilenet",
        0.25,
        json!({}),
        "timm.models.efficientnet._gen_mobilenet_v1('mobilenetv1_100', 0.25, num_classes=10)",
    );
    check(
        "mobilenet",
        0.33,
        json!({}),
        "none: at width 0.33 timm rounds channels to multiples of 8 and training takes the integer part",
    );
    assert_eq!(metadata(&exported("mobilenet", 0.5, json!({})), "format"), "pt");
}

#[test]
fn variance_and_epsilon_have_the_same_sum() {
    for epsilon in [0.001, 1e-5, 1e-6] {
        let file = exported("mobilenet", 0.25, json!({"batch_norm": {"epsilon": epsilon}}));
        let tensors = SafeTensors::deserialize(&file).unwrap();
        let view = tensors.tensor("bn1.running_var").unwrap();
        let variance = f32::from_le_bytes(view.data()[..4].try_into().unwrap());
        // The made-up checkpoint's first variance is 0.5.
        assert!((f64::from(variance) + 1e-5 - (0.5 + epsilon)).abs() < 1e-7, "{epsilon}: {variance}");
    }
    let file = exported("mobilenet", 0.25, json!({}));
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let steps = tensors.tensor("bn1.num_batches_tracked").unwrap();
    assert_eq!(steps.data(), 124_i64.to_le_bytes());
}
