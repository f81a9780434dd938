//! The safetensors format, written in a fixed order: the library's own writer takes metadata from a map whose order
//! is random. Eight bytes of the header's length, the header as JSON, the tensors' bytes.

use serde_json::{Map, Value, json};

/// One tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    kind: &'static str,
    pub(super) shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Entry {
    /// 32-bit floats.
    pub(super) fn floats(name: String, shape: Vec<usize>, values: &[f32]) -> Self {
        Self { name, kind: "F32", shape, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    /// One whole number, of 64 bits.
    pub(super) fn count(name: String, value: u64) -> Self {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        Self { name, kind: "I64", shape: Vec::new(), bytes: value.to_le_bytes().into() }
    }
}

/// The file. Whole numbers come first and keep their 8-byte alignment; else the order is that of `entries`.
pub(super) fn write(metadata: &[(String, String)], entries: &[Entry]) -> Vec<u8> {
    let words: Map<String, Value> = metadata.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let mut header = Map::from_iter([("__metadata__".to_owned(), Value::Object(words))]);
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by_key(|entry| entry.kind != "I64");
    let mut end = 0;
    for entry in &sorted {
        let start = end;
        end += entry.bytes.len();
        let place = json!({"dtype": entry.kind, "shape": entry.shape, "data_offsets": [start, end]});
        header.insert(entry.name.clone(), place);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    // Spaces up to a multiple of 8, as the format's own writer does.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = u64::try_from(header.len()).unwrap_or(0).to_le_bytes().to_vec();
    file.extend(header);
    for entry in sorted {
        file.extend(&entry.bytes);
    }
    file
}
