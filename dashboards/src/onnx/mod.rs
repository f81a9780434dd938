//! A trained network as an ONNX file: a third fold over the list of layers.
//!
//! BatchNorm stays a node of its own. The numbers in the file are then those that were trained, to the bit, under
//! the names of the checkpoint; runtimes fold it into the convolution when they load a file (onnxruntime does at
//! its lowest level of optimisation). Dropout does nothing in evaluation and is left out.
//!
//! Padding is symmetric, as in training: `(kernel − 1) / 2` on each side, also where a stride of 2 meets an even
//! side. TensorFlow's "same" would pad such sides at the end alone.

mod graph;
#[cfg(test)]
mod tests;

use crate::origin::{self, Origin};
use crate::trained::{Trained, TrainedError};
use graph::Builder;
use message::{
    ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};
use prost::Message;
use sweeps::network::{Connection, Convolution, Layer, Operation, Pooling, Shape, Source};
use sweeps::spec::model::Activation;

/// Generated from `proto/onnx.proto`.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, reason = "generated code")]
pub(crate) mod message {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// Version of ONNX's operators that the file uses.
const OPSET: i64 = 17;
/// Version of the format that came with that opset.
const IR_VERSION: i64 = 8;
/// The input: f32, `[batch, 3, ρ, ρ]`, normalised.
const INPUT: &str = "images";
/// The output: f32, `[batch, classes]`.
const OUTPUT: &str = "logits";

/// The file's bytes. The same checkpoint gives the same bytes.
///
/// # Errors
/// When the checkpoint lacks a tensor of its network.
pub fn write(trained: &Trained, origin: Origin<'_>) -> Result<Vec<u8>, TrainedError> {
    Ok(model(trained, origin)?.encode_to_vec())
}

fn model(trained: &Trained, origin: Origin<'_>) -> Result<ModelProto, TrainedError> {
    let mut builder = Builder::default();
    // What each layer's output is called; that of the layers left out is their input's.
    let mut outputs: Vec<String> = Vec::with_capacity(trained.network.layers.len());
    for (layer, shape, _) in trained.network.with_shapes() {
        let inputs: Vec<String> = layer
            .inputs
            .iter()
            .map(|source| match source {
                Source::Image => INPUT.to_owned(),
                Source::Layer(index) => outputs[*index].clone(),
            })
            .collect();
        outputs.push(add(&mut builder, trained, layer, &inputs, shape)?);
    }
    if let Some(Layer { operation: Operation::Dense { .. }, .. }) = trained.network.layers.last() {
        builder.rename_output(OUTPUT);
    } else {
        let last = outputs.last().map_or(INPUT, String::as_str);
        builder.node("Flatten", OUTPUT, &[last], OUTPUT, vec![graph::integer("axis", 1)]);
    }

    let [height, width] = [trained.network.input.height, trained.network.input.width].map(i64::from);
    let mut graph = builder.finish();
    graph.name = format!("{}-{}", origin.sweep, origin.number);
    graph.input = vec![value(INPUT, &[3, height, width], "red, green, blue; byte / 127.5 - 1")];
    graph.output = vec![value(OUTPUT, &[i64::from(trained.trial.data.classes)], "one a class, before softmax")];
    let entries = origin::describe(trained, origin);
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "alpharho".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: format!(
            "Trial {} of sweep {}: MobileNet, width {}, {height} x {width} pixels",
            origin.number, origin.sweep, trained.trial.alpha
        ),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: entries.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect(),
    })
}

/// Adds a layer's nodes and gives the name of what comes out.
fn add(
    builder: &mut Builder,
    trained: &Trained,
    layer: &Layer,
    inputs: &[String],
    shape: Shape,
) -> Result<String, TrainedError> {
    let name = layer.name.as_str();
    let input = inputs.first().map_or(INPUT, String::as_str);
    match layer.operation {
        Operation::Convolution(convolution) => convolve(builder, trained, name, convolution, input, shape)?,
        Operation::Pool { pooling, kernel, stride } => {
            let operator = match pooling {
                Pooling::Maximum => "MaxPool",
                Pooling::Average => "AveragePool",
            };
            let mut attributes = window(kernel, stride);
            attributes.push(graph::integer("ceil_mode", 1));
            builder.node(operator, name, &[input], name, attributes);
        }
        Operation::GlobalAveragePool => builder.node("GlobalAveragePool", name, &[input], name, vec![]),
        Operation::Concatenate => {
            let all: Vec<&str> = inputs.iter().map(String::as_str).collect();
            builder.node("Concat", name, &all, name, vec![graph::integer("axis", 1)]);
        }
        Operation::Dropout => return Ok(input.to_owned()),
        Operation::Dense { outputs, bias } => {
            let flat = format!("{name}.flat");
            builder.node("Flatten", &flat, &[input], &flat, vec![graph::integer("axis", 1)]);
            let [outputs, within] = [outputs, shape.height * shape.width * shape.channels].map(count);
            let weight = builder.parameter(trained, &format!("{name}.weight"), &[outputs, within])?;
            let mut reads = vec![flat, weight];
            if bias {
                reads.push(builder.parameter(trained, &format!("{name}.bias"), &[outputs])?);
            }
            let reads: Vec<&str> = reads.iter().map(String::as_str).collect();
            builder.node("Gemm", name, &reads, name, vec![graph::integer("transB", 1)]);
        }
    }
    Ok(name.to_owned())
}

fn convolve(
    builder: &mut Builder,
    trained: &Trained,
    name: &str,
    convolution: Convolution,
    input: &str,
    shape: Shape,
) -> Result<(), TrainedError> {
    let Convolution { channels, kernel, stride, connection, bias, batch_norm, activation } = convolution;
    let (groups, within) = match connection {
        Connection::Full => (1, shape.channels),
        Connection::Depthwise => (channels, 1),
    };
    let output = |part: &str, last: bool| if last { name.to_owned() } else { format!("{name}.{part}") };
    let sides = [channels, within, kernel, kernel].map(count);
    let mut reads = vec![input.to_owned(), builder.parameter(trained, &format!("{name}.weight"), &sides)?];
    if bias {
        reads.push(builder.parameter(trained, &format!("{name}.bias"), &sides[..1])?);
    }
    let mut attributes = window(kernel, stride);
    attributes.push(graph::integer("group", i64::from(groups)));
    let mut current = output("convolution", !batch_norm && !activation);
    builder.node("Conv", &current, &strings(&reads), &current, attributes);
    if batch_norm {
        let mut reads = vec![current];
        for part in ["scale", "shift", "mean", "variance"] {
            reads.push(builder.parameter(trained, &format!("{name}.batch_norm.{part}"), &sides[..1])?);
        }
        current = output("batch_norm", !activation);
        let epsilon = graph::number("epsilon", trained.trial.training.batch_norm.epsilon);
        builder.node("BatchNormalization", &current, &strings(&reads), &current, vec![epsilon]);
    }
    if activation {
        match trained.trial.training.activation {
            Activation::Relu6 => {
                let (zero, six) = (builder.constant("zero", 0.0), builder.constant("six", 6.0));
                builder.node("Clip", name, &[&current, &zero, &six], name, vec![]);
            }
            Activation::Relu => builder.node("Relu", name, &[&current], name, vec![]),
        }
    }
    Ok(())
}

/// The attributes of a moving window, padded by as much on each side.
fn window(kernel: u32, stride: u32) -> Vec<message::AttributeProto> {
    let (kernel, stride) = (i64::from(kernel), i64::from(stride));
    vec![
        graph::integers("kernel_shape", &[kernel; 2]),
        graph::integers("strides", &[stride; 2]),
        graph::integers("pads", &[(kernel - 1) / 2; 4]),
    ]
}

fn strings(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

fn count(side: u32) -> usize {
    usize::try_from(side).unwrap_or(usize::MAX)
}

/// An input or output: f32, its first dimension any number of images.
fn value(name: &str, sides: &[i64], words: &str) -> ValueInfoProto {
    let batch = dimension::Value::DimParam("batch".to_owned());
    let sides = sides.iter().map(|side| dimension::Value::DimValue(*side));
    let dim = std::iter::once(batch).chain(sides).map(|value| Dimension { value: Some(value) }).collect();
    let tensor = type_proto::Tensor { elem_type: graph::FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)) }),
        doc_string: words.to_owned(),
    }
}
