//! JSON: one object with a head that says what the rows are of.

use super::{About, Tabular, TabularError, Value};
use serde_json::{Map, json};

/// `{"sweep", "complete", "standing", "scripted", "table", "title", "notes", "rows": [{column: value}]}`; `null` where
/// nothing is known.
///
/// # Errors
/// When the writer fails.
pub fn json(table: &Tabular, about: &About) -> Result<Vec<u8>, TabularError> {
    let rows: Vec<serde_json::Value> = table
        .rows
        .iter()
        .map(|row| {
            let named = table.columns.iter().zip(row).map(|(column, value)| (column.name.clone(), plain(value)));
            serde_json::Value::Object(named.collect::<Map<_, _>>())
        })
        .collect();
    let whole = json!({
        "sweep": about.sweep,
        "complete": about.complete,
        "standing": about.standing,
        "scripted": about.scripted,
        "table": table.name,
        "title": table.title,
        "notes": table.notes,
        "rows": rows,
    });
    let mut bytes = serde_json::to_vec_pretty(&whole)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn plain(value: &Value) -> serde_json::Value {
    match value {
        Value::None => serde_json::Value::Null,
        Value::Bool(yes) => json!(yes),
        Value::Count(count) => json!(count),
        Value::Number(number) => json!(number),
        Value::Text(words) => json!(words),
    }
}
