//! Shapes onto any backend of plotters.

use super::PlotError;
use super::drawing::{Color, Drawing, Point, Shape};
use plotters::prelude::{DrawingBackend, RGBAColor, ShapeStyle};

pub(super) fn shapes<B: DrawingBackend>(drawing: &Drawing, backend: &mut B, scale: f64) -> Result<(), PlotError> {
    let place = |point: &Point| ((point.0 * scale).round() as i32, (point.1 * scale).round() as i32);
    for shape in &drawing.shapes {
        let painted = match shape {
            Shape::Line { points, width, color } => {
                let style = style(*color, (width * scale).round().max(1.0) as u32);
                backend.draw_path(points.iter().map(place), &style)
            }
            Shape::Polygon { points, color } => backend.fill_polygon(points.iter().map(place), &style(*color, 1)),
            Shape::Circle { center, radius, color } => {
                backend.draw_circle(place(center), (radius * scale).round() as u32, &style(*color, 1), true)
            }
        };
        painted.map_err(failed)?;
    }
    Ok(())
}

/// An error of plotters as ours.
pub(super) fn failed(error: impl std::fmt::Display) -> PlotError {
    PlotError::Paint(error.to_string())
}

fn style(color: Color, stroke_width: u32) -> ShapeStyle {
    ShapeStyle { color: rgba(color, 1.0), filled: true, stroke_width }
}

fn rgba(color: Color, opacity: f64) -> RGBAColor {
    RGBAColor(color.0, color.1, color.2, opacity)
}
