use super::*;
use crate::trained::tests::checkpoint;
use message::{GraphProto, attribute_proto::AttributeType};
use serde_json::json;
use std::collections::BTreeMap;

const ORIGIN: Origin<'_> = Origin { sweep: "stripes", number: 4 };

fn exported(network: &str, alpha: f64, resolution: u32, training: serde_json::Value) -> (Trained, ModelProto) {
    let trained = Trained::read(&checkpoint(network, alpha, resolution, training, &[])).unwrap();
    let bytes = write(&trained, ORIGIN).unwrap();
    assert_eq!(bytes, write(&trained, ORIGIN).unwrap(), "the same data gives the same bytes");
    (trained, ModelProto::decode(&bytes[..]).unwrap())
}

fn counts(graph: &GraphProto) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for node in &graph.node {
        *counts.entry(node.op_type.as_str()).or_default() += 1;
    }
    counts
}

#[test]
fn every_variant_has_its_nodes_and_all_its_numbers() {
    let check = |network: &str, alpha: f64, resolution: u32, convolutions: usize| {
        let (trained, model) = exported(network, alpha, resolution, json!({}));
        let graph = model.graph.unwrap();
        let expected = [
            ("BatchNormalization", convolutions),
            ("Clip", convolutions),
            ("Conv", convolutions),
            ("Flatten", 1),
            ("Gemm", 1),
            ("GlobalAveragePool", 1),
        ];
        assert_eq!(counts(&graph), BTreeMap::from(expected), "{network} {alpha}");
        // All parameters, a mean and a variance for each scale and shift, and the two bounds of ReLU6.
        let cost = trained.network.cost();
        let statistics = cost.params - cost.params_without_batch_norm;
        let numbers: usize = graph.initializer.iter().map(|tensor| tensor.raw_data.len() / 4).sum();
        assert_eq!(u64::try_from(numbers).unwrap(), cost.params + statistics + 2, "{network} {alpha}");
        for tensor in &graph.initializer {
            let elements: i64 = tensor.dims.iter().product();
            assert_eq!(usize::try_from(elements).unwrap() * 4, tensor.raw_data.len(), "{}", tensor.name);
            assert_eq!(tensor.data_type, 1);
        }
    };
    for (alpha, resolution) in [(1.0, 224), (0.75, 192), (0.5, 160), (0.25, 128), (0.33, 37)] {
        check("mobilenet", alpha, resolution, 27);
    }
    check("shallow_mobilenet", 0.5, 128, 17);
    check("conv_mobilenet", 0.25, 96, 14);
}

#[test]
fn the_graph_is_in_order_and_closed() {
    let (_, model) = exported("mobilenet", 0.25, 128, json!({}));
    let graph = model.graph.unwrap();
    let mut known: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    known.push("images");
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(&input.as_str()), "{} reads {input} before it is there", node.name);
        }
        for output in &node.output {
            assert!(!known.contains(&output.as_str()), "{output} is written twice");
            known.push(output);
        }
    }
    let shape = |value: &ValueInfoProto| -> Vec<String> {
        let Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }) = &value.r#type else {
            panic!("{} is no tensor", value.name)
        };
        assert_eq!(tensor.elem_type, 1);
        let side = |dimension: &Dimension| match dimension.value.as_ref().unwrap() {
            dimension::Value::DimValue(side) => side.to_string(),
            dimension::Value::DimParam(name) => name.clone(),
        };
        tensor.shape.as_ref().unwrap().dim.iter().map(side).collect()
    };
    assert_eq!(graph.input[0].name, "images");
    assert_eq!(shape(&graph.input[0]), ["batch", "3", "128", "128"]);
    assert_eq!(graph.output[0].name, "logits");
    assert_eq!(shape(&graph.output[0]), ["batch", "10"]);
    assert_eq!(graph.node.last().unwrap().output, ["logits"]);
}

#[test]
fn a_block_is_written_as_it_is_trained() {
    let (_, model) = exported("mobilenet", 0.25, 128, json!({}));
    assert_eq!((model.ir_version, model.opset_import[0].version), (8, 17));
    let graph = model.graph.unwrap();
    let node = |name: &str| graph.node.iter().find(|node| node.name == name).unwrap();
    let filters = node("block02.depthwise.convolution");
    assert_eq!(filters.input, ["block01.pointwise", "block02.depthwise.weight"]);
    let whole = |name: &str| {
        let attribute = filters.attribute.iter().find(|attribute| attribute.name == name).unwrap();
        match AttributeType::try_from(attribute.r#type).unwrap() {
            AttributeType::Int => vec![attribute.i.unwrap()],
            AttributeType::Ints => attribute.ints.clone(),
            other => panic!("{other:?}"),
        }
    };
    // 16 channels at α 0.25; as much padding at the end as at the beginning, though stride 2 meets 64 rows.
    assert_eq!(whole("kernel_shape"), [3, 3]);
    assert_eq!(whole("strides"), [2, 2]);
    assert_eq!(whole("pads"), [1, 1, 1, 1]);
    assert_eq!(whole("group"), [16]);
    let norm = node("block02.depthwise.batch_norm");
    let parts = ["scale", "shift", "mean", "variance"].map(|part| format!("block02.depthwise.batch_norm.{part}"));
    assert_eq!(norm.input[1..], parts);
    assert_eq!(norm.attribute[0].f, Some(0.001));
    assert_eq!(node("block02.depthwise").input, ["block02.depthwise.batch_norm", "zero", "six"]);
    let tensor = graph.initializer.iter().find(|tensor| tensor.name == "block02.depthwise.weight").unwrap();
    assert_eq!(tensor.dims, [16, 1, 3, 3]);
    assert_eq!(tensor.raw_data[..4], 1.0_f32.to_le_bytes());
}

#[test]
fn settings_that_change_the_network_are_kept() {
    let training = json!({"activation": "relu", "batch_norm": {"epsilon": 0.01}});
    let (_, model) = exported("mobilenet", 0.5, 64, training);
    let entries: BTreeMap<&str, &str> =
        model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    for (key, value) in [
        ("sweep", "stripes"),
        ("trial", "4"),
        ("alpha", "0.5"),
        ("resolution", "64"),
        ("classes", "10"),
        ("activation", "relu"),
        ("batch_norm_epsilon_in_training", "0.01"),
        ("weights", "as trained"),
        ("batch_norm_statistics", "running"),
        ("epoch", "2"),
    ] {
        assert_eq!(entries.get(key), Some(&value), "{key}");
    }
    assert!(entries["normalisation"].contains("byte / 127.5 - 1"));
    let graph = model.graph.unwrap();
    assert_eq!(counts(&graph).get("Relu"), Some(&27));
    assert_eq!(counts(&graph).get("Clip"), None);
    let norm = graph.node.iter().find(|node| node.op_type == "BatchNormalization").unwrap();
    assert_eq!(norm.attribute[0].f, Some(0.01));
}

/// Operations that no shipped network has: a network of branches can be exported too.
#[test]
fn branches_and_pools_have_a_form() {
    let mut trained = Trained::read(&checkpoint("mobilenet", 0.25, 32, json!({}), &[])).unwrap();
    let layer =
        |name: &str, operation, inputs: &[Source]| Layer { name: name.into(), operation, inputs: inputs.into() };
    let pool = |pooling| Operation::Pool { pooling, kernel: 3, stride: 2 };
    trained.network = sweeps::network::Network::from_layers(
        Shape { height: 8, width: 8, channels: 3 },
        vec![
            layer("largest", pool(Pooling::Maximum), &[Source::Image]),
            layer("mean", pool(Pooling::Average), &[Source::Image]),
            layer("joined", Operation::Concatenate, &[Source::Layer(0), Source::Layer(1)]),
            layer("dropout", Operation::Dropout, &[Source::Layer(2)]),
            layer("pool", Operation::GlobalAveragePool, &[Source::Layer(3)]),
        ],
    )
    .unwrap();
    let graph = model(&trained, ORIGIN).unwrap().graph.unwrap();
    let nodes: Vec<(&str, &str)> =
        graph.node.iter().map(|node| (node.op_type.as_str(), node.input[0].as_str())).collect();
    assert_eq!(
        nodes,
        [
            ("MaxPool", "images"),
            ("AveragePool", "images"),
            ("Concat", "largest"),
            ("GlobalAveragePool", "joined"),
            ("Flatten", "pool"),
        ]
    );
    assert_eq!(graph.node.last().unwrap().output, ["logits"]);
}
