//! Painting as SVG.

use super::drawing::{Color, Drawing, Text, WIDTH};
use super::lettering::Letters;
use super::{PlotError, paint};
use plotters::prelude::{DrawingBackend, SVGBackend};

/// plotters draws on whole numbers: a finer page keeps places to a tenth of a point.
const SCALE: f64 = 10.0;

/// The drawing as an SVG file. Text is outlines, so no viewer needs a font.
///
/// # Errors
/// When the painter fails.
pub fn svg(drawing: &Drawing) -> Result<String, PlotError> {
    let letters = Letters::new()?;
    let size = ((WIDTH * SCALE) as u32, (drawing.height * SCALE) as u32);
    let mut painted = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut painted, size);
        paint::shapes(drawing, &mut backend, SCALE)?;
        backend.present().map_err(paint::failed)?;
    }
    // plotters' own head says the fine page's size in pixels; the picture's size is the drawing's.
    let body = painted.split_once('>').map_or("", |(_, body)| body);
    let body =
        body.trim_start().strip_suffix("</svg>\n").or_else(|| body.trim().strip_suffix("</svg>")).unwrap_or(body);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{}\" viewBox=\"0 0 {} {}\" \
         role=\"img\">\n<title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n",
        drawing.height,
        size.0,
        size.1,
        escape(&drawing.title)
    );
    for text in &drawing.behind {
        out.push_str(&path(&letters, text));
    }
    out.push_str(body);
    for text in &drawing.texts {
        out.push_str(&path(&letters, text));
    }
    out.push_str("</svg>\n");
    Ok(out)
}

fn path(letters: &Letters, text: &Text) -> String {
    let data = letters.path(text, SCALE);
    let label = escape(&text.words);
    let rim = if text.rim > 0.0 {
        format!(
            "<path fill=\"none\" stroke=\"#FFFFFF\" stroke-width=\"{:.0}\" stroke-linejoin=\"round\" d=\"{data}\"/>\n",
            text.rim * 2.0 * SCALE
        )
    } else {
        String::new()
    };
    let opacity = if text.opacity < 1.0 { format!(" fill-opacity=\"{}\"", text.opacity) } else { String::new() };
    format!("{rim}<path aria-label=\"{label}\" fill=\"{}\"{opacity} d=\"{data}\"/>\n", hex(text.color))
}

fn hex(color: Color) -> String {
    format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
