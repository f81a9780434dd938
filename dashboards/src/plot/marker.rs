//! Shapes that tell α.

use super::drawing::{Color, Drawing, Point, Shape};
use super::palette::WHITE;
use std::f64::consts::{PI, TAU};

/// How many shapes there are.
pub(super) const SHAPES: usize = 7;

/// Draws marker `shape`: filled, or hollow for what is not finished.
pub(super) fn draw(drawing: &mut Drawing, shape: usize, at: Point, radius: f64, color: Color, hollow: bool) {
    // A white rim keeps touching markers apart.
    push(drawing, shape, at, radius + 2.0, WHITE);
    push(drawing, shape, at, radius, color);
    if hollow {
        push(drawing, shape, at, radius - 3.0, WHITE);
    }
}

fn push(drawing: &mut Drawing, shape: usize, center: Point, radius: f64, color: Color) {
    // Sizes give all shapes about the same area as the circle.
    let polygon = |corners: u32, size: f64, turn: f64| {
        let points = (0..corners)
            .map(|corner| {
                let angle = turn + TAU * f64::from(corner) / f64::from(corners);
                (center.0 + radius * size * angle.sin(), center.1 - radius * size * angle.cos())
            })
            .collect();
        Shape::Polygon { points, color }
    };
    drawing.shapes.push(match shape % SHAPES {
        0 => Shape::Circle { center, radius, color },
        1 => polygon(4, 1.25, PI / 4.0),
        2 => polygon(3, 1.42, 0.0),
        3 => polygon(4, 1.3, 0.0),
        4 => polygon(3, 1.42, PI),
        5 => polygon(5, 1.15, 0.0),
        _ => polygon(6, 1.1, PI / 6.0),
    });
}
