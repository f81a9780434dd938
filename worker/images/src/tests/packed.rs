//! IDX and CIFAR, from bytes.

use super::super::sources::Store;
use super::*;
use flate2::write::GzEncoder;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// `count` images of 3 × 2 pixels with the values 0, 1, 2, ...; labels 0, 1, 0, 1, ...
fn idx(count: u8) -> (Vec<u8>, Vec<u8>) {
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 2, 0, 0, 0, 3];
    images.extend(0..count * 6);
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, count];
    labels.extend((0..count).map(|number| number % 2));
    (images, labels)
}

fn pixels(dataset: &Dataset, side: Side, index: u32) -> (u32, u32, u8, Vec<u8>) {
    let set = dataset.set(side);
    let Store::Memory(packed) = set.store() else { panic!("not in memory") };
    let view = packed.view(set.samples[index as usize].slot).unwrap();
    (view.width, view.height, view.channels, view.bytes.to_vec())
}

#[test]
fn idx_plain_and_gzip() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let (images, labels) = idx(9);
    write(at("train-images-idx3-ubyte"), &images);
    write(at("train-labels-idx1-ubyte.gz"), gzip(&labels));
    let (images, labels) = idx(4);
    write(at("t10k-images-idx3-ubyte.gz"), gzip(&images));
    write(at("t10k-labels-idx1-ubyte"), &labels);
    let settings = settings("idx", at("train-images-idx3-ubyte"), 2);
    // Named without `.gz`, found with it.
    let dataset = open(&with_validation(settings.clone(), at("t10k-images-idx3-ubyte"))).unwrap();
    assert_eq!((dataset.train.samples.len(), dataset.validation.samples.len()), (9, 4));
    assert_eq!(dataset.train.samples[3].label, 1);
    assert_eq!(pixels(&dataset, Side::Train, 8), (3, 2, 1, (48..54).collect()));
    assert_eq!(dataset.validation.path(2), at("t10k-images-idx3-ubyte.gz").display().to_string() + "[2]");

    let split = open(&settings).unwrap();
    assert_eq!(split.train.samples.len() + split.validation.samples.len(), 9);
    for (side, set) in [(Side::Train, &split.train), (Side::Validation, &split.validation)] {
        for (index, sample) in (0..).zip(&set.samples) {
            let first = 6 * sample.name.parse::<u8>().unwrap();
            assert_eq!(pixels(&split, side, index).3, (first..first + 6).collect::<Vec<u8>>(), "{}", sample.name);
        }
    }
    assert_ne!(dataset.fingerprint, split.fingerprint);
}

#[test]
fn bad_idx_is_refused_with_a_sentence() {
    let check = |change: &dyn Fn(&mut Vec<u8>, &mut Vec<u8>), expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (mut images, mut labels) = idx(9);
        change(&mut images, &mut labels);
        write(folder.path().join("images"), images);
        write(folder.path().join("labels"), labels);
        assert_eq!(refusal(&folder, &settings("idx", folder.path().join("images"), 2)), expected);
    };
    check(&|images, _| images[3] = 1, "HERE/images: it begins with 0x00000801 where IDX images begin with 0x00000803");
    check(&|_, labels| labels[3] = 3, "HERE/labels: it begins with 0x00000803 where IDX labels begin with 0x00000801");
    check(
        &|images, _| images.truncate(60),
        "HERE/images: its header announces 70 bytes, but there are 60; is the file complete?",
    );
    check(&|images, _| images[4..16].fill(0xFF), "HERE/images: its images are 4294967295 × 4294967295 pixels");
    check(&|images, _| images.truncate(7), "HERE/images: 7 bytes are too few for an IDX header");
    check(
        &|_, labels| {
            labels.pop();
            labels[7] = 8;
        },
        "HERE/labels: it has 8 labels for the 9 images of HERE/images",
    );
    check(
        &|_, labels| labels[11] = 2,
        "HERE/labels[3]: label 2 is out of range; data.classes is 2, so labels are 0 to 1",
    );
    check(
        &|_, labels| labels[8..].fill(1),
        "class `0` has no training images in HERE/images; remove the class or add images",
    );

    let folder = tempfile::tempdir().unwrap();
    let expected = "HERE: data.train must name the file of images, such as train-images-idx3-ubyte.gz; \
                    the labels lie beside it under the same name with `labels-idx1`";
    assert_eq!(refusal(&folder, &settings("idx", folder.path(), 2)), expected);
    let missing = refusal(&folder, &settings("idx", folder.path().join("images.gz"), 2));
    assert!(missing.starts_with("cannot read HERE/images.gz: No such file"), "{missing}");
    let mut broken = gzip(&idx(8).0);
    broken.truncate(30);
    write(folder.path().join("images.gz"), broken);
    let broken = refusal(&folder, &settings("idx", folder.path().join("images.gz"), 2));
    assert!(broken.starts_with("cannot read HERE/images.gz: "), "{broken}");
}

/// Records of the given label bytes; red 1, green 2, blue the number of the record.
fn cifar(labels: &[&[u8]]) -> Vec<u8> {
    let record =
        |(number, labels): (u8, &&[u8])| [labels.to_vec(), vec![1; 1024], vec![2; 1024], vec![number; 1024]].concat();
    (0..).zip(labels).flat_map(record).collect()
}

#[test]
fn cifar_10() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let labels: Vec<[u8; 1]> = (0..10).map(|label| [label]).collect();
    let labels: Vec<&[u8]> = labels.iter().map(<[u8; 1]>::as_slice).collect();
    write(at("data_batch_2.bin"), cifar(&labels));
    write(at("data_batch_1.bin"), cifar(&labels[..5]));
    write(at("test_batch.bin"), cifar(&labels[3..4]));
    let classes = "airplane automobile bird cat deer dog frog horse ship truck".replace(' ', "\n");
    write(at("batches.meta.txt"), classes + "\n\n");
    let dataset = open(&with_validation(settings("cifar", folder.path(), 10), folder.path())).unwrap();
    assert_eq!(dataset.class_names[9], "truck");
    assert_eq!((dataset.train.samples.len(), dataset.validation.samples.len()), (15, 1));
    assert_eq!((dataset.train.samples[5].name.as_str(), dataset.train.samples[5].label), ("data_batch_2.bin/0", 0));
    assert_eq!(dataset.validation.samples[0].label, 3);
    let (width, height, channels, bytes) = pixels(&dataset, Side::Train, 4);
    assert_eq!((width, height, channels, bytes), (32, 32, 3, [1, 2, 4].repeat(1024)));

    let expected = "HERE/test_batch.bin: 3073 bytes are not a whole number of 3074-byte records; \
                    is it complete, and is data.classes right?";
    assert_eq!(refusal(&folder, &settings("cifar", at("test_batch.bin"), 100)), expected);
    let expected = "HERE: CIFAR has 10, 100 or (coarse) 20 classes, but data.classes is 7";
    assert_eq!(refusal(&folder, &settings("cifar", folder.path(), 7)), expected);
    assert_eq!(refusal(&folder, &settings("cifar", folder.path(), 100)), "HERE: there is no train.bin in it");
    let same = with_validation(settings("cifar", at("test_batch.bin"), 10), at("test_batch.bin"));
    assert!(refusal(&folder, &same).contains("is used both for training and for validation"));
    write(at("bad.bin"), cifar(&[&[10]]));
    let expected = "HERE/bad.bin[0]: label 10 is out of range; data.classes is 10, so labels are 0 to 9";
    assert_eq!(refusal(&folder, &settings("cifar", at("bad.bin"), 10)), expected);
}

#[test]
fn cifar_100_fine_and_coarse() {
    let folder = tempfile::tempdir().unwrap();
    let labels: Vec<[u8; 2]> = (0..100).map(|fine| [fine / 5, fine]).collect();
    let labels: Vec<&[u8]> = labels.iter().map(<[u8; 2]>::as_slice).collect();
    write(folder.path().join("train.bin"), cifar(&labels));
    write(folder.path().join("test.bin"), cifar(&labels[42..43]));
    for (classes, label) in [(100, 42), (20, 8)] {
        let settings = with_validation(settings("cifar", folder.path(), classes), folder.path());
        assert_eq!(open(&settings).unwrap().validation.samples[0].label, label);
    }
}

#[test]
fn a_file_that_unpacks_to_more_than_it_announces_is_not_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let (mut images, labels) = idx(9);
    // A gigabyte of nothing, in a megabyte.
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&images).unwrap();
    (0..1024).for_each(|_| encoder.write_all(&[0; 1 << 20]).unwrap());
    write(folder.path().join("images"), encoder.finish().unwrap());
    write(folder.path().join("labels"), &labels);
    let settings = settings("idx", folder.path().join("images"), 2);
    let expected = "HERE/images: its header announces 70 bytes, but there are more; is the file complete?";
    assert_eq!(refusal(&folder, &settings), expected);
    images[4..8].fill(0xFF);
    images[8..16].copy_from_slice(&[0, 0, 1, 0, 0, 0, 1, 0]);
    write(folder.path().join("images"), images);
    let refused = refusal(&folder, &settings);
    assert!(refused.ends_with("announces 281474976645120 bytes of content; at most 4294967296 are read"), "{refused}");
}

#[test]
fn a_device_is_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    std::os::unix::fs::symlink("/dev/zero", at("images")).unwrap();
    let refused = refusal(&folder, &settings("idx", at("images"), 2));
    assert!(refused.starts_with("cannot read HERE/images: it is not a file"), "{refused}");
    let photos = folder_of(6);
    std::os::unix::fs::symlink("/dev/zero", photos.path().join("cats/endless.png")).unwrap();
    let dataset = open(&settings("image_folder", photos.path(), 2)).unwrap();
    assert_eq!(dataset.train.samples.len() + dataset.validation.samples.len(), 12);
    assert!(dataset.notes[0].contains("cats: left out 1 files"), "{:?}", dataset.notes);
}
