//! Folders and manifests.

use super::*;

fn names(set: &Set) -> Vec<(&str, u32)> {
    set.samples.iter().map(|sample| (sample.name.as_str(), sample.label)).collect()
}

#[test]
fn a_folder_for_each_class() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for (number, path) in
        ["train/dog/b.PNG", "train/dog/a.png", "train/cat/deep/x.png", "val/dog/c.png"].iter().enumerate()
    {
        write_png(at(&path.to_lowercase()), number as u32);
    }
    fs::rename(at("train/dog/b.png"), at("train/dog/b.PNG")).unwrap();
    write(at("train/cat/notes.txt"), "not an image");
    write(at("train/.hidden/z.png"), "");
    write(at("train/README"), "");
    write(at("val/dog/.hidden.png"), "");
    let settings = with_validation(settings("image_folder", at("train"), 2), at("val"));
    let dataset = open(&settings).unwrap();
    assert_eq!(dataset.class_names, ["cat", "dog"]);
    assert_eq!(names(&dataset.train), [("cat/deep/x.png", 0), ("dog/a.png", 1), ("dog/b.PNG", 1)]);
    assert_eq!(names(&dataset.validation), [("dog/c.png", 1)]);
    let here = folder.path().display();
    let notes = [
        format!("{here}/train/cat: left out 1 files that are not .jpg, .png or .webp"),
        format!("class `cat` has no validation images in {here}/val"),
    ];
    assert_eq!(dataset.notes, notes);
    assert_eq!(dataset.validation.path(0), format!("{here}/val/dog/c.png"));
}

#[test]
fn a_split_is_stable_and_leaves_nothing_out() {
    let folder = folder_of(40);
    let first = open(&settings("image_folder", folder.path(), 2)).unwrap();
    assert_eq!(first.train.samples.len() + first.validation.samples.len(), 80);
    // Known answer: SHA-256 of `cats/…png` under a quarter.
    let held_out: Vec<&str> = names(&first.validation).iter().map(|(name, _)| *name).take(4).collect();
    assert_eq!(held_out, KNOWN_SPLIT);
    // More images move none of the old ones.
    write_png(folder.path().join("cats/new.png"), 7);
    let second = open(&settings("image_folder", folder.path(), 2)).unwrap();
    for (before, after) in [(&first.train, &second.train), (&first.validation, &second.validation)] {
        assert!(before.samples.iter().all(|sample| after.samples.contains(sample)));
    }
    assert_ne!(first.fingerprint, second.fingerprint);
}

const KNOWN_SPLIT: [&str; 4] = ["cats/0.png", "cats/1.png", "cats/13.png", "cats/16.png"];

#[test]
fn a_fingerprint_knows_names_sizes_and_labels_but_no_place() {
    let (one, other) = (folder_of(6), folder_of(6));
    let of = |folder: &TempDir| open(&settings("image_folder", folder.path(), 2)).unwrap().fingerprint;
    assert_eq!(of(&one), of(&other));
    assert_eq!(of(&one).len(), 64);
    fs::rename(other.path().join("cats/0.png"), other.path().join("cats/zero.png")).unwrap();
    let renamed = of(&other);
    assert_ne!(of(&one), renamed);
    write(other.path().join("cats/zero.png"), "another size");
    assert_ne!(of(&other), renamed);
    let mut half = settings("image_folder", one.path(), 2);
    half.validation = serde_json::from_value(json!({"fraction": 0.5})).unwrap();
    assert_ne!(of(&one), open(&half).unwrap().fingerprint, "the split is part of it");
}

#[test]
fn a_bad_folder_is_refused_with_a_sentence() {
    let folder = folder_of(4);
    let at = |path: &str| folder.path().join(path);
    let refused = |settings: &Data| refusal(&folder, settings);
    let check = |path: &str, classes: u32, expected: &str| {
        assert_eq!(refused(&settings("image_folder", at(path), classes)), expected);
    };
    check("", 3, "data.classes is 3, but HERE/ has 2: cats, dogs");
    check(
        "nowhere",
        2,
        "cannot read HERE/nowhere: No such file or directory (os error 2); `data` names paths on the worker, \
         or names that it maps with --data NAME=PATH",
    );
    check("cats", 2, "HERE/cats holds no images: it has no folders; `image_folder` wants a folder per class");
    fs::create_dir_all(at("empty")).unwrap();
    check("", 3, "HERE/empty: it holds no JPEG, PNG or WebP images");
    write(at("empty/a.gif"), "");
    check("", 3, "HERE/empty: it holds no JPEG, PNG or WebP images (1 other files)");
    fs::remove_dir_all(at("empty")).unwrap();

    let other = folder_of(1);
    fs::rename(other.path().join("dogs"), other.path().join("birds")).unwrap();
    let stranger = with_validation(settings("image_folder", folder.path(), 2), other.path());
    let expected = format!("{}: its class folder `birds` is not among the training classes", other.path().display());
    assert_eq!(refused(&stranger), expected);
    let parts = tempfile::tempdir().unwrap();
    write_png(parts.path().join("train/a/1.png"), 1);
    write_png(parts.path().join("val/a/1.png"), 1);
    let expected = "HERE: it holds train, val, not classes; name one of them";
    assert_eq!(refusal(&parts, &settings("image_folder", parts.path(), 2)), expected);
    let same = with_validation(settings("image_folder", folder.path(), 2), folder.path());
    let expected = "HERE: HERE is used both for training and for validation; accuracy would mean nothing";
    assert_eq!(refused(&same), expected);
}

#[test]
fn a_split_that_leaves_nothing_is_refused() {
    let folder = folder_of(2);
    let fraction = |share: f64| {
        let mut settings = settings("image_folder", folder.path(), 2);
        settings.validation = serde_json::from_value(json!({"fraction": share})).unwrap();
        refusal(&folder, &settings)
    };
    assert_eq!(fraction(1e-9), "HERE holds no images left for validation; change data.validation.fraction");
    assert_eq!(fraction(1.0 - 1e-9), "HERE holds no images left for training; change data.validation.fraction");
}

#[cfg(unix)]
#[test]
fn a_link_to_a_folder_above_ends() {
    let folder = folder_of(1);
    std::os::unix::fs::symlink(folder.path().join("cats"), folder.path().join("cats/again")).unwrap();
    let refused = refusal(&folder, &settings("image_folder", folder.path(), 2));
    assert!(refused.ends_with("folders lie more than 16 deep; is there a link to a folder above?"), "{refused}");
}

/// A manifest beside images `0.png` to `7.png`.
fn manifest(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    (0..8).for_each(|number| write_png(folder.path().join(format!("{number}.png")), number));
    write(folder.path().join("m.csv"), text);
    folder
}

fn check_manifest(text: &str, classes: u32, expected: &str) {
    let folder = manifest(text);
    assert_eq!(refusal(&folder, &settings("csv", folder.path().join("m.csv"), classes)), expected, "{text}");
}

#[test]
fn a_manifest_with_numbers_or_names() {
    let numbers = manifest("\u{feff}path ,x,Label\r\n0.png,x,1\r\n1.png,x, 0 \r\n./2.png,,1\r\n");
    write(numbers.path().join("v.csv"), "path,label\n3.png,1\n");
    let at = |name: &str| numbers.path().join(name);
    let dataset = open(&with_validation(settings("csv", at("m.csv"), 2), at("v.csv"))).unwrap();
    assert_eq!(names(&dataset.train), [("0.png", 1), ("1.png", 0), ("./2.png", 1)]);
    assert_eq!(names(&dataset.validation), [("3.png", 1)]);
    assert_eq!(dataset.class_names, ["0", "1"]);

    let named = manifest("path,label\n0.png,dog\n1.png,cat\n2.png,\"big, dog\"\n");
    let at = |name: &str| named.path().join(name);
    write(at("v.csv"), "path,label\n3.png,dog\n");
    let dataset = open(&with_validation(settings("csv", at("m.csv"), 3), at("v.csv"))).unwrap();
    assert_eq!(dataset.class_names, ["big, dog", "cat", "dog"]);
    assert_eq!(names(&dataset.train), [("0.png", 2), ("1.png", 1), ("2.png", 0)]);
    assert_eq!(names(&dataset.validation), [("3.png", 2)]);

    write(at("v.csv"), "path,label\n3.png,dog\n4.png,bird\n");
    let strange = with_validation(settings("csv", at("m.csv"), 3), at("v.csv"));
    assert_eq!(refusal(&named, &strange), "HERE/v.csv:3: label `bird` is not among the training classes");
    write(at("v.csv"), "path,label\n3.png,dog\n./1.png,cat\n");
    let expected = "HERE/v.csv: HERE/1.png is used both for training and for validation; accuracy would mean nothing";
    assert_eq!(refusal(&named, &strange), expected);
}

#[test]
fn a_bad_manifest_is_refused_with_its_line() {
    let check = check_manifest;
    check(
        "path,label\n0.png,0\n1.png,2\n",
        2,
        "HERE/m.csv:3: label 2 is out of range; data.classes is 2, so labels are 0 to 1",
    );
    check(
        "path,label\n0.png,-1\n",
        2,
        "HERE/m.csv:2: label -1 is out of range; data.classes is 2, so labels are 0 to 1",
    );
    check("path,label\n0.png,a\n1.png,b\n", 3, "data.classes is 3, but HERE/m.csv has 2: a, b");
    check("path,label\n\n9.png,0\n", 2, "HERE/m.csv:3: cannot read 9.png: No such file or directory (os error 2)");
    check("path,label\n0.png,\n", 2, "HERE/m.csv:2: the label is empty");
    check(
        "path,label\n0.png\n",
        2,
        "HERE/m.csv:2: CSV error: record 1 (line: 2, byte: 11): found record with 1 fields, but the previous record has 2 fields",
    );
    check(
        "file,label\n0.png,0\n",
        2,
        "HERE/m.csv:1: no column `path`; its first line must name the columns, as in path,label",
    );
    check("path,label\n", 2, "HERE/m.csv holds no images: it has no rows");
    let rows: String = (0..8).map(|number| format!("{number}.png,0\n")).collect();
    check(
        &format!("path,label\n{rows}"),
        2,
        "class `1` has no training images in HERE/m.csv; remove the class or add images",
    );
}
