//! Comma-separated values.

use super::{About, Tabular, TabularError, Value};

/// All columns under their names, full precision, empty where nothing is known; then `sweep_complete` and `scripted`,
/// the same in each row, so that a file that was cut off from its sweep still says what it is.
///
/// # Errors
/// When the writer fails.
pub fn csv(table: &Tabular, about: &About) -> Result<Vec<u8>, TabularError> {
    let mut writer = ::csv::Writer::from_writer(Vec::new());
    let names = table.columns.iter().map(|column| column.name.as_str());
    writer.write_record(names.chain(["sweep_complete", "scripted"]))?;
    let common = [about.complete.to_string(), about.scripted.to_string()];
    for row in &table.rows {
        writer.write_record(row.iter().map(text).chain(common.iter().cloned()))?;
    }
    writer.into_inner().map_err(|error| ::csv::Error::from(error.into_error()).into())
}

fn text(value: &Value) -> String {
    match value {
        Value::None => String::new(),
        Value::Bool(yes) => yes.to_string(),
        Value::Count(count) => count.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(words) => words.clone(),
    }
}
