//! Parquet: one row group, plain and uncompressed; the tables are small.

use super::{About, Column, Kind, Tabular, TabularError, Value};
use ::parquet::basic::{LogicalType, Repetition, Type as Physical};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{Type, TypePtr};
use std::sync::Arc;

/// All columns under their names, nullable: booleans, 64-bit integers, doubles, UTF-8. What the rows are of stands in
/// the file's key-value metadata: `sweep`, `complete`, `standing`, `scripted`, `title`.
///
/// # Errors
/// When the writer fails.
pub fn parquet(table: &Tabular, about: &About) -> Result<Vec<u8>, TabularError> {
    let fields = table.columns.iter().map(field).collect::<Result<Vec<TypePtr>, ParquetError>>()?;
    let schema = Type::group_type_builder("schema").with_fields(fields).build()?;
    let pair = |key: &str, value: String| KeyValue { key: key.to_owned(), value: Some(value) };
    let metadata = vec![
        pair("sweep", about.sweep.clone()),
        pair("complete", about.complete.to_string()),
        pair("standing", about.standing.clone()),
        pair("scripted", about.scripted.to_string()),
        pair("title", table.title.clone()),
    ];
    let properties = WriterProperties::builder()
        .set_created_by(concat!("alpharho ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(metadata))
        .build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, Arc::new(schema), Arc::new(properties))?;
    let mut group = file.next_row_group()?;
    let mut place = 0;
    while let Some(mut column) = group.next_column()? {
        write(column.untyped(), table.rows.iter().map(|row| &row[place]))?;
        column.close()?;
        place += 1;
    }
    group.close()?;
    file.close()?;
    Ok(bytes)
}

fn field(column: &Column) -> Result<TypePtr, ParquetError> {
    let (physical, logical) = match column.kind {
        Kind::Bool => (Physical::BOOLEAN, None),
        Kind::Count => (Physical::INT64, None),
        Kind::Number => (Physical::DOUBLE, None),
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
    };
    let builder = Type::primitive_type_builder(&column.name, physical);
    Ok(Arc::new(builder.with_repetition(Repetition::OPTIONAL).with_logical_type(logical).build()?))
}

/// The values that are there, and for each row whether it has one. A value of another kind than its column's is none.
fn write<'a>(writer: &mut ColumnWriter<'_>, rows: impl Iterator<Item = &'a Value>) -> Result<(), ParquetError> {
    let rows: Vec<&Value> = rows.collect();
    match writer {
        ColumnWriter::BoolColumnWriter(to) => {
            let (values, there) = split(&rows, |value| if let Value::Bool(yes) = value { Some(*yes) } else { None });
            to.write_batch(&values, Some(&there), None)?;
        }
        ColumnWriter::Int64ColumnWriter(to) => {
            let (values, there) =
                split(&rows, |value| if let Value::Count(count) = value { i64::try_from(*count).ok() } else { None });
            to.write_batch(&values, Some(&there), None)?;
        }
        ColumnWriter::DoubleColumnWriter(to) => {
            let (values, there) =
                split(&rows, |value| if let Value::Number(number) = value { Some(*number) } else { None });
            to.write_batch(&values, Some(&there), None)?;
        }
        ColumnWriter::ByteArrayColumnWriter(to) => {
            let (values, there) =
                split(
                    &rows,
                    |value| {
                        if let Value::Text(words) = value { Some(ByteArray::from(words.as_str())) } else { None }
                    },
                );
            to.write_batch(&values, Some(&there), None)?;
        }
        _ => return Err(ParquetError::General("a column of a type that no table has".to_owned())),
    }
    Ok(())
}

fn split<T>(rows: &[&Value], pick: impl Fn(&Value) -> Option<T>) -> (Vec<T>, Vec<i16>) {
    let picked: Vec<Option<T>> = rows.iter().map(|value| pick(value)).collect();
    let there = picked.iter().map(|value| i16::from(value.is_some())).collect();
    (picked.into_iter().flatten().collect(), there)
}
