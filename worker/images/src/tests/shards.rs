//! Tar shards, as WebDataset has them.

use super::*;
use std::sync::Arc;
use tar::{Builder, EntryType, Header};

/// A tar of members given by name and content.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn png(number: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    write_png(folder.path().join("a.png"), number);
    fs::read(folder.path().join("a.png")).unwrap()
}

fn names(set: &Set) -> Vec<(&str, u32)> {
    set.samples.iter().map(|sample| (sample.name.as_str(), sample.label)).collect()
}

#[test]
fn images_and_labels_belong_together_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let deep = format!("{}/long.jpeg", "deep/".repeat(40));
    let images: Vec<Vec<u8>> = (0..6).map(png).collect();
    let first = tar(&[
        ("./b.png", &images[0]),
        ("./b.txt", b"a caption"),
        ("./b.cls", b" 1\n"),
        ("__key__", b"b"),
        ("a.seg.png", b"not the image"),
        ("a.cls", b"0"),
        ("a.JPG", &images[1]),
        (&deep, &images[2]),
        (&deep.replace("jpeg", "json"), br#"{"caption": "x", "label": 1}"#),
        (".hidden/x/.y.png", b""),
    ]);
    write(at("train/s-0.tar"), first);
    let second = tar(&[("a.json", br#"{"label": "dog"}"#), ("a.cls", b"0"), ("a.webp", &images[3])]);
    write(at("train/s-1.tar"), second);
    write(at("train/README"), "");
    write(at("val.tar"), tar(&[("z.json", br#"{"cls": 1}"#), ("z.png", &images[4])]));
    let deep = format!("s-0.tar/{deep}");
    let expected = [("s-0.tar/b.png", 1), ("s-0.tar/a.JPG", 0), (deep.as_str(), 1), ("s-1.tar/a.webp", 0)];
    for train in ["train", "train/s-{0..1}.tar"] {
        let data = open(&with_validation(settings("webdataset", at(train), 2), at("val.tar"))).unwrap();
        assert_eq!(names(&data.train), expected, "{train}");
        assert_eq!(names(&data.validation), [("val.tar/z.png", 1)]);
        assert_eq!(data.class_names, ["0", "1"]);
        assert_eq!(data.train.path(0), at("train/s-0.tar/b.png").display().to_string());
        let options = || StreamOptions { resolutions: vec![16], ..StreamOptions::default() };
        let batch = eval_stream(&Arc::new(data), options()).next().unwrap().unwrap();
        assert_eq!((batch.labels.as_slice(), batch.warnings.len()), (&[1][..], 0));
    }
}

#[test]
fn shards_of_more_than_stay_open_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..300 {
        let label = (number % 2).to_string();
        let shard = tar(&[("a.png", &png(number)), ("a.cls", label.as_bytes())]);
        write(folder.path().join(format!("{number:03}.tar")), shard);
    }
    let data = Arc::new(open(&settings("webdataset", folder.path(), 2)).unwrap());
    assert_eq!(data.train.samples.len() + data.validation.samples.len(), 300);
    for epoch in 0..2 {
        let options = StreamOptions { epoch, resolutions: vec![16], threads: 3, ..StreamOptions::default() };
        let seen: usize = train_stream(&data, options).map(|batch| batch.unwrap().labels.len()).sum();
        assert_eq!(seen, data.train.samples.len());
    }
}

#[test]
fn an_image_that_has_gone_since_is_a_broken_image() {
    let folder = tempfile::tempdir().unwrap();
    let shard = folder.path().join("s.tar");
    let (images, labels): (Vec<Vec<u8>>, Vec<String>) = (0..8).map(|at| (png(at), (at % 2).to_string())).unzip();
    let keys: Vec<String> = (0..8).flat_map(|at| [format!("{at}.png"), format!("{at}.cls")]).collect();
    let contents = images.iter().zip(&labels).flat_map(|(image, label)| [image.as_slice(), label.as_bytes()]);
    let members: Vec<(&str, &[u8])> = keys.iter().map(String::as_str).zip(contents).collect();
    write(&shard, tar(&members));
    let data = open(&settings("webdataset", &shard, 2)).unwrap();
    fs::write(&shard, "").unwrap();
    let options = StreamOptions { resolutions: vec![16], ..StreamOptions::default() };
    let batch = train_stream(&Arc::new(data), options).next().unwrap().unwrap();
    assert!(batch.labels.is_empty());
    assert!(
        batch.warnings[0].ends_with(".png: its file has become shorter since it was listed"),
        "{:?}",
        batch.warnings
    );
}

fn check(shard: &[u8], expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path().join("s.tar"), shard);
    assert_eq!(refusal(&folder, &settings("webdataset", folder.path().join("s.tar"), 2)), expected);
}

#[test]
fn a_bad_shard_is_refused_with_a_sentence() {
    let image: &[u8] = b"an image";
    let good: &[(&str, &[u8])] = &[("a.jpg", image), ("a.cls", b"0"), ("b.jpg", image), ("b.cls", b"1")];
    let with = |more: &[(&str, &[u8])]| tar(&[good, more].concat());
    check(
        &with(&[("c/d.jpg", image)]),
        "HERE/s.tar/c/d.jpg: it is an image without a label; add c/d.cls with a whole number, or c/d.json with `label`",
    );
    let lonely = "it is a label without an image; wanted is a member of the same name up to the first dot that ends in \
                  .jpg, .jpeg, .png or .webp; add the image or remove the label";
    check(&with(&[("c.cls", b"0")]), &format!("HERE/s.tar/c.cls: {lonely}"));
    check(
        &with(&[("a.png", image)]),
        "HERE/s.tar/a.png: key `a` occurs twice: a.jpg has it too; each image needs a key of its own",
    );
    check(
        &with(&[("a.jpg", image)]),
        "HERE/s.tar/a.jpg: key `a` occurs twice: a.jpg has it too; each image needs a key of its own",
    );
    let range = "is out of range; data.classes is 2, so labels are 0 to 1";
    check(&with(&[("c.jpg", image), ("c.cls", b"2")]), &format!("HERE/s.tar/c.cls: label 2 {range}"));
    check(&with(&[("c.jpg", image), ("c.cls", b"-1")]), &format!("HERE/s.tar/c.cls: label -1 {range}"));
    check(&with(&[("c.jpg", image), ("c.json", br#"{"label": 7}"#)]), &format!("HERE/s.tar/c.json: label 7 {range}"));
    check(&with(&[("c.jpg", image), ("c.cls", b"cat")]), "HERE/s.tar/c.cls: it holds `cat`, which is no whole number");
    check(
        &with(&[("c.jpg", image), ("c.cls", &[b'1'; 99])]),
        "HERE/s.tar/c.cls: its 99 bytes are more than the 64 of a label",
    );
    let none = "it has no whole number under `label` (or `cls`), and there is no .cls beside it";
    for json in [r#"{"caption": 1}"#, r#"{"label": 1.5}"#, r#"{"label": "1"}"#, "[1]"] {
        check(&with(&[("c.jpg", image), ("c.json", json.as_bytes())]), &format!("HERE/s.tar/c.json: {none}"));
    }
    check(
        &with(&[("c.jpg", image), ("c.json", b"{")]),
        "HERE/s.tar/c.json: it is no JSON: EOF while parsing an object at line 1 column 1",
    );
    check(&tar(&[]), "HERE/s.tar holds no images");
    let none: Vec<(&str, &[u8])> =
        vec![("0.jpg", image), ("0.cls", b"0"), ("1.jpg", image), ("1.cls", b"0"), ("2.jpg", image), ("2.cls", b"0")];
    check(&tar(&none), "class `1` has no training images in HERE/s.tar; remove the class or add images");
}

#[test]
fn a_shard_that_is_no_whole_tar_is_refused() {
    let whole = tar(&[("a.jpg", &[7; 700]), ("a.cls", b"0")]);
    assert_eq!(whole.len(), 512 + 1024 + 512 + 512 + 1024);
    let short = "the shard is cut short";
    let again = "copy or download the shard again";
    check(
        &whole[..1000],
        &format!("HERE/s.tar/a.jpg: {short}: this member goes on to byte 1536, but there are 1000; {again}"),
    );
    let end = |at: u32| format!("HERE/s.tar: {short}: it has no end mark behind byte {at}; copy or download it again");
    check(&whole[..1536], &end(1536));
    check(&whole[..2560], &end(2560));
    check(&whole[..2600], "HERE/s.tar: failed to read entire block; is it a tar, and complete?");
    check(b"", &end(0));
    check(&whole[..1800], "HERE/s.tar: failed to read entire block; is it a tar, and complete?");
    let joined = [&whole[..], &whole].concat();
    let expected = "HERE/s.tar: something follows its end at byte 2560, which tar would not see; tars are not joined with \
                    cat: name several shards, or pack them into one";
    check(&joined, expected);
    let nonsense = "numeric field was not a number: ???????? when getting cksum for ????????????????";
    check(&[1; 2000], &format!("HERE/s.tar: {nonsense}; is it a tar, and complete?"));
    for (magic, packer, command) in [
        (&b"\x1F\x8B\x08\0"[..], "gzip", "gunzip"),
        (b"\x28\xB5\x2F\xFD", "zstd", "unzstd"),
        (b"BZh9", "bzip2", "bunzip2"),
    ] {
        let expected = format!(
            "HERE/s.tar: it is compressed with {packer}; images are read by position, so unpack it: {command} HERE/s.tar"
        );
        check(magic, &expected);
    }
    let mut link = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Link);
    header.set_size(0);
    link.append_link(&mut header, "b.jpg", "a.jpg").unwrap();
    let expected = "HERE/s.tar/b.jpg: it is a link; pack the files themselves: tar --dereference --hard-dereference";
    check(&link.into_inner().unwrap(), expected);
    let mut long = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(2 << 20);
    long.append_data(&mut header, "x", &vec![b'a'; 2 << 20][..]).unwrap();
    let expected = "HERE/s.tar: a member's header has more than 1048576 bytes; is it a tar, and complete?";
    check(&long.into_inner().unwrap(), expected);
}

#[test]
fn bad_paths_of_shards_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let good = tar(&[("a.jpg", b"x"), ("a.cls", b"0"), ("b.jpg", b"x"), ("b.cls", b"1")]);
    write(at("s/0.tar"), &good);
    write(at("t/0.tar"), &good);
    write(at("gz/0.tar.gz"), "");
    let refused = |train: &str| refusal(&folder, &settings("webdataset", at(train), 2));
    assert_eq!(
        refused("gz"),
        "HERE/gz holds no images: it has no files ending in .tar; unpack 0.tar.gz, and others like it"
    );
    let missing = refused("s/{0..1}.tar");
    assert!(missing.starts_with("cannot read HERE/s/1.tar: No such file"), "{missing}");
    assert_eq!(refused("s/{1..0}.tar"), "HERE/s/{1..0}.tar: {1..0} ends before it begins");
    let twice = "a file of this name is among those before it; images are named by their file, so rename it";
    assert_eq!(refused("{s,t}/0.tar"), format!("HERE/t/0.tar: {twice}"));
    let far = refusal(&folder, &settings("webdataset", "https://example.org/{0..9}.tar", 2));
    assert_eq!(
        far,
        "https://example.org/{0..9}.tar: only files of this machine are read; download them and name their folder"
    );
    let both = "is used both for training and for validation; accuracy would mean nothing";
    let same = with_validation(settings("webdataset", at("s"), 2), at("s/{0..0}.tar"));
    let here = fs::canonicalize(at("s/0.tar")).unwrap().display().to_string();
    let here = here.replace(folder.path().to_str().unwrap(), "HERE");
    assert_eq!(refusal(&folder, &same), format!("HERE/s/{{0..0}}.tar: {here} {both}"));
}
