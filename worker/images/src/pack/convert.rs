//! One image of a source → what is stored of it.

use super::layout::Kind;
use super::partial::Record;
use super::write::PackForm;
use crate::dataset::Sample;
use crate::decode::{Decoded, View, decode, usual_jpeg};
use crate::draw::Rect;
use crate::files::FileBuffer;
use crate::jpeg::Region;
use crate::render::{Renderer, resize};
use crate::sources::Store;
use fast_image_resize::Resizer;
use fast_image_resize::pixels::{U8, U8x3};
use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageReader};
use parquet::data_type::ByteArray;
use std::io::Cursor;

/// Where an image is taken from.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    /// To be read by whoever wants it.
    Stored(&'a Store, &'a Sample),
    /// A file, as a row had it.
    Row(ByteArray),
}

/// One for each thread.
pub(super) struct Converter {
    form: PackForm,
    size: Option<u32>,
    renderer: Renderer,
    resizer: Resizer,
    buffer: FileBuffer,
}

impl Converter {
    pub(super) fn new(form: PackForm, size: Option<u32>) -> Self {
        Self { form, size, renderer: Renderer::default(), resizer: Resizer::default(), buffer: FileBuffer::default() }
    }

    /// The error says what is wrong with the image.
    pub(super) fn convert(&mut self, bytes: &Bytes<'_>) -> Result<Record, String> {
        match bytes {
            Bytes::Stored(store, sample) => {
                if let Some(view) = store.view(sample)? {
                    return self.pixels(view);
                }
                let mut buffer = std::mem::take(&mut self.buffer);
                let record = store.read(sample, &mut buffer).and_then(|file| self.file(file));
                self.buffer = buffer;
                record
            }
            Bytes::Row(file) => self.file(file.data()),
        }
    }

    fn file(&mut self, file: &[u8]) -> Result<Record, String> {
        if let PackForm::Files { .. } = self.form
            && !self.is_to_shrink(file)
        {
            self.check(file)?;
            return Ok(Record { kind: Kind::File, width: 0, height: 0, content: file.to_vec() });
        }
        let image = decode(file)?;
        self.pixels(image.view())
    }

    /// Whether an image file is larger than is wanted. Not of what is broken: a check says so.
    fn is_to_shrink(&mut self, file: &[u8]) -> bool {
        let Some(size) = self.size else { return false };
        let shorter = match usual_jpeg(&mut self.renderer, file) {
            Some(header) => header.width.min(header.height),
            None => {
                let reader = ImageReader::new(Cursor::new(file)).with_guessed_format();
                let sides = reader.ok().and_then(|reader| reader.into_dimensions().ok());
                sides.map_or(0, |(width, height)| width.min(height))
            }
        };
        shorter > size
    }

    /// Looks at all of a file, as training does the first time.
    fn check(&mut self, file: &[u8]) -> Result<(), String> {
        if let Some(header) = usual_jpeg(&mut self.renderer, file) {
            // As few pixels as will do, of all of the scan.
            let region = Region::coarse(&header);
            if self.renderer.jpeg.decode(file, &header, &region, None).is_ok() {
                return Ok(());
            }
        }
        decode(file).map(drop)
    }

    fn pixels(&mut self, image: View<'_>) -> Result<Record, String> {
        let shorter = image.width.min(image.height);
        let shrunk = match self.size {
            Some(size) if shorter > size => Some(self.shrink(image, size)?),
            _ => None,
        };
        let was_shrunk = shrunk.is_some();
        let View { width, height, channels, bytes } = shrunk.as_ref().map_or(image, Decoded::view);
        match self.form {
            PackForm::Files { quality } if was_shrunk => {
                let colours = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
                let mut content = Vec::new();
                let mut encoder = JpegEncoder::new_with_quality(&mut content, quality);
                encoder.encode(bytes, width, height, colours).map_err(|error| format!("as JPEG: {error}"))?;
                Ok(Record { kind: Kind::File, width: 0, height: 0, content })
            }
            // Of a source of pixels they are what it has.
            PackForm::Files { .. } | PackForm::Raw => {
                let kind = if channels == 1 { Kind::Grey } else { Kind::Rgb };
                let content = match shrunk {
                    Some(image) => image.bytes.into_vec(),
                    None => bytes.to_vec(),
                };
                Ok(Record { kind, width, height, content })
            }
        }
    }

    /// So that the shorter side is `size`; each pixel is the average of those that it stands for.
    fn shrink(&mut self, image: View<'_>, size: u32) -> Result<Decoded, String> {
        let shorter = u64::from(image.width.min(image.height)).max(1);
        let side = |side: u32| {
            let rounded = (u64::from(side) * u64::from(size) + shorter / 2) / shorter;
            u32::try_from(rounded).unwrap_or(u32::MAX).max(1)
        };
        let (width, height) = (side(image.width), side(image.height));
        let mut bytes = vec![0; width as usize * height as usize * usize::from(image.channels)];
        let whole = Rect { left: 0.0, top: 0.0, width: f64::from(image.width), height: f64::from(image.height) };
        match image.channels {
            1 => resize::<U8>(&mut self.resizer, image, &whole, (width, height), &mut bytes)?,
            _ => resize::<U8x3>(&mut self.resizer, image, &whole, (width, height), &mut bytes)?,
        }
        Ok(Decoded { width, height, channels: image.channels, bytes: bytes.into() })
    }
}
