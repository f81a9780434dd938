//! Text as outlines of the bundled font: it looks the same on every machine, with no fonts installed.

use super::PlotError;
use super::drawing::{Anchor, Point, Text};
use ab_glyph::{Font, FontRef, GlyphId, Outline, OutlineCurve, PxScale};

static REGULAR: &[u8] = include_bytes!("../../fonts/DejaVuSans.subset.ttf");
static BOLD: &[u8] = include_bytes!("../../fonts/DejaVuSans-Bold.subset.ttf");

/// The two weights.
pub(super) struct Letters {
    regular: FontRef<'static>,
    bold: FontRef<'static>,
}

impl Letters {
    pub(super) fn new() -> Result<Self, PlotError> {
        Ok(Self { regular: FontRef::try_from_slice(REGULAR)?, bold: FontRef::try_from_slice(BOLD)? })
    }

    /// Length of the words at this size.
    pub(super) fn width(&self, words: &str, size: f64, bold: bool) -> f64 {
        self.set(words, size, bold).1
    }

    /// Of capital letters and digits, as a share of the size: where a label's box begins above its baseline.
    pub(super) const CAP_HEIGHT: f64 = 0.73;

    /// The text as the data of an SVG path, its coordinates times `scale`.
    pub(super) fn path(&self, text: &Text, scale: f64) -> String {
        let font = self.font(text.bold);
        let unit = text.size / f64::from(font.units_per_em().unwrap_or(2048.0));
        let (glyphs, width) = self.set(&text.words, text.size, text.bold);
        let start = -offset(text.anchor, width);
        let mut data = String::new();
        for (glyph, x) in glyphs {
            let Some(outline) = font.outline(glyph) else { continue };
            let place = |point: ab_glyph::Point| {
                let local = (start + x + f64::from(point.x) * unit, -f64::from(point.y) * unit);
                let (x, y) = turned(text, local);
                format!("{} {}", tidy(x * scale), tidy(y * scale))
            };
            contours(&outline, place, &mut data);
        }
        data
    }

    /// Calls `ink` with each pixel of a page `scale` times as large that the text touches, and how much of it is
    /// covered.
    pub(super) fn pixels(&self, text: &Text, scale: f64, mut ink: impl FnMut(i32, i32, f64)) {
        let font = self.font(text.bold);
        let em = f64::from(font.units_per_em().unwrap_or(2048.0));
        let height = PxScale::from((text.size * scale * f64::from(font.height_unscaled()) / em) as f32);
        let (glyphs, width) = self.set(&text.words, text.size, text.bold);
        let start = -offset(text.anchor, width);
        let (page_x, page_y) = (text.at.0 * scale, text.at.1 * scale);
        for (glyph, x) in glyphs {
            let along = (start + x) * scale;
            // Upright text is set at its true place; upwards text around the origin, then turned.
            let origin = if text.upwards { (along, 0.0) } else { (page_x + along, page_y) };
            let placed = glyph.with_scale_and_position(height, ab_glyph::point(origin.0 as f32, origin.1 as f32));
            let Some(outlined) = font.outline_glyph(placed) else { continue };
            let bounds = outlined.px_bounds();
            outlined.draw(|right, down, coverage| {
                let (x, y) = (bounds.min.x as i32 + right as i32, bounds.min.y as i32 + down as i32);
                let (x, y) = if text.upwards { (page_x as i32 + y, page_y as i32 - x) } else { (x, y) };
                ink(x, y, f64::from(coverage.clamp(0.0, 1.0)));
            });
        }
    }

    fn font(&self, bold: bool) -> &FontRef<'static> {
        if bold { &self.bold } else { &self.regular }
    }

    /// The glyphs with their distances from the start, and the length of all.
    fn set(&self, words: &str, size: f64, bold: bool) -> (Vec<(GlyphId, f64)>, f64) {
        let font = self.font(bold);
        let unit = size / f64::from(font.units_per_em().unwrap_or(2048.0));
        let mut glyphs = Vec::new();
        let mut at = 0.0;
        let mut previous: Option<GlyphId> = None;
        for letter in words.chars() {
            let glyph = font.glyph_id(letter);
            if let Some(previous) = previous {
                at += f64::from(font.kern_unscaled(previous, glyph)) * unit;
            }
            glyphs.push((glyph, at));
            at += f64::from(font.h_advance_unscaled(glyph)) * unit;
            previous = Some(glyph);
        }
        (glyphs, at)
    }
}

fn offset(anchor: Anchor, width: f64) -> f64 {
    match anchor {
        Anchor::Start => 0.0,
        Anchor::Middle => width / 2.0,
        Anchor::End => width,
    }
}

/// From the text's own axes to the page's.
fn turned(text: &Text, local: Point) -> Point {
    if text.upwards { (text.at.0 + local.1, text.at.1 - local.0) } else { (text.at.0 + local.0, text.at.1 + local.1) }
}

fn contours(outline: &Outline, place: impl Fn(ab_glyph::Point) -> String, data: &mut String) {
    let mut pen: Option<ab_glyph::Point> = None;
    for curve in &outline.curves {
        let (from, to, step) = match curve {
            OutlineCurve::Line(from, to) => (*from, *to, format!("L{}", place(*to))),
            OutlineCurve::Quad(from, by, to) => (*from, *to, format!("Q{} {}", place(*by), place(*to))),
            OutlineCurve::Cubic(from, by, and, to) => {
                (*from, *to, format!("C{} {} {}", place(*by), place(*and), place(*to)))
            }
        };
        if pen != Some(from) {
            if pen.is_some() {
                data.push('Z');
            }
            data.push_str(&format!("M{}", place(from)));
        }
        data.push_str(&step);
        pen = Some(to);
    }
    if pen.is_some() {
        data.push('Z');
    }
}

/// One decimal, and none where it is 0.
fn tidy(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_that_plots_use_is_in_both_fonts() {
        let letters = Letters::new().unwrap();
        for bold in [false, true] {
            let font = letters.font(bold);
            for letter in "abcxyzABCXYZ0123456789 αρ×·–%(),.:-/_²".chars() {
                assert_ne!(font.glyph_id(letter).0, 0, "{letter:?}");
            }
        }
    }

    #[test]
    fn width_grows_with_words_and_size() {
        let letters = Letters::new().unwrap();
        let narrow = letters.width("0.75-160", 20.0, false);
        assert!((letters.width("0.75-160", 40.0, false) - 2.0 * narrow).abs() < 1e-3);
        assert!(letters.width("0.75-160", 20.0, true) > narrow);
    }
}
