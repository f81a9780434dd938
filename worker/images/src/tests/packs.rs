//! Packs: made, interrupted, gone on with, damaged.

use super::formats::{options, pack_into, photographs};
use super::*;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use sweeps::spec::model::Format;

fn raw(size: Option<u32>) -> PackOptions {
    PackOptions { size, form: PackForm::Raw, ..options(Format::ImageFolder) }
}

fn summary(outcome: PackOutcome) -> PackSummary {
    let PackOutcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
    summary
}

/// `OUT.partial`.
fn partial(out: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", out.display()))
}

#[test]
fn a_pack_is_the_same_whatever_the_threads_and_interruptions() {
    let folder = photographs(12);
    fs::write(folder.path().join("photos/cats/004.jpg"), "broken").unwrap();
    let at = |name: &str| folder.path().join(name);
    for options in
        [options(Format::ImageFolder), raw(Some(40)), PackOptions { size: Some(40), ..options(Format::ImageFolder) }]
    {
        let _ = fs::remove_file(at("whole.pack"));
        pack_into(&at("photos"), &at("whole.pack"), &options).unwrap();
        let whole = fs::read(at("whole.pack")).unwrap();
        for threads in [1, 3, 8] {
            let out = at(&format!("threads-{threads}.pack"));
            let options = PackOptions { threads, force: true, ..options.clone() };
            pack_into(&at("photos"), &out, &options).unwrap();
            assert!(fs::read(out).unwrap() == whole, "{threads} threads");
        }
        // Broken off after each image.
        for count in 0..14 {
            let out = at("again.pack");
            let _ = fs::remove_file(&out);
            let stopped = pack(&at("photos"), &out, &options, &mut |event| match event {
                PackEvent::Packed { done, .. } if done > count => ControlFlow::Break(()),
                PackEvent::Begun { .. } if count == 0 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            if let PackOutcome::Stopped { done, total } = stopped.unwrap() {
                assert_eq!(total, 14);
                assert!(!out.exists());
                let mut begun = 0;
                let outcome = pack(&at("photos"), &out, &options, &mut |event| {
                    if let PackEvent::Begun { done, .. } = event {
                        begun = done;
                    }
                    ControlFlow::Continue(())
                });
                assert_eq!((begun, summary(outcome.unwrap()).left_out.len()), (done, 1));
            }
            assert!(fs::read(&out).unwrap() == whole, "after {count}");
            assert!(!partial(&out).exists());
        }
        // Killed anywhere: what was written last is not whole, or is something else.
        for share in 0..40 {
            let out = at("killed.pack");
            let _ = fs::remove_file(&out);
            let mut left = whole[..whole.len() * share / 40].to_vec();
            if share % 3 == 0 {
                let length = left.len();
                left[length - length.min(9)..].fill(0);
            }
            write(partial(&out), &left);
            pack_into(&at("photos"), &out, &options).unwrap();
            assert!(fs::read(&out).unwrap() == whole, "{share}");
        }
    }
}

#[test]
fn sides_are_shrunk_and_pixels_are_kept_as_pixels() {
    let folder = photographs(10);
    let at = |name: &str| folder.path().join(name);
    pack_into(&at("photos"), &at("raw.pack"), &raw(Some(48))).unwrap();
    let small = PackOptions { size: Some(48), ..options(Format::ImageFolder) };
    let small = summary(pack_into(&at("photos"), &at("small.pack"), &small).unwrap());
    assert_eq!((small.images, small.raw), (12, 0));
    assert_eq!(small.about, "image_folder, shorter sides of at most 48, what is shrunk as JPEG of quality 90");
    let shown = show_pack(&at("raw.pack")).unwrap();
    assert_eq!((shown.images, shown.raw, shown.class_images.as_slice()), (12, 12, &[6, 6][..]));
    let open_pack = |name: &str| open(&settings("pack", at(name), 2)).unwrap();
    let (raw, small) = (open_pack("raw.pack"), open_pack("small.pack"));
    let mut both = 0;
    for (raw, small) in [(&raw.train, &small.train), (&raw.validation, &small.validation)] {
        for (one, other) in raw.samples.iter().zip(&small.samples) {
            let view = raw.store().view(one).unwrap().unwrap();
            assert!(view.width.min(view.height) <= 48, "{}", one.name);
            assert_eq!(view.channels, if one.name.ends_with("png") { 1 } else { 3 });
            let mut buffer = crate::files::FileBuffer::default();
            let file = decode(small.store().read(other, &mut buffer).unwrap()).unwrap();
            assert_eq!((file.width, file.height), (view.width, view.height));
            let far = file.bytes.iter().zip(view.bytes).map(|(one, other)| one.abs_diff(*other)).max().unwrap();
            assert!(far < 60, "{}: {far}", one.name);
            both += 1;
        }
    }
    assert_eq!(both, 12);
    let options = StreamOptions { resolutions: vec![32], ..StreamOptions::default() };
    let batch = train_stream(&Arc::new(raw), options).next().unwrap().unwrap();
    assert_eq!(batch.warnings, Vec::<String>::new());
}

#[test]
fn a_pack_of_pixels_or_of_a_pack() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut images = vec![0, 0, 8, 3, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 3];
    images.extend(0..120_u8);
    write(at("images"), images);
    write(at("labels"), [&[0, 0, 8, 1, 0, 0, 0, 20][..], &[0, 1].repeat(10)].concat());
    pack_into(&at("images"), &at("a.pack"), &options(Format::Idx)).unwrap();
    pack_into(&at("a.pack"), &at("b.pack"), &PackOptions { classes: None, ..options(Format::Pack) }).unwrap();
    let batches = |format: &str, name: &str| {
        let data = Arc::new(open(&settings(format, at(name), 2)).unwrap());
        let options = StreamOptions { resolutions: vec![16], ..StreamOptions::default() };
        train_stream(&data, options).map(Result::unwrap).collect::<Vec<Batch>>()
    };
    let expected = batches("idx", "images");
    assert!(batches("pack", "a.pack") == expected && batches("pack", "b.pack") == expected);
    let unnamed = pack_into(&at("images"), &at("c.pack"), &PackOptions { classes: None, ..options(Format::Idx) });
    let expected = "/images: it does not name its classes; say how many there are: --classes N";
    assert!(unnamed.unwrap_err().to_string().ends_with(expected));
}

#[test]
fn broken_images_are_left_out_as_far_as_that_is_allowed() {
    let folder = photographs(8);
    let at = |name: &str| folder.path().join(name);
    let cut = fs::read(at("photos/cats/002.jpg")).unwrap();
    fs::write(at("photos/cats/002.jpg"), &cut[..cut.len() / 2]).unwrap();
    fs::write(at("photos/dogs/003.jpg"), "").unwrap();
    let said = |error: DataError| error.to_string().replace(folder.path().to_str().unwrap(), "HERE");
    let few = PackOptions { broken_max: 1, ..options(Format::ImageFolder) };
    let expected = "HERE/photos: 2 images are broken, and --broken-max is 1; the last is dogs/003.jpg: the file is empty; \
                    repair or remove them, or raise the limit and go on";
    for _ in 0..2 {
        assert_eq!(said(pack_into(&at("photos"), &at("x.pack"), &few).unwrap_err()), expected);
    }
    let made = summary(pack_into(&at("photos"), &at("x.pack"), &options(Format::ImageFolder)).unwrap());
    let reasons = [("cats/002.jpg", "the JPEG is truncated"), ("dogs/003.jpg", "the file is empty")];
    assert_eq!(made.left_out, reasons.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    assert_eq!((made.images, made.class_images.as_slice()), (8, &[4, 4][..]));
}

#[test]
fn what_is_there_is_not_overwritten_unasked() {
    let folder = photographs(6);
    let at = |name: &str| folder.path().join(name);
    let said = |made: Result<PackOutcome, DataError>| {
        made.unwrap_err().to_string().replace(folder.path().to_str().unwrap(), "HERE")
    };
    pack_into(&at("photos"), &at("x.pack"), &options(Format::ImageFolder)).unwrap();
    let there = "HERE/x.pack: it is there already; --force replaces it, --check says whether it is whole";
    assert_eq!(said(pack_into(&at("photos"), &at("x.pack"), &options(Format::ImageFolder))), there);
    let forced = PackOptions { force: true, ..options(Format::ImageFolder) };
    pack_into(&at("photos"), &at("x.pack"), &forced).unwrap();

    let stop = |name: &str, options: &PackOptions| {
        pack(&at("photos"), &at(name), options, &mut |event| match event {
            PackEvent::Packed { done: 3, .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .unwrap()
    };
    assert_eq!(stop("y.pack", &options(Format::ImageFolder)), PackOutcome::Stopped { done: 3, total: 8 });
    let other = "HERE/y.pack.partial: it was begun from another source, or with other options; go on with those, delete it, \
                 or give it up with --force";
    assert_eq!(said(pack_into(&at("photos"), &at("y.pack"), &raw(None))), other);
    write_png(at("photos/cats/new.png"), 5);
    assert_eq!(said(pack_into(&at("photos"), &at("y.pack"), &options(Format::ImageFolder))), other);
    pack_into(&at("photos"), &at("y.pack"), &forced).unwrap();
    assert_eq!(show_pack(&at("y.pack")).unwrap().images, 9);
    // A text that happens to be there.
    write(partial(&at("z.pack")), [b'x'; 500]);
    let refused = said(pack_into(&at("photos"), &at("z.pack"), &options(Format::ImageFolder)));
    assert!(refused.starts_with("HERE/z.pack.partial: it was begun from another source"), "{refused}");
    let missing = said(pack_into(&at("photos"), &at("nowhere/z.pack"), &options(Format::ImageFolder)));
    assert!(missing.starts_with("cannot write HERE/nowhere/z.pack.partial: No such file"), "{missing}");
}

fn everything(path: &Path) -> PackCheck {
    check_pack(path, &mut |_, _| ControlFlow::Continue(())).unwrap()
}

#[test]
fn damage_is_found_and_named() {
    let folder = photographs(10);
    let at = |name: &str| folder.path().join(name);
    pack_into(&at("photos"), &at("x.pack"), &options(Format::ImageFolder)).unwrap();
    let whole = fs::read(at("x.pack")).unwrap();
    assert_eq!(everything(&at("x.pack")).damaged, []);
    assert_eq!(everything(&at("x.pack")).images, 12);
    let refused = |bytes: &[u8]| {
        write(at("bad.pack"), bytes);
        let checked = check_pack(&at("bad.pack"), &mut |_, _| ControlFlow::Continue(())).unwrap_err().to_string();
        assert_eq!(open(&settings("pack", at("bad.pack"), 2)).unwrap_err().to_string(), checked);
        checked.replace(folder.path().to_str().unwrap(), "HERE")
    };
    let length = whole.len();
    let again = "copy or pack it again";
    let changed = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        bytes
    };
    assert_eq!(refused(&changed(20)), format!("HERE/bad.pack: its header is damaged; {again}"));
    assert_eq!(
        refused(&changed(length - 20)),
        format!("HERE/bad.pack: its index is damaged: its hash is not the one in the header; {again}")
    );
    let cut = refused(&whole[..length - 1]);
    assert_eq!(cut, format!("HERE/bad.pack: it has {} bytes where its header says {length}; {again}", length - 1));
    assert_eq!(refused(&whole[..100]), format!("HERE/bad.pack: it is cut short; {again}"));
    let none = "HERE/bad.pack: it is no pack; `alpharho pack SOURCE --out FILE --format FORMAT` makes one";
    assert_eq!(refused(b"a text"), none);
    assert_eq!(refused(b""), none);
    let version = "HERE/bad.pack: it is a pack of version 5, and this alpharho reads 1; pack it again";
    assert_eq!(refused(&changed(8)), version);

    // The first image, whose content begins behind header and frame.
    write(at("bad.pack"), changed(128 + 32 + 300));
    let check = everything(&at("bad.pack"));
    assert_eq!(check.damaged, [("cats/000.jpg".to_owned(), "its hash is not the one in the index".to_owned())]);
    write(at("bad.pack"), changed(128 + 3));
    let check = everything(&at("bad.pack"));
    assert_eq!(check.damaged[0].1, "the frame before it is damaged, which readers do not look at");
    write(at("bad.pack"), changed(128 + 32 + 300));
    let data =
        Arc::new(open(&with_validation(settings("pack", at("bad.pack"), 2), at("x.pack"))).unwrap_or_else(|_| {
            // They have the same index, so they are one: a part of it is validated with.
            open(&settings("pack", at("bad.pack"), 2)).unwrap()
        }));
    let options = || StreamOptions { resolutions: vec![16], ..StreamOptions::default() };
    let streams = [train_stream(&data, options()), eval_stream(&data, options())];
    let warnings: Vec<String> = streams.into_iter().flatten().flat_map(|batch| batch.unwrap().warnings).collect();
    let place = at("bad.pack").display().to_string();
    let expected = format!(
        "left out a broken image, {place}[cats/000.jpg]: it is damaged: its hash is not the one in the pack's index"
    );
    assert_eq!(warnings, [expected]);
}

#[test]
fn packs_that_overlap_or_do_not_fit_are_refused() {
    let folder = photographs(6);
    let other = photographs(2);
    let at = |name: &str| folder.path().join(name);
    pack_into(&at("photos"), &at("x.pack"), &options(Format::ImageFolder)).unwrap();
    fs::copy(at("x.pack"), at("copy.pack")).unwrap();
    let refused =
        |validation: &str| refusal(&folder, &with_validation(settings("pack", at("x.pack"), 2), at(validation)));
    let both = "is used both for training and for validation; accuracy would mean nothing";
    assert_eq!(refused("copy.pack"), format!("HERE/copy.pack: HERE/x.pack {both}"));
    assert!(refused("x.pack").ends_with(both));
    fs::rename(other.path().join("photos/dogs"), other.path().join("photos/birds")).unwrap();
    pack_into(&other.path().join("photos"), &at("birds.pack"), &options(Format::ImageFolder)).unwrap();
    assert_eq!(refused("birds.pack"), "HERE/birds.pack: its class `birds` is not among the training classes");
    let three = refusal(&folder, &settings("pack", at("x.pack"), 3));
    assert_eq!(three, "data.classes is 3, but HERE/x.pack has 2: cats, dogs");
    // A validation set may lack a class; its labels are then found by the names.
    fs::remove_dir_all(other.path().join("photos/cats")).unwrap();
    fs::rename(other.path().join("photos/birds"), other.path().join("photos/dogs")).unwrap();
    let one = PackOptions { classes: None, ..options(Format::ImageFolder) };
    pack_into(&other.path().join("photos"), &at("dogs.pack"), &one).unwrap();
    let data = open(&with_validation(settings("pack", at("x.pack"), 2), at("dogs.pack"))).unwrap();
    assert_eq!(data.validation.labels(), [1].into());
}
