//! Figures. What is drawn ([`drawing`]) is decided apart from how it is painted ([`svg`], [`png`]): so that
//! both files show the same, and the layout can be tested without a picture.

mod axis;
mod curves;
pub mod drawing;
mod labels;
mod legend;
mod lettering;
mod marker;
mod multiples;
mod paint;
mod palette;
mod parameters;
mod png;
mod residuals;
pub(crate) mod scale;
mod scatter;
mod svg;
mod time;
mod tradeoff;

pub use curves::{curves, staleness};
pub use parameters::parameters;
pub use png::png;
pub use svg::svg;
pub use time::time;
pub use tradeoff::tradeoff;

use crate::results::Results;
use drawing::Drawing;
use thiserror::Error;

/// The plot of this name, see [`crate::selection::PLOTS`]; `None` if there is no such plot, or the sweep has nothing
/// to show in it.
///
/// # Errors
/// When the bundled font cannot be read.
pub fn plot(name: &str, results: &Results) -> Result<Option<Drawing>, PlotError> {
    Ok(match name {
        "tradeoff" => Some(tradeoff(results)?),
        "parameters" => Some(parameters(results)?),
        "curves" => Some(curves(results)?),
        "time" => Some(time(results)?),
        "staleness" => staleness(results)?,
        _ => None,
    })
}

/// Why a figure could not be painted.
#[derive(Debug, Error)]
pub enum PlotError {
    /// The bundled font is broken.
    #[error("the font that is built into this program cannot be read: {0}")]
    Font(#[from] ab_glyph::InvalidFont),
    /// The painter.
    #[error("cannot paint the plot: {0}")]
    Paint(String),
    /// The PNG encoder.
    #[error("cannot encode the plot as PNG: {0}")]
    Png(#[from] image::ImageError),
}
