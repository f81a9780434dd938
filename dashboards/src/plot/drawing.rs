//! What is on a page: shapes, and text above them. Units are points, x to the right, y down.

/// Width of every figure.
pub const WIDTH: f64 = 1600.0;

/// A place.
pub type Point = (f64, f64);

/// Red, green, blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Color(pub u8, pub u8, pub u8);

/// Something drawn. All colours cover what lies below.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// A line through points.
    Line {
        /// Two or more.
        points: Vec<Point>,
        /// Thickness.
        width: f64,
        /// Its colour.
        color: Color,
    },
    /// A filled polygon.
    Polygon {
        /// Its corners.
        points: Vec<Point>,
        /// Its colour.
        color: Color,
    },
    /// A filled circle.
    Circle {
        /// Its centre.
        center: Point,
        /// Its radius.
        radius: f64,
        /// Its colour.
        color: Color,
    },
}

/// Where a text's `at` lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// At its left end.
    Start,
    /// At its middle.
    Middle,
    /// At its right end.
    End,
}

/// A line of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// On the baseline.
    pub at: Point,
    /// Which part of it is there.
    pub anchor: Anchor,
    /// Height of the em square.
    pub size: f64,
    /// Bold.
    pub bold: bool,
    /// Its colour.
    pub color: Color,
    /// 1: covers what lies below.
    pub opacity: f64,
    /// Reads from bottom to top.
    pub upwards: bool,
    /// A white rim of this width, so that it can be read above lines.
    pub rim: f64,
    /// The words.
    pub words: String,
}

impl Text {
    /// Plain, dark, from left to right.
    #[must_use]
    pub fn new(words: impl Into<String>, at: Point, size: f64) -> Self {
        Self {
            at,
            anchor: Anchor::Start,
            size,
            bold: false,
            color: Color(34, 34, 34),
            opacity: 1.0,
            upwards: false,
            rim: 0.0,
            words: words.into(),
        }
    }

    /// Elsewhere anchored.
    #[must_use]
    pub fn anchored(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    /// In another colour.
    #[must_use]
    pub fn colored(mut self, color: Color) -> Self {
        self.color = color;
        self
    }
}

/// A whole figure on white.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drawing {
    /// For those who cannot see it.
    pub title: String,
    /// Height of the page; its width is [`WIDTH`].
    pub height: f64,
    /// Below all shapes.
    pub behind: Vec<Text>,
    /// From back to front.
    pub shapes: Vec<Shape>,
    /// Above all shapes.
    pub texts: Vec<Text>,
}

impl Drawing {
    /// An empty page.
    #[must_use]
    pub fn new(title: impl Into<String>, height: f64) -> Self {
        Self { title: title.into(), height, ..Self::default() }
    }

    /// A dashed line through points.
    pub fn dashes(&mut self, from: Point, to: Point, width: f64, color: Color) {
        const DASH: f64 = 9.0;
        const GAP: f64 = 7.0;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        let at = |way: f64| (from.0 + dx * way / length, from.1 + dy * way / length);
        let mut way = 0.0;
        while way < length {
            self.line(at(way), at((way + DASH).min(length)), width, color);
            way += DASH + GAP;
        }
    }

    /// A straight line.
    pub fn line(&mut self, from: Point, to: Point, width: f64, color: Color) {
        self.shapes.push(Shape::Line { points: vec![from, to], width, color });
    }
}
