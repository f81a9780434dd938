//! Parquet as Hugging Face data sets lie on disk: a column of image files, a column of labels.

mod columns;
mod pages;

use super::super::dataset::Sample;
use super::super::error::DataError;
use super::super::files::open_file;
use super::braces::files_of;
use super::store::{Encoded, Store, number};
use super::{Listing, check_class_count, counted, numbered_classes};
use columns::{Columns, Labels, class_names};
use pages::GuardedPages;
use parquet::basic::Compression;
use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Images that are decoded of a page at a time.
const IMAGES_AT_ONCE: usize = 16;
const LABELS_AT_ONCE: usize = 4096;
/// Bytes that a row takes beside its image, at most: rows are refused by what the file says it has.
const ROW_BYTES: u64 = 128;
/// Pages are a megabyte as a rule.
const PAGE_BYTES_MAX: u64 = 1 << 30;

/// Reads all images into memory, for pages cannot be read in any order: at most `bytes_max`. Samples are named
/// `file.parquet/row`.
pub(super) fn list(
    path: &Path,
    classes: Option<u32>,
    known: Option<&[String]>,
    bytes_max: u64,
) -> Result<Listing, DataError> {
    let (mut listing, mut rows) = stream(path, classes, known, bytes_max)?;
    let too_large = |bytes: u64| {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let problem = format!(
            "its images take {} MiB, and at most {} MiB are read into memory; pack it once, and train with format: pack: \
             alpharho pack {} --format parquet --out x.pack",
            mib(bytes),
            mib(bytes_max),
            path.display()
        );
        DataError::malformed(path.display().to_string(), problem)
    };
    let announced = rows.image_bytes();
    if announced > bytes_max {
        return Err(too_large(announced));
    }
    let (mut images, mut bytes) = (Vec::<Box<[u8]>>::new(), 0);
    for sample in &mut listing.samples {
        let image = rows.next_image()?;
        sample.bytes = image.data().len() as u64;
        bytes += sample.bytes;
        if bytes > bytes_max {
            return Err(too_large(bytes));
        }
        images.push(image.data().into());
    }
    let files = rows.tables.into_iter().map(|table| table.path).collect();
    listing.store = Store::Encoded(Arc::new(Encoded { files, images }));
    Ok(listing)
}

/// Names and labels, and the images to be read in their order. Of the samples the lengths are missing, and the store holds no
/// images.
pub(in super::super) fn stream(
    path: &Path,
    classes: Option<u32>,
    known: Option<&[String]>,
    bytes_max: u64,
) -> Result<(Listing, Rows), DataError> {
    let place = path.display().to_string();
    let tables = files_of(path, "parquet")?;
    check_one_split(path, &tables)?;
    let tables: Vec<Table> = tables.into_iter().map(|path| Table::open(path, bytes_max)).collect::<Result<_, _>>()?;
    let rows: u64 = tables.iter().map(Table::rows).fold(0, u64::saturating_add);
    if rows.saturating_mul(ROW_BYTES) > bytes_max {
        let problem = format!("it says that it has {rows} rows, which is more than are read");
        return Err(DataError::malformed(place, problem));
    }
    let named = tables.iter().find_map(|table| table.class_names.clone().map(|names| (table, names)));
    for table in &tables {
        if let (Some(other), Some((first, names))) = (&table.class_names, &named)
            && other != names
        {
            let problem = format!("its classes are not those of {}", first.path.display());
            return Err(DataError::malformed(table.place(), problem));
        }
    }
    let class_names = match (known, named) {
        (Some(known), Some((table, names))) if known != names && known != numbered_classes(counted(path, classes)?) => {
            return Err(DataError::malformed(table.place(), "its classes are not those of the training set"));
        }
        (Some(known), _) => known.to_vec(),
        (None, Some((_, names))) => {
            check_class_count(path, classes, &names)?;
            names
        }
        (None, None) => numbered_classes(counted(path, classes)?),
    };
    let (mut samples, mut files) = (Vec::new(), Vec::new());
    for table in &tables {
        let name = table.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        for (row, label) in table.labels(class_names.len())?.into_iter().enumerate() {
            let slot = number(samples.len(), &place)?;
            samples.push(Sample { name: format!("{name}/{row}"), label, bytes: 0, slot });
        }
        files.push(table.path.clone());
    }
    let store = Store::Encoded(Arc::new(Encoded { files, images: Vec::new() }));
    let rows = Rows { tables, table: 0, group: 0, row: 0, column: None };
    Ok((Listing { samples, store, class_names, notes: Vec::new() }, rows))
}

/// Data sets lie with all their splits in one folder: `train-00000-of-00002.parquet` beside `test-00000-of-00001.parquet`.
fn check_one_split(path: &Path, files: &[PathBuf]) -> Result<(), DataError> {
    let mut splits: Vec<&str> = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let split = name.split_once("-0").filter(|(_, rest)| rest.contains("-of-")).map(|(split, _)| split);
        if let Some(split) = split.filter(|split| !splits.contains(split)) {
            splits.push(split);
        }
    }
    if splits.len() < 2 {
        return Ok(());
    }
    let example = path.join("train-{00000..00001}-of-00002.parquet");
    let problem =
        format!("it holds several splits ({}); name the files of one, as in {}", splits.join(", "), example.display());
    Err(DataError::malformed(path.display().to_string(), problem))
}

/// A file.
struct Table {
    path: PathBuf,
    /// For a look at pages before they are unpacked.
    file: File,
    reader: SerializedFileReader<File>,
    columns: Columns,
    class_names: Option<Vec<String>>,
    page_bytes_max: u64,
}

impl Table {
    fn open(path: PathBuf, bytes_max: u64) -> Result<Self, DataError> {
        let file = open_file(&path).map_err(DataError::unreadable(&path))?;
        let length = file.metadata().map_err(DataError::unreadable(&path))?.len();
        let again = file.try_clone().map_err(DataError::unreadable(&path))?;
        let reader = calm(&path, || SerializedFileReader::new(again))?;
        let place = || path.display().to_string();
        let columns = Columns::find(reader.metadata().file_metadata().schema_descr());
        let columns = columns.map_err(|problem| DataError::malformed(place(), problem))?;
        for (number, group) in reader.metadata().row_groups().iter().enumerate() {
            for leaf in [columns.image, columns.label] {
                let column = group.columns().get(leaf);
                let column = column.ok_or_else(|| DataError::malformed(place(), "a row group lacks a column"))?;
                match column.compression() {
                    Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_) => {}
                    other => {
                        let problem = format!(
                            "it is compressed with {other}; SNAPPY, ZSTD and none are read: write it again with one of these"
                        );
                        return Err(DataError::malformed(place(), problem));
                    }
                }
                let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
                let end = start.checked_add(column.compressed_size());
                let is_within = start >= 0 && column.compressed_size() >= 0;
                if !is_within || end.and_then(|end| u64::try_from(end).ok()).is_none_or(|end| end > length) {
                    let problem =
                        format!("row group {number} goes on past the end of the file; copy or download it again");
                    return Err(DataError::malformed(place(), problem));
                }
            }
        }
        let metadata = reader.metadata().file_metadata().key_value_metadata();
        let class_names = class_names(metadata.map_or(&[], Vec::as_slice), &columns.label_name);
        let page_bytes_max = bytes_max.min(PAGE_BYTES_MAX);
        Ok(Self { path, file, reader, columns, class_names, page_bytes_max })
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// As the file says.
    fn rows(&self) -> u64 {
        let rows = self.reader.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(0));
        rows.fold(0, u64::saturating_add)
    }

    fn pages(&self, group: usize, leaf: usize) -> Result<Box<dyn PageReader>, DataError> {
        let file = self.file.try_clone().map_err(DataError::unreadable(&self.path))?;
        calm(&self.path, || {
            let column = self.reader.metadata().row_group(group).column(leaf);
            let inner = self.reader.get_row_group(group)?.get_column_page_reader(leaf)?;
            Ok(Box::new(GuardedPages::new(inner, file, column.byte_range(), self.page_bytes_max))
                as Box<dyn PageReader>)
        })
    }

    /// By row.
    fn labels(&self, classes: usize) -> Result<Vec<u32>, DataError> {
        let mut labels = Vec::new();
        for (group, metadata) in self.reader.metadata().row_groups().iter().enumerate() {
            let rows = usize::try_from(metadata.num_rows()).unwrap_or(0);
            match self.columns.labels {
                Labels::Int32 => self.group_labels::<Int32Type>(group, rows, classes, &mut labels)?,
                Labels::Int64 => self.group_labels::<Int64Type>(group, rows, classes, &mut labels)?,
            }
        }
        Ok(labels)
    }

    fn group_labels<T: DataType>(
        &self,
        group: usize,
        rows: usize,
        classes: usize,
        labels: &mut Vec<u32>,
    ) -> Result<(), DataError>
    where
        i64: From<T::T>,
    {
        let mut column = self.column::<T>(group, self.columns.label)?;
        let end = labels.len() + rows;
        while labels.len() < end {
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let wanted = (end - labels.len()).min(LABELS_AT_ONCE);
            let read = calm(&self.path, || column.read_records(wanted, Some(&mut levels), None, &mut values))?;
            if read.0 == 0 {
                return Err(self.short(labels.len()));
            }
            if let Some(null) = levels.iter().position(|level| *level < self.columns.label_level) {
                let row = labels.len() + null;
                return Err(DataError::malformed(format!("{}/{row}", self.place()), "its label is null"));
            }
            for value in values {
                let value = i64::from(value);
                let label = u32::try_from(value).ok().filter(|label| (*label as usize) < classes);
                let classes = u32::try_from(classes).unwrap_or(u32::MAX);
                let place = || format!("{}/{}", self.place(), labels.len());
                let label =
                    label.ok_or_else(|| DataError::Label { place: place(), label: value.to_string(), classes })?;
                labels.push(label);
            }
        }
        Ok(())
    }

    fn column<T: DataType>(&self, group: usize, leaf: usize) -> Result<ColumnReaderImpl<T>, DataError> {
        let pages = self.pages(group, leaf)?;
        let descriptor = self.reader.metadata().row_group(group).column(leaf).column_descr_ptr();
        Ok(ColumnReaderImpl::new(descriptor, pages))
    }

    fn short(&self, row: usize) -> DataError {
        DataError::malformed(self.place(), format!("it ends before row {row}, though it says that there are more"))
    }
}

/// Images in the order of the rows, a few of a page at a time.
pub(in super::super) struct Rows {
    tables: Vec<Table>,
    table: usize,
    group: usize,
    /// Of the table.
    row: usize,
    column: Option<ImageColumn>,
}

struct ImageColumn {
    reader: ColumnReaderImpl<ByteArrayType>,
    /// In reverse order.
    ready: Vec<ByteArray>,
    rows_left: usize,
}

impl Rows {
    /// What the images take in all, as the files say.
    fn image_bytes(&self) -> u64 {
        let of = |table: &Table| {
            let groups = table.reader.metadata().row_groups().iter();
            let sizes =
                groups.map(|group| u64::try_from(group.column(table.columns.image).uncompressed_size()).unwrap_or(0));
            sizes.fold(0, u64::saturating_add)
        };
        self.tables.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Passes over images; of whole row groups nothing is read.
    pub(in super::super) fn skip(&mut self, count: usize) -> Result<(), DataError> {
        let mut left = count;
        while left > 0 {
            let Some(table) = self.tables.get(self.table) else { return Ok(()) };
            let groups = table.reader.metadata().row_groups();
            let rows = groups.get(self.group).map(|group| usize::try_from(group.num_rows()).unwrap_or(0));
            match (rows, &self.column) {
                (None, None) => (self.table, self.group, self.row) = (self.table + 1, 0, 0),
                (Some(rows), None) if rows <= left => {
                    (self.group, self.row) = (self.group + 1, self.row + rows);
                    left -= rows;
                }
                _ => {
                    self.next_image()?;
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    /// The next image. There are as many as samples.
    pub(in super::super) fn next_image(&mut self) -> Result<ByteArray, DataError> {
        loop {
            let Some(table) = self.tables.get(self.table) else {
                return Err(DataError::malformed("parquet", "there are no more rows"));
            };
            let Some(group) = table.reader.metadata().row_groups().get(self.group) else {
                (self.table, self.group, self.row) = (self.table + 1, 0, 0);
                continue;
            };
            let column = match &mut self.column {
                Some(column) => column,
                None => {
                    let reader = table.column::<ByteArrayType>(self.group, table.columns.image)?;
                    let rows_left = usize::try_from(group.num_rows()).unwrap_or(0);
                    self.column.insert(ImageColumn { reader, ready: Vec::new(), rows_left })
                }
            };
            if let Some(image) = column.ready.pop() {
                self.row += 1;
                return Ok(image);
            }
            if column.rows_left == 0 {
                self.group += 1;
                self.column = None;
                continue;
            }
            column.refill(table, self.row)?;
        }
    }
}

impl ImageColumn {
    fn refill(&mut self, table: &Table, row: usize) -> Result<(), DataError> {
        let wanted = self.rows_left.min(IMAGES_AT_ONCE);
        let mut levels = Vec::new();
        let ready = &mut self.ready;
        let read = calm(&table.path, || self.reader.read_records(wanted, Some(&mut levels), None, ready))?;
        if read.0 == 0 {
            return Err(table.short(row));
        }
        let full = table.columns.image_level;
        if let Some((null, level)) = levels.iter().enumerate().find(|(_, level)| **level < full) {
            let problem = match table.columns.is_struct && *level + 1 == full {
                true => {
                    "its image has no bytes, only a path or address; fetch the images and write them into the table"
                }
                false => "its image is null",
            };
            return Err(DataError::malformed(format!("{}/{}", table.place(), row + null), problem));
        }
        self.rows_left -= read.0;
        self.ready.reverse();
        Ok(())
    }
}

/// The library's errors as ours; it has panicked over files before.
fn calm<T>(path: &Path, work: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DataError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    let problem = match done {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => format!("{error}; is it a parquet file, and complete?"),
        Err(_) => "its reader panicked over it; is it complete?".to_owned(),
    };
    Err(DataError::malformed(path.display().to_string(), problem))
}
