//! A file with the columns `path,label`.

use super::super::dataset::Sample;
use super::super::error::DataError;
use super::super::files::read_file;
use super::{Listing, Store, check_class_count, counted, numbered_classes};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A row for each of ten million images.
const BYTES_MAX: u64 = 1 << 30;

/// Labels that are all whole numbers are taken as they are; otherwise they are names, and the sorted names
/// get the labels 0, 1, ... Other columns are passed over.
pub(super) fn list(file: &Path, classes: Option<u32>, known: Option<&[String]>) -> Result<Listing, DataError> {
    let place = file.display().to_string();
    let rows = read(file, &place)?;
    if rows.is_empty() {
        return Err(DataError::NoImages { place, hint: ": it has no rows".into() });
    }
    // The validation file is read as the training file was.
    let are_numbers = match known {
        Some(known) => known == numbered_classes(counted(file, classes)?),
        None => rows.iter().all(|row| row.label.parse::<i64>().is_ok()),
    };
    let class_names = match (known, are_numbers) {
        (Some(known), _) => known.to_vec(),
        (None, true) => numbered_classes(counted(file, classes)?),
        (None, false) => {
            let names: BTreeSet<&String> = rows.iter().map(|row| &row.label).collect();
            let names: Vec<String> = names.into_iter().cloned().collect();
            check_class_count(file, classes, &names)?;
            names
        }
    };
    let classes = u32::try_from(class_names.len()).unwrap_or(u32::MAX);
    let root = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => ".".into(),
    };
    let mut samples = Vec::with_capacity(rows.len());
    for Row { line, path, label } in rows {
        let at = || format!("{place}:{line}");
        let number = if are_numbers {
            label.parse().ok().filter(|number| *number < classes)
        } else {
            class_names.binary_search(&label).ok().and_then(|number| u32::try_from(number).ok())
        };
        let Some(number) = number else {
            if are_numbers {
                return Err(DataError::Label { place: at(), label, classes });
            }
            let problem = format!("label `{label}` is not among the training classes");
            return Err(DataError::malformed(at(), problem));
        };
        let facts = fs::metadata(root.join(&path));
        match facts {
            Ok(facts) if facts.is_file() => {
                samples.push(Sample { name: path, label: number, bytes: facts.len(), slot: 0 });
            }
            Ok(_) => return Err(DataError::malformed(at(), format!("{path} is not a file"))),
            Err(error) => return Err(DataError::malformed(at(), format!("cannot read {path}: {error}"))),
        }
    }
    Ok(Listing { samples, store: Store::Files { root }, class_names, notes: Vec::new() })
}

struct Row {
    line: u64,
    path: String,
    label: String,
}

fn read(file: &Path, place: &str) -> Result<Vec<Row>, DataError> {
    let text = read_file(file, BYTES_MAX).map_err(DataError::unreadable(file))?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_slice());
    let malformed = |error: csv::Error| {
        let line = error.position().map_or_else(String::new, |position| format!(":{}", position.line()));
        DataError::malformed(format!("{place}{line}"), error.to_string())
    };
    let header = reader.headers().map_err(malformed)?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|field| field.eq_ignore_ascii_case(name));
        let problem = || format!("no column `{name}`; its first line must name the columns, as in path,label");
        found.ok_or_else(|| DataError::malformed(format!("{place}:1"), problem()))
    };
    let (path_column, label_column) = (column("path")?, column("label")?);
    let mut rows = Vec::new();
    let mut lines = Lines { text: &text, at: 0, line: 1 };
    for record in reader.records() {
        let record = record.map_err(malformed)?;
        let line = lines.line_of(record.position().map_or(0, csv::Position::byte));
        let field = |column: usize, name: &str| match record.get(column) {
            Some(field) if !field.is_empty() => Ok(field.to_owned()),
            _ => Err(DataError::malformed(format!("{place}:{line}"), format!("the {name} is empty"))),
        };
        rows.push(Row { line, path: field(path_column, "path")?, label: field(label_column, "label")? });
    }
    Ok(rows)
}

/// Counts lines. The reader's own count of a record stands before the empty lines that it passed over.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line, from 1, of what follows byte `start` after any line ends; never before an earlier `start`.
    fn line_of(&mut self, start: u64) -> u64 {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        while let Some(byte) = self.text.get(self.at)
            && (self.at < start || matches!(byte, b'\n' | b'\r'))
        {
            self.line += u64::from(*byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}
