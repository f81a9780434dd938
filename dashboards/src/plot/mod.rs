//! Figures. What is drawn ([`drawing`]) is decided apart from how it is painted ([`svg`], [`png`]): so that
//! both files show the same, and the layout can be tested without a picture.

pub mod drawing;
mod labels;
mod legend;
mod lettering;
mod marker;
mod paint;
mod palette;
mod png;
mod scale;
mod svg;
mod tradeoff;

pub use png::png;
pub use svg::svg;
pub use tradeoff::tradeoff;

use thiserror::Error;

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
