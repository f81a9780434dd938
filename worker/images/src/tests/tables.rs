//! Parquet: files that pyarrow wrote, and our own.

use super::formats::{options, pack_into};
use super::*;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::path::PathBuf;
use std::sync::Arc;
use sweeps::spec::model::Format;

/// A table of image files and labels, seven rows a group.
pub(super) fn table(path: &Path, rows: &[(Vec<u8>, i64)]) {
    let schema = "message m { optional group image { optional binary bytes; optional binary path (UTF8); } \
                  optional int64 label; }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let snappy = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(fs::File::create(path).unwrap(), schema, Arc::new(snappy)).unwrap();
    for rows in rows.chunks(7) {
        let mut group = writer.next_row_group().unwrap();
        let images: Vec<ByteArray> = rows.iter().map(|(image, _)| image.clone().into()).collect();
        let names: Vec<ByteArray> = rows.iter().map(|_| "x.jpg".into()).collect();
        for values in [images, names] {
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&vec![2; rows.len()]), None).unwrap();
            column.close().unwrap();
        }
        let labels: Vec<i64> = rows.iter().map(|(_, label)| *label).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; rows.len()]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn half(path: &Path, classes: u32) -> Data {
    let mut settings = settings("parquet", path, classes);
    settings.validation = serde_json::from_value(json!({"fraction": 0.5})).unwrap();
    settings
}

#[test]
fn tables_of_another_writer_are_read() {
    for (name, classes) in [
        ("snappy.parquet", ["cat", "dog", "fish"]),
        ("zstd.parquet", ["cat", "dog", "fish"]),
        ("plain.parquet", ["0", "1", "2"]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(fixture(name), folder.path().join(name)).unwrap();
        let data = open(&with_validation(settings("parquet", fixture(name), 3), folder.path()));
        let data = Arc::new(data.unwrap_or_else(|error| panic!("{name}: {error}")));
        assert_eq!(data.class_names, classes);
        for set in [&data.train, &data.validation] {
            let seen: Vec<(String, u32)> = set.samples.iter().map(|of| (of.name.clone(), of.label)).collect();
            assert_eq!(seen, (0..8).map(|row| (format!("{name}/{row}"), row % 3)).collect::<Vec<_>>());
        }
        assert_eq!(data.train.path(0), fixture(&data.train.samples[0].name).display().to_string());
        let options = StreamOptions { resolutions: vec![16], ..StreamOptions::default() };
        for batch in eval_stream(&data, options) {
            let batch = batch.unwrap();
            assert_eq!(batch.warnings, Vec::<String>::new());
            for (index, pixels) in batch.indices.iter().zip(batch.images[0].bytes.chunks_exact(16 * 16 * 3)) {
                let row: u8 =
                    data.validation.samples[*index as usize].name.rsplit_once('/').unwrap().1.parse().unwrap();
                assert!(pixels[0].abs_diff(row * 25) < 6, "{name}: row {row} is red by {}", pixels[0]);
            }
        }
    }
}

#[test]
fn a_bad_table_is_refused_with_a_sentence() {
    let check = |name: &str, expected: &str| {
        let said = open(&half(&fixture(name), 3)).unwrap_err().to_string();
        assert_eq!(said.replace(fixture("").to_str().unwrap(), ""), expected);
    };
    check(
        "gzip.parquet",
        "gzip.parquet: it is compressed with GZIP(GzipLevel(6)); SNAPPY, ZSTD and none are read: write it again with one of \
         these",
    );
    check(
        "path.parquet",
        "path.parquet/5: its image has no bytes, only a path or address; fetch the images and write them into the table",
    );
    check("null.parquet", "null.parquet/3: its image is null");
    check("unlabelled.parquet", "unlabelled.parquet/2: its label is null");
    let range = "is out of range; data.classes is 3, so labels are 0 to 2";
    check("hidden.parquet", &format!("hidden.parquet/0: label -1 {range}"));
    check("words.parquet", "words.parquet: its labels are BYTE_ARRAY and no whole numbers; number the classes from 0");
    check(
        "columns.parquet",
        "columns.parquet: it has no column `image` or `img` of image files, as bytes or as {bytes, path}; its columns are \
         picture, target",
    );
    let few = open(&half(&fixture("snappy.parquet"), 2)).unwrap_err().to_string();
    assert!(few.starts_with("data.classes is 2, but ") && few.ends_with("has 3: cat, dog, fish"), "{few}");
}

#[test]
fn damaged_tables_are_errors_and_no_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    for name in ["snappy.parquet", "zstd.parquet", "plain.parquet"] {
        let whole = fs::read(fixture(name)).unwrap();
        for cut in 0..40 {
            write(&path, &whole[..whole.len() * cut / 40]);
            assert!(open(&half(&path, 3)).is_err(), "{name} cut to {cut}/40");
        }
        for at in (0..whole.len()).step_by(31) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xA5;
            write(&path, &bytes);
            let _ = Dataset::open_with(&half(&path, 3), &DataPlaces::default(), 0, 1 << 20);
        }
    }
}

#[test]
fn what_does_not_fit_into_memory_is_streamed_into_a_pack() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows: Vec<(Vec<u8>, i64)> = (0..40).map(|row| (super::formats::photograph(row), i64::from(row % 2))).collect();
    fs::create_dir(at("t")).unwrap();
    table(&at("t/a.parquet"), &rows[..25]);
    table(&at("t/b.parquet"), &rows[25..]);
    let settings_of = |format: &str, name: &str| settings(format, at(name), 2);
    let little = Dataset::open_with(&settings_of("parquet", "t"), &DataPlaces::default(), 0, 70_000);
    let said = little.unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "HERE");
    let remedy = "pack it once, and train with format: pack: alpharho pack HERE/t --format parquet --out x.pack";
    assert!(said.starts_with("HERE/t: its images take 1 MiB, and at most 1 MiB") && said.ends_with(remedy), "{said}");
    pack_into(&at("t"), &at("x.pack"), &options(Format::Parquet)).unwrap();
    let whole = fs::read(at("x.pack")).unwrap();
    let batches = |format: &str, name: &str| {
        let data = Arc::new(open(&settings_of(format, name)).unwrap());
        let options = || StreamOptions { resolutions: vec![32, 17], ..StreamOptions::default() };
        let streams = [train_stream(&data, options()), eval_stream(&data, options())];
        streams.into_iter().flatten().map(Result::unwrap).collect::<Vec<Batch>>()
    };
    assert!(batches("parquet", "t") == batches("pack", "x.pack"));
    // Broken off within row groups and between them.
    for count in 1..40 {
        let stop = |event: PackEvent<'_>| match event {
            PackEvent::Packed { done, .. } if done == count => std::ops::ControlFlow::Break(()),
            _ => std::ops::ControlFlow::Continue(()),
        };
        let forced = PackOptions { force: true, ..options(Format::Parquet) };
        pack(&at("t"), &at("y.pack"), &forced, &mut { stop }).unwrap();
        pack_into(&at("t"), &at("y.pack"), &forced).unwrap();
        assert!(fs::read(at("y.pack")).unwrap() == whole, "after {count}");
    }
}

#[test]
fn splits_in_one_folder_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let rows: Vec<(Vec<u8>, i64)> = (0..20).map(|row| (super::formats::photograph(row), i64::from(row % 2))).collect();
    table(&at("train-00000-of-00001.parquet"), &rows);
    table(&at("test-00000-of-00001.parquet"), &rows[..4]);
    let said = refusal(&folder, &settings("parquet", folder.path(), 2));
    let expected = "HERE: it holds several splits (test, train); name the files of one, as in \
                    HERE/train-{00000..00001}-of-00002.parquet";
    assert_eq!(said, expected);
    let train = settings("parquet", at("train-{00000..00000}-of-00001.parquet"), 2);
    let data = open(&with_validation(train.clone(), at("test-00000-of-00001.parquet"))).unwrap();
    assert_eq!((data.train.samples.len(), data.validation.samples.len()), (20, 4));
    let same = refusal(&folder, &with_validation(train, at("train-00000-of-00001.parquet")));
    assert!(same.ends_with("is used both for training and for validation; accuracy would mean nothing"), "{same}");
}
