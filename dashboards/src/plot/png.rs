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
            *pixel = (f64::from(*pixel) * (1.0 - strength) + f64::from(channel) * strength + 0.5) as u8;
        }
    }

    fn averaged(&self, width: usize, height: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(width * height * 3);
        let count = (FINER * FINER) as u32;
        for rows in self.pixels.chunks_exact(FINER * self.width * 3) {
            for x in 0..width {
                let mut sums = [0; 3];
                for row in rows.chunks_exact(self.width * 3) {
                    for pixel in row[x * FINER * 3..(x + 1) * FINER * 3].chunks_exact(3) {
                        sums.iter_mut().zip(pixel).for_each(|(sum, channel)| *sum += u32::from(*channel));
                    }
                }
                out.extend(sums.map(|sum| ((sum + count / 2) / count) as u8));
            }
        }
        out
    }
}
