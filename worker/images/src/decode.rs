//! One image file → upright 8-bit pixels, grey or RGB.

use super::files::read_file_into;
use super::jpeg::Header;
use super::render::Renderer;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;
use std::panic::catch_unwind;
use std::path::Path;

/// Larger images are refused before they are decoded: a small file can claim any size.
const PIXELS_MAX: u64 = 100_000_000;
/// Larger files are refused before they are read.
pub(super) const FILE_BYTES_MAX: u64 = 512 << 20;

/// A decoded image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// In pixels, upright.
    pub width: u32,
    /// In pixels, upright.
    pub height: u32,
    /// 1: grey, 3: RGB.
    pub channels: u8,
    /// `height × width × channels`.
    pub bytes: Box<[u8]>,
}

/// Pixels, wherever they lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    /// In pixels.
    pub(super) width: u32,
    /// In pixels.
    pub(super) height: u32,
    /// 1: grey, 3: RGB.
    pub(super) channels: u8,
    /// `height × width × channels`.
    pub(super) bytes: &'a [u8],
}

impl Decoded {
    pub(super) fn view(&self) -> View<'_> {
        View { width: self.width, height: self.height, channels: self.channels, bytes: &self.bytes }
    }
}

/// Reads a file. The error says what is wrong, without the file's name.
pub(super) fn read_image(path: &Path, bytes: &mut Vec<u8>) -> Result<(), String> {
    read_file_into(path, FILE_BYTES_MAX, bytes).map_err(|error| error.to_string())
}

/// The header of a whole JPEG of the usual kind, which is decoded in part. None: [`decode`] says what it is.
pub(super) fn usual_jpeg(renderer: &mut Renderer, file: &[u8]) -> Option<Header> {
    let header = renderer.jpeg.header(file).ok()?;
    let pixels = u64::from(header.width) * u64::from(header.height);
    (pixels <= PIXELS_MAX && jpeg_has_end(file)).then_some(header)
}

/// Decodes JPEG, PNG or WebP, told apart by their first bytes: names lie (ImageNet has a PNG named `.JPEG`).
///
/// # Errors
/// What is wrong with it, for people.
pub fn decode(file: &[u8]) -> Result<Decoded, String> {
    // The decoders are not ours, and one has panicked before.
    catch_unwind(|| decode_checked(file)).unwrap_or_else(|_| Err("its decoder panicked".into()))
}

fn decode_checked(file: &[u8]) -> Result<Decoded, String> {
    if file.is_empty() {
        return Err("the file is empty".into());
    }
    let file = within_riff(file);
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|error| error.to_string())?;
    let format = match reader.format() {
        Some(format @ (ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP)) => format,
        _ => return Err("it is neither JPEG nor PNG nor WebP".into()),
    };
    // The decoder fills what is missing at a JPEG's end with grey.
    if format == ImageFormat::Jpeg && !jpeg_has_end(file) {
        return Err("the JPEG is truncated".into());
    }
    // The decoder looks into colours by threes.
    if format == ImageFormat::Png && !png_palette_is_whole(file) {
        return Err("the PNG's palette ends within a colour".into());
    }
    // The decoder takes as much memory for a chunk as the chunk says that it is long.
    if format == ImageFormat::WebP && !webp_chunks_fit(file) {
        return Err("the WebP is truncated".into());
    }
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(format!("{width} × {height} pixels are more than the {PIXELS_MAX} that are decoded"));
    }
    // A broken EXIF block does not make the photograph useless.
    let orientation = decoder.orientation().ok();
    let grey = matches!(decoder.color_type(), ColorType::L8 | ColorType::La8 | ColorType::L16 | ColorType::La16);
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    if let Some(orientation) = orientation {
        image.apply_orientation(orientation);
    }
    let (width, height) = (image.width(), image.height());
    if width == 0 || height == 0 {
        return Err(format!("{width} × {height} pixels"));
    }
    let (channels, bytes) = if grey { (1, image.into_luma8().into_raw()) } else { (3, image.into_rgb8().into_raw()) };
    Ok(Decoded { width, height, channels, bytes: bytes.into() })
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(65_535);
    limits.max_image_height = Some(65_535);
    limits.max_alloc = Some(PIXELS_MAX * 8 + (64 << 20));
    limits
}

/// Whether an end marker follows the (first) scan. What comes before the scan is skipped by its lengths: an
/// EXIF thumbnail has an end marker of its own.
fn jpeg_has_end(file: &[u8]) -> bool {
    let mut at = 2;
    loop {
        let Some(&[0xFF, marker]) = file.get(at..at + 2) else { return false };
        if marker == 0xFF {
            at += 1; // a fill byte
            continue;
        }
        let Some(&[high, low]) = file.get(at + 2..at + 4) else { return false };
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
        if marker == 0xDA {
            return file.get(at..).is_some_and(|scan| scan.windows(2).rev().any(|pair| pair == [0xFF, 0xD9]));
        }
    }
}

/// Four bytes as a number.
fn four_at(file: &[u8], at: usize, read: fn([u8; 4]) -> u32) -> Option<usize> {
    usize::try_from(read(*file.get(at..)?.first_chunk::<4>()?)).ok()
}

/// Without what follows a WebP, where its decoder would look for chunks too.
fn within_riff(file: &[u8]) -> &[u8] {
    let size = four_at(file, 4, u32::from_le_bytes).filter(|_| file.starts_with(b"RIFF"));
    size.and_then(|size| file.get(..size.checked_add(8)?)).unwrap_or(file)
}

/// Whether palettes are made of whole colours.
fn png_palette_is_whole(file: &[u8]) -> bool {
    let mut at = 8;
    while let (Some(size), Some(name)) = (four_at(file, at, u32::from_be_bytes), file.get(at + 4..at + 8)) {
        if name == b"PLTE" && (size == 0 || !size.is_multiple_of(3)) {
            return false;
        }
        let Some(next) = size.checked_add(at + 12) else { break };
        at = next;
    }
    true
}

/// Whether all chunks end within the file.
fn webp_chunks_fit(file: &[u8]) -> bool {
    let mut at = 12;
    while at < file.len() {
        let Some(size) = four_at(file, at + 4, u32::from_le_bytes) else { return false };
        if size > file.len() - (at + 8) {
            return false;
        }
        // Of uneven ones a byte more, which at the end may be missing.
        at += 8 + size + size % 2;
    }
    true
}
