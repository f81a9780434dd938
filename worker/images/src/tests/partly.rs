//! JPEG decoded in part and in planes, held against the whole and against another decoder.

use super::super::draw::{Rect, augmentation};
use super::super::show::show;
use super::*;
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

const RESOLUTIONS: [u32; 3] = [40, 32, 17];

/// JPEGs of several samplings, sides, and ways of storing.
fn files() -> Vec<(String, Vec<u8>)> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut names: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|name| name.extension().is_some_and(|of| of == "jpg"));
    names.sort();
    let mut files: Vec<(String, Vec<u8>)> =
        names.iter().map(|name| (name.display().to_string(), fs::read(name).unwrap())).collect();
    // Large enough to be shrunk while they are decoded, and with coarse and fine in them.
    for (width, height) in [(301, 190), (640, 477)] {
        let wave = |place: u32, length: f64| ((f64::from(place) / length).sin() * 100.0 + 128.0) as u8;
        let image = RgbImage::from_fn(width, height, |x, y| Rgb([wave(x, 9.0), wave(y, 14.0), wave(x + 2 * y, 21.0)]));
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, 92)
            .write_image(&image, width, height, ExtendedColorType::Rgb8)
            .unwrap();
        files.push((format!("{width} × {height}"), file));
    }
    files
}

#[test]
fn a_part_has_the_pixels_of_the_whole() {
    let data = settings("image_folder", "nowhere", 2);
    for (name, file) in files() {
        for index in 0..24 {
            for base in [20, 64, 1000] {
                let look = |width, height| augmentation(5, 1, index, width, height, &data);
                let part = show(&file, base, &RESOLUTIONS, false, look).unwrap();
                assert!(part == show(&file, base, &RESOLUTIONS, true, look).unwrap(), "{name}, {index}, {base}");
                for (one, resolution) in part.iter().zip(RESOLUTIONS) {
                    let alone = show(&file, base, &[resolution], false, look).unwrap();
                    assert!(alone[0] == *one, "{name}, {index}, {base}: the company of {resolution} changes it");
                }
            }
        }
    }
}

/// The mean and the largest difference to pixels that were all decoded to RGB before they were resized.
fn differences(file: &[u8], base: u32, look: Augmentation) -> (f64, u8) {
    let shown = show(file, base, &RESOLUTIONS, false, |_, _| look).unwrap();
    let mut largest = 0;
    let (mut sum, mut count) = (0.0, 0.0);
    for Pixels { resolution, bytes } in shown {
        let decoded = decode(file).unwrap();
        let mut wanted = vec![0; bytes.len()];
        super::super::render::Renderer::default().render(decoded.view(), &look, resolution, &mut wanted).unwrap();
        for (one, other) in bytes.iter().zip(wanted) {
            largest = largest.max(one.abs_diff(other));
            sum += f64::from(one.abs_diff(other));
            count += 1.0;
        }
    }
    (sum / count, largest)
}

#[test]
fn pixels_are_those_of_another_decoder() {
    for (name, file) in files() {
        let Decoded { width, height, .. } = decode(&file).unwrap();
        let (w, h) = (f64::from(width), f64::from(height));
        for (flip, crop) in [
            (false, Rect { left: 0.0, top: 0.0, width: w, height: h }),
            (true, Rect { left: w * 0.25, top: 0.5, width: w * 0.625, height: h - 1.0 }),
        ] {
            let look = Augmentation { crop, flip, brightness: 0.0, saturation: 1.0 };
            let (mean, largest) = differences(&file, 1000, look);
            assert!(mean < 1.6 && largest < 40, "{name}, {flip}: {mean}, {largest}");
            // Shrunk by the decoder, and by the filter.
            let (mean, _) = differences(&file, 40, look);
            assert!(mean < 3.0, "{name}, {flip}: {mean} when shrunk");
            let strong = Augmentation { brightness: 0.1, saturation: 1.4, ..look };
            let (mean, _) = differences(&file, 1000, strong);
            assert!(mean < 3.0, "{name}, {flip}: {mean} when distorted");
        }
    }
}

#[test]
fn streams_have_the_same_pixels_whatever_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (_, file)) in files().iter().cycle().take(32).enumerate() {
        write(folder.path().join(["cats", "dogs"][number % 2]).join(format!("{number}.jpg")), file);
    }
    let settings = settings("image_folder", folder.path(), 2);
    let epochs = |cache_bytes| {
        let data = Dataset::open_with_cache(&settings, &DataPlaces::default(), cache_bytes).unwrap();
        let data = std::sync::Arc::new(data);
        let epoch = |epoch| StreamOptions { epoch, resolutions: vec![40, 17], ..StreamOptions::default() };
        (0..3).flat_map(|number| train_stream(&data, epoch(number))).map(Result::unwrap).collect::<Vec<Batch>>()
    };
    let expected = epochs(0);
    // All of them, and some; ways into files alone, and some of those.
    for cache_bytes in [CACHE_BYTES, 300_000, 32 * STOPS_BYTES_MAX, 20_000] {
        assert!(epochs(cache_bytes) == expected, "{cache_bytes}");
    }
}
