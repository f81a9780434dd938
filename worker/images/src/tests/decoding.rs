//! Every kind of file, and broken ones.

use super::super::decode::{Decoded, decode};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, ImageEncoder, ImageFormat, Rgb, RgbImage};
use std::io::{Cursor, Write};

/// 32 × 16 pixels: red, green over blue, white.
fn quarters() -> RgbImage {
    let colours = [[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 220]];
    RgbImage::from_fn(32, 16, |x, y| Rgb(colours[(x / 16 + y / 8 * 2) as usize]))
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// Whether each quarter's centre has the colour of the quarter of [`quarters`] with that number.
fn check(file: &[u8], tolerance: u8, expected: [usize; 4]) {
    let Decoded { width, height, channels, bytes } = decode(file).unwrap();
    assert_eq!(channels, 3);
    let source = quarters();
    for (place, quarter) in (0..).zip(expected) {
        let (x, y) = (width / 4 + width / 2 * (place % 2), height / 4 + height / 2 * (place / 2));
        let at = (y * width + x) as usize * 3;
        let wanted = source.get_pixel(8 + 16 * (quarter as u32 % 2), 4 + 8 * (quarter as u32 / 2)).0;
        let difference = (0..3).map(|channel| bytes[at + channel].abs_diff(wanted[channel])).max().unwrap();
        assert!(difference <= tolerance, "place {place}: {:?} instead of {wanted:?}", &bytes[at..at + 3]);
    }
}

#[test]
fn colour_images_of_every_format() {
    let image = DynamicImage::from(quarters());
    for (format, tolerance) in [(ImageFormat::Png, 0), (ImageFormat::WebP, 0), (ImageFormat::Jpeg, 12)] {
        check(&encode(&image, format), tolerance, [0, 1, 2, 3]);
    }
    check(&encode(&DynamicImage::from(image.to_rgb16()), ImageFormat::Png), 0, [0, 1, 2, 3]);
}

#[test]
fn alpha_is_dropped() {
    let mut image = DynamicImage::from(quarters()).to_rgba8();
    image.pixels_mut().for_each(|pixel| pixel.0[3] = 10);
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        check(&encode(&image.clone().into(), format), 0, [0, 1, 2, 3]);
    }
}

#[test]
fn grey_images_stay_of_one_channel() {
    let grey = DynamicImage::from(quarters()).to_luma8();
    let expected = grey.as_raw().clone();
    let with_alpha = DynamicImage::from(grey.clone()).to_luma_alpha8();
    let deep = DynamicImage::from(grey.clone()).to_luma16();
    for image in [DynamicImage::from(grey.clone()), with_alpha.into(), deep.into()] {
        let decoded = decode(&encode(&image, ImageFormat::Png)).unwrap();
        assert_eq!((decoded.width, decoded.height, decoded.channels), (32, 16, 1));
        assert_eq!(*decoded.bytes, *expected);
    }
    let jpeg = decode(&encode(&grey.into(), ImageFormat::Jpeg)).unwrap();
    assert_eq!((jpeg.channels, jpeg.bytes.len()), (1, 512));
}

/// A PNG chunk.
fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(name);
    crc.update(content);
    [&(content.len() as u32).to_be_bytes(), name.as_slice(), content, &crc.sum().to_be_bytes()].concat()
}

/// A PNG of 8 bits a pixel, of colour type `kind`, whose rows are given without their filter bytes.
fn png(width: u32, height: u32, kind: u8, palette: &[u8], rows: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, kind, 0, 0, 0]].concat();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for row in rows.chunks(rows.len().max(1).div_ceil(height as usize)) {
        packed.write_all(&[&[0], row].concat()).unwrap();
    }
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(b"IHDR", &header));
    if !palette.is_empty() {
        file.extend(chunk(b"PLTE", palette));
    }
    file.extend(chunk(b"IDAT", &packed.finish().unwrap()));
    file.extend(chunk(b"IEND", &[]));
    file
}

#[test]
fn palettes_become_colours() {
    let decoded = decode(&png(2, 2, 3, &[9, 8, 7, 1, 2, 3], &[0, 1, 1, 0])).unwrap();
    assert_eq!((decoded.width, decoded.height, decoded.channels), (2, 2, 3));
    assert_eq!(*decoded.bytes, [9, 8, 7, 1, 2, 3, 1, 2, 3, 9, 8, 7]);
}

/// An EXIF block that says nothing but the orientation, in either byte order.
fn exif(orientation: u16, big: bool) -> Vec<u8> {
    let two = |number: u16| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let four = |number: u32| if big { number.to_be_bytes() } else { number.to_le_bytes() };
    let head: &[u8] = if big { b"MM" } else { b"II" };
    let entry = [&two(0x112)[..], &two(3), &four(1), &two(orientation), &two(0)].concat();
    [head, &two(42), &four(8), &two(1), &entry, &four(0)].concat()
}

#[test]
fn exif_orientation_is_undone() {
    // What is seen at top left, top right, bottom left and bottom right of the upright image.
    let table = [
        (1, [0, 1, 2, 3]),
        (2, [1, 0, 3, 2]),
        (3, [3, 2, 1, 0]),
        (4, [2, 3, 0, 1]),
        (5, [0, 2, 1, 3]),
        (6, [2, 0, 3, 1]),
        (7, [3, 1, 2, 0]),
        (8, [1, 3, 0, 2]),
        (0, [0, 1, 2, 3]),
        (9, [0, 1, 2, 3]),
    ];
    let image = quarters();
    for (orientation, expected) in table {
        let block = exif(orientation, orientation % 2 == 0);
        let plain = encode(&image.clone().into(), ImageFormat::Jpeg);
        let segment = [b"Exif\0\0".as_slice(), &block].concat();
        let length = (segment.len() as u16 + 2).to_be_bytes();
        let jpeg = [&plain[..2], &[0xFF, 0xE1], &length, &segment, &plain[2..]].concat();
        check(&jpeg, 12, expected);
        let upright = decode(&jpeg).unwrap();
        let turned = (5..=8).contains(&orientation);
        assert_eq!((upright.width, upright.height), if turned { (16, 32) } else { (32, 16) });

        let mut webp = Vec::new();
        let mut encoder = WebPEncoder::new_lossless(&mut webp);
        encoder.set_exif_metadata(block).unwrap();
        encoder.write_image(&image, 32, 16, image::ExtendedColorType::Rgb8).unwrap();
        check(&webp, 0, expected);
    }
    // Nonsense in its place does no harm.
    let plain = encode(&image.into(), ImageFormat::Jpeg);
    let nonsense = [&plain[..2], &[0xFF, 0xE1, 0, 12], b"Exif\0\0MM\0*", &plain[2..]].concat();
    check(&nonsense, 12, [0, 1, 2, 3]);
}

#[test]
fn broken_images_are_errors() {
    let noise =
        RgbImage::from_fn(64, 64, |x, y| Rgb([(x * 37) as u8 ^ (y * 91) as u8, (x * y) as u8, (x + y * 7) as u8]));
    let image = DynamicImage::from(noise);
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = encode(&image, format);
        assert!(decode(&whole).is_ok());
        for share in [0, 1, 3, 10, 40, 70, 95, 99] {
            let cut = &whole[..whole.len() * share / 100];
            assert!(decode(cut).is_err(), "{format:?} cut to {share} %");
        }
    }
    let bomb = png(60_000, 60_000, 2, &[], &[0; 60_000]);
    let check = |file: &[u8], expected: &str| assert_eq!(decode(file).unwrap_err(), expected);
    check(&bomb, "60000 × 60000 pixels are more than the 100000000 that are decoded");
    check(b"", "the file is empty");
    check(b"hello, this is a text", "it is neither JPEG nor PNG nor WebP");
    check(b"GIF89a\x01\0\x01\0\0\0\0;", "it is neither JPEG nor PNG nor WebP");
}

#[test]
fn an_end_marker_in_a_thumbnail_does_not_hide_that_a_jpeg_is_cut() {
    let mut plain = Vec::new();
    JpegEncoder::new_with_quality(&mut plain, 90).encode_image(&quarters()).unwrap();
    let comment = [&[0xFF, 0xFE, 0, 6][..], &[0xFF, 0xD9, 0xFF, 0xD9]].concat();
    let whole = [&plain[..2], &comment, &plain[2..]].concat();
    check(&whole, 12, [0, 1, 2, 3]);
    assert_eq!(decode(&whole[..whole.len() - 30]).unwrap_err(), "the JPEG is truncated");
    // Bytes after the end are nobody's business.
    check(&[&whole[..], &[0; 100]].concat(), 12, [0, 1, 2, 3]);
}

#[test]
fn a_webp_chunk_that_says_it_is_longer_than_the_file_takes_no_memory() {
    let mut webp = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_exif_metadata(exif(6, false)).unwrap();
    encoder.write_image(&quarters(), 32, 16, image::ExtendedColorType::Rgb8).unwrap();
    let at = webp.windows(4).position(|name| name == b"EXIF").unwrap() + 4;
    webp[at..at + 4].copy_from_slice(&3_000_000_000_u32.to_le_bytes());
    // Its decoder would have asked for three gigabytes.
    assert_eq!(decode(&webp).unwrap_err(), "the WebP is truncated");
    // Nor behind the end that the file itself names.
    let plain = encode(&quarters().into(), ImageFormat::WebP);
    let behind = [&plain[..], b"EXIF", &3_000_000_000_u32.to_le_bytes(), b"x"].concat();
    check(&behind, 0, [0, 1, 2, 3]);
}

#[test]
fn a_palette_that_ends_within_a_colour_is_an_error_and_not_a_panic() {
    let expected = "the PNG's palette ends within a colour";
    assert_eq!(decode(&png(2, 2, 3, &[9], &[0, 0, 0, 0])).unwrap_err(), expected);
    assert_eq!(decode(&png(2, 2, 3, &[9, 8, 7, 1], &[0, 1, 1, 0])).unwrap_err(), expected);
}
