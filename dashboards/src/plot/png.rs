//! Painting as PNG.

use super::drawing::{Color, Drawing, Text, WIDTH};
use super::lettering::Letters;
use super::palette::WHITE;
use super::{PlotError, paint};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::prelude::{BitMapBackend, DrawingBackend};

/// Painted so many times larger and then averaged: plotters does not smooth the edges of polygons.
const FINER: usize = 3;
/// Directions in which a text's rim is laid around it.
const RIM_STEPS: u32 = 16;

/// The drawing as a PNG file, a pixel for each point.
///
/// # Errors
/// When the painter or the encoder fails.
pub fn png(drawing: &Drawing) -> Result<Vec<u8>, PlotError> {
    let letters = Letters::new()?;
    let (width, height) = (WIDTH as usize, drawing.height as usize);
    let mut fine = Page { width: width * FINER, height: height * FINER, pixels: Vec::new() };
    fine.pixels = vec![255; fine.width * fine.height * 3];
    for text in &drawing.behind {
        fine.write(&letters, text);
    }
    {
        let mut backend =
            BitMapBackend::with_buffer(&mut fine.pixels, ((width * FINER) as u32, (height * FINER) as u32));
        paint::shapes(drawing, &mut backend, FINER as f64)?;
        backend.present().map_err(paint::failed)?;
    }
    for text in &drawing.texts {
        fine.write(&letters, text);
    }
    let mut file = Vec::new();
    PngEncoder::new_with_quality(&mut file, CompressionType::Default, FilterType::Adaptive).write_image(
        &fine.averaged(width, height),
        width as u32,
        height as u32,
        ExtendedColorType::Rgb8,
    )?;
    Ok(file)
}

/// Rows of red, green, blue.
struct Page {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Page {
    fn write(&mut self, letters: &Letters, text: &Text) {
        let scale = FINER as f64;
        if text.rim > 0.0 {
            for step in 0..RIM_STEPS {
                let angle = std::f64::consts::TAU * f64::from(step) / f64::from(RIM_STEPS);
                let mut rim = text.clone();
                rim.at = (text.at.0 + text.rim * angle.cos(), text.at.1 + text.rim * angle.sin());
                letters.pixels(&rim, scale, |x, y, coverage| self.blend(x, y, WHITE, coverage));
            }
        }
        letters.pixels(text, scale, |x, y, coverage| self.blend(x, y, text.color, coverage * text.opacity));
    }

    fn blend(&mut self, x: i32, y: i32, color: Color, strength: f64) {
        let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return };
        if x >= self.width || y >= self.height {
            return;
        }
        let at = (y * self.width + x) * 3;
        for (pixel, channel) in self.pixels[at..at + 3].iter_mut().zip([color.0, color.1, color.2]) {
            *pixel = (f64::from(*pixel) * (1.0 - strength) + f64::from(channel) * strength).round() as u8;
        }
    }

    fn averaged(&self, width: usize, height: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(width * height * 3);
        let count = (FINER * FINER) as u32;
        for y in 0..height {
            for x in 0..width {
                for channel in 0..3 {
                    let mut sum = 0;
                    for row in 0..FINER {
                        let start = ((y * FINER + row) * self.width + x * FINER) * 3 + channel;
                        sum += (0..FINER).map(|column| u32::from(self.pixels[start + column * 3])).sum::<u32>();
                    }
                    out.push(((sum + count / 2) / count) as u8);
                }
            }
        }
        out
    }
}
