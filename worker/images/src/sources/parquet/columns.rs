//! Which columns hold images and labels, and what the classes are called.

use parquet::basic::Type;
use parquet::file::metadata::KeyValue;
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};
use serde_json::Value;

const IMAGES: [&str; 2] = ["image", "img"];
const LABELS: [&str; 3] = ["label", "labels", "fine_label"];

/// Of a file.
#[derive(Debug)]
pub(super) struct Columns {
    /// Numbers among the leaves of the schema.
    pub(super) image: usize,
    pub(super) label: usize,
    /// Definition levels of values that are there.
    pub(super) image_level: i16,
    pub(super) label_level: i16,
    /// `{bytes, path}`, and not the bytes alone.
    pub(super) is_struct: bool,
    pub(super) labels: Labels,
    pub(super) label_name: String,
}

/// As what labels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    Int32,
    Int64,
}

impl Columns {
    /// The error says what is missing, and what is there.
    pub(super) fn find(schema: &SchemaDescriptor) -> Result<Self, String> {
        let leaves = || schema.columns().iter().enumerate().map(|(number, leaf)| (number, leaf.as_ref()));
        let names: Vec<&str> = schema.root_schema().get_fields().iter().map(|field| field.name()).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let is_binary = |leaf: &ColumnDescriptor| leaf.physical_type() == Type::BYTE_ARRAY && leaf.max_rep_level() == 0;
        let at = |leaf: &ColumnDescriptor, path: &[&str]| leaf.path().parts() == path;
        let named = IMAGES.iter().find_map(|name| {
            leaves().find(|(_, leaf)| is_binary(leaf) && (at(leaf, &[name, "bytes"]) || at(leaf, &[name])))
        });
        let structs: Vec<_> = leaves()
            .filter(|(_, leaf)| is_binary(leaf) && matches!(leaf.path().parts(), [_, last] if last == "bytes"))
            .collect();
        let image = named.or(if let [only] = structs[..] { Some(only) } else { None });
        let (image, image_leaf) = image.ok_or_else(|| {
            format!("it has no column `image` or `img` of image files, as bytes or as {{bytes, path}}; its columns are {there}")
        })?;
        let label = LABELS.iter().find_map(|name| leaves().find(|(_, leaf)| at(leaf, &[name])));
        let (label, label_leaf) = label
            .ok_or_else(|| format!("it has no column `label`, `labels` or `fine_label`; its columns are {there}"))?;
        let label_name = label_leaf.name().to_owned();
        let labels = match label_leaf.physical_type() {
            Type::INT32 => Labels::Int32,
            Type::INT64 => Labels::Int64,
            other => return Err(format!("its labels are {other} and no whole numbers; number the classes from 0")),
        };
        Ok(Self {
            image,
            label,
            image_level: image_leaf.max_def_level(),
            label_level: label_leaf.max_def_level(),
            is_struct: image_leaf.path().parts().len() > 1,
            labels,
            label_name,
        })
    }
}

/// As the library `datasets` writes them beside the table; none where they are not, or not all.
pub(super) fn class_names(metadata: &[KeyValue], label: &str) -> Option<Vec<String>> {
    let text = metadata.iter().find(|pair| pair.key == "huggingface")?.value.as_deref()?;
    let value: Value = serde_json::from_str(text).ok()?;
    let feature = value.get("info")?.get("features")?.get(label)?;
    let names = feature.get("names").or_else(|| feature.get("class_label")?.get("names"))?;
    let names: Option<Vec<String>> = match names {
        Value::Array(names) => names.iter().map(|name| name.as_str().map(str::to_owned)).collect(),
        // {"0": "cat", "1": "dog"}
        Value::Object(names) => {
            (0..names.len()).map(|number| names.get(&number.to_string())?.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    };
    names.filter(|names| !names.is_empty())
}
