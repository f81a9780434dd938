//! Nodes and initialisers, as they are added.

use super::message::{AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto, tensor_proto};
use crate::trained::{Trained, TrainedError};

/// ONNX's number for 32-bit floats.
pub(super) const FLOAT: i32 = tensor_proto::DataType::Float as i32;

/// A graph being put together.
#[derive(Debug, Default)]
pub(super) struct Builder {
    graph: GraphProto,
}

impl Builder {
    /// Adds a node of one output.
    pub(super) fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|input| (*input).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute,
        });
    }

    /// Adds a tensor of the checkpoint under its own name, and gives that name.
    pub(super) fn parameter(&mut self, trained: &Trained, name: &str, shape: &[usize]) -> Result<String, TrainedError> {
        let values = trained.values(name, shape)?;
        self.initialiser(name, shape, &values.values);
        Ok(name.to_owned())
    }

    /// Adds a single number, once, and gives its name.
    pub(super) fn constant(&mut self, name: &str, value: f32) -> String {
        if !self.graph.initializer.iter().any(|known| known.name == name) {
            self.initialiser(name, &[], &[value]);
        }
        name.to_owned()
    }

    /// Gives the newest node's output, which nothing reads yet, another name.
    pub(super) fn rename_output(&mut self, name: &str) {
        if let Some(node) = self.graph.node.last_mut() {
            node.output = vec![name.to_owned()];
        }
    }

    /// The graph so far.
    pub(super) fn finish(self) -> GraphProto {
        self.graph
    }

    fn initialiser(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.graph.initializer.push(TensorProto {
            dims: shape.iter().map(|side| i64::try_from(*side).unwrap_or(i64::MAX)).collect(),
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
    }
}

/// A whole number.
pub(super) fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, attribute_proto::AttributeType::Int) }
}

/// Whole numbers.
pub(super) fn integers(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, attribute_proto::AttributeType::Ints) }
}

/// A 32-bit number.
#[expect(clippy::cast_possible_truncation, reason = "ONNX keeps it in 32 bits")]
pub(super) fn number(name: &str, value: f64) -> AttributeProto {
    AttributeProto { f: Some(value as f32), ..attribute(name, attribute_proto::AttributeType::Float) }
}

fn attribute(name: &str, kind: attribute_proto::AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind.into(), ..AttributeProto::default() }
}
