//! What the terminal can show: colours, letters, and how to get on with less.
//!
//! Views paint in true colours and Unicode; [`Theme::finish`] then turns a drawn screen into what the terminal has.
//! Nothing is told by colour alone: series have shapes, states have signs, heat has numbers.

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

/// How many colours there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// None: `NO_COLOR`, or a terminal that has none.
    Plain,
    /// The terminal's own sixteen.
    Sixteen,
    /// The 6 × 6 × 6 cube and the greys.
    Indexed,
    /// 24 bits.
    True,
}

/// What a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Colours.
    pub depth: Depth,
    /// Letters of ASCII only: no braille, no box drawing.
    pub ascii: bool,
}

/// One colour in the three forms that terminals know.
struct Hue {
    rgb: (u8, u8, u8),
    indexed: u8,
    sixteen: Color,
}

const fn hue(rgb: (u8, u8, u8), indexed: u8, sixteen: Color) -> Hue {
    Hue { rgb, indexed, sixteen }
}

/// After Okabe and Ito, lightened where needed to be read on black as well as on white.
const SERIES: [Hue; 8] = [
    hue((86, 180, 233), 74, Color::Cyan),
    hue((230, 159, 0), 172, Color::Yellow),
    hue((0, 170, 125), 36, Color::Green),
    hue((214, 130, 178), 175, Color::Magenta),
    hue((222, 105, 30), 166, Color::Red),
    hue((60, 130, 210), 68, Color::Blue),
    hue((160, 160, 60), 143, Color::LightYellow),
    hue((150, 150, 150), 246, Color::White),
];
const FAINT: Hue = hue((128, 128, 128), 244, Color::DarkGray);
const RULE: Hue = hue((96, 96, 96), 240, Color::DarkGray);
const ACCENT: Hue = hue((86, 180, 233), 75, Color::Cyan);
const GOOD: Hue = hue((0, 170, 125), 37, Color::Green);
const WARN: Hue = hue((230, 159, 0), 178, Color::Yellow);
const BAD: Hue = hue((222, 105, 30), 167, Color::Red);

/// From dark blue to light yellow, evenly lighter, the same for every colour vision (after cividis).
const RAMP: [(u8, u8, u8); 6] =
    [(0, 34, 78), (39, 68, 108), (87, 92, 109), (124, 123, 120), (180, 167, 108), (254, 232, 90)];

/// Shapes of finished and of unfinished points, series by series.
const SHAPES: [(&str, &str); 8] =
    [("●", "○"), ("■", "□"), ("▲", "△"), ("◆", "◇"), ("★", "☆"), ("▼", "▽"), ("▶", "▷"), ("◀", "◁")];
/// The same in ASCII: capitals are finished.
const SHAPES_ASCII: [(&str, &str); 8] =
    [("A", "a"), ("B", "b"), ("C", "c"), ("D", "d"), ("E", "e"), ("F", "f"), ("G", "g"), ("H", "h")];

impl Theme {
    /// From the environment: `NO_COLOR`, `COLORTERM`, `TERM`, and the character set of the locale.
    #[must_use]
    pub fn detect(ascii: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let terminal = get("TERM").unwrap_or_default();
        let color = get("COLORTERM").unwrap_or_default();
        let locale = get("LC_ALL").or_else(|| get("LC_CTYPE")).or_else(|| get("LANG")).unwrap_or_default();
        let utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
        let depth =
            if get("NO_COLOR").is_some() || matches!(terminal.as_str(), "" | "dumb") || terminal.starts_with("vt") {
                Depth::Plain
            } else if matches!(color.as_str(), "truecolor" | "24bit") || terminal.ends_with("-direct") {
                Depth::True
            } else if terminal.contains("256") || terminal == "alacritty" || terminal.contains("kitty") {
                Depth::Indexed
            } else {
                Depth::Sixteen
            };
        // The console's own font has neither braille nor most shapes.
        Self { depth, ascii: ascii || !utf8 || matches!(terminal.as_str(), "" | "dumb" | "linux") }
    }

    /// Words. The terminal's own colour, also over what was drawn before.
    #[must_use]
    pub fn ink(&self) -> Style {
        Style::new().fg(Color::Reset)
    }

    /// Words that matter.
    #[must_use]
    pub fn strong(&self) -> Style {
        self.ink().add_modifier(Modifier::BOLD)
    }

    /// Words that matter less.
    #[must_use]
    pub fn faint(&self) -> Style {
        self.fg(&FAINT)
    }

    /// Borders and axes.
    #[must_use]
    pub fn rule(&self) -> Style {
        self.fg(&RULE)
    }

    /// Keys, the screen that is shown.
    #[must_use]
    pub fn accent(&self) -> Style {
        self.fg(&ACCENT)
    }

    /// As wished.
    #[must_use]
    pub fn good(&self) -> Style {
        self.fg(&GOOD)
    }

    /// To be looked at.
    #[must_use]
    pub fn warn(&self) -> Style {
        self.fg(&WARN)
    }

    /// Failed.
    #[must_use]
    pub fn bad(&self) -> Style {
        self.fg(&BAD)
    }

    /// Under the cursor.
    #[must_use]
    pub fn selected(&self) -> Style {
        Style::new().fg(Color::Reset).bg(Color::Reset).add_modifier(Modifier::REVERSED)
    }

    /// Colour of a series, by its place.
    #[must_use]
    pub fn series(&self, place: usize) -> Style {
        self.fg(&SERIES[place % SERIES.len()])
    }

    /// Shape of a series' points; filled when finished.
    #[must_use]
    pub fn shape(&self, place: usize, finished: bool) -> &'static str {
        let shapes = if self.ascii { &SHAPES_ASCII } else { &SHAPES };
        let (full, hollow) = shapes[place % shapes.len()];
        if finished { full } else { hollow }
    }

    /// Ground and words of a heat map, for a share of 0 to 1. Without enough colours there is no ground.
    #[must_use]
    pub fn heat(&self, share: f64) -> Style {
        if !self.has_ramp() {
            return Style::new();
        }
        let way = share.clamp(0.0, 1.0) * (RAMP.len() - 1) as f64;
        let below = (way as usize).min(RAMP.len() - 2);
        let part = way - below as f64;
        let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * part).round() as u8;
        let (from, to) = (RAMP[below], RAMP[below + 1]);
        let ground = (mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2));
        let light = 0.299 * f64::from(ground.0) + 0.587 * f64::from(ground.1) + 0.114 * f64::from(ground.2);
        let words = if light > 125.0 { Color::Rgb(16, 16, 16) } else { Color::Rgb(245, 245, 245) };
        Style::new().bg(Color::Rgb(ground.0, ground.1, ground.2)).fg(words)
    }

    /// Whether heat can be shown by colour.
    #[must_use]
    pub fn has_ramp(&self) -> bool {
        matches!(self.depth, Depth::Indexed | Depth::True)
    }

    fn fg(&self, hue: &Hue) -> Style {
        match self.depth {
            Depth::Plain => Style::new(),
            Depth::Sixteen => Style::new().fg(hue.sixteen),
            Depth::Indexed => Style::new().fg(Color::Indexed(hue.indexed)),
            Depth::True => Style::new().fg(Color::Rgb(hue.rgb.0, hue.rgb.1, hue.rgb.2)),
        }
    }

    /// Turns a drawn screen into what the terminal has.
    pub fn finish(&self, buffer: &mut Buffer) {
        for cell in &mut buffer.content {
            if self.ascii && !cell.symbol().is_ascii() {
                cell.set_symbol(ascii(cell.symbol()));
            }
            if self.depth != Depth::True {
                cell.fg = self.lower(cell.fg);
                cell.bg = self.lower(cell.bg);
            }
        }
    }

    fn lower(&self, color: Color) -> Color {
        match (self.depth, color) {
            (Depth::Plain, _) | (Depth::Sixteen, Color::Rgb(..) | Color::Indexed(_)) => Color::Reset,
            (Depth::Indexed, Color::Rgb(red, green, blue)) => Color::Indexed(cube(red, green, blue)),
            (_, color) => color,
        }
    }
}

/// The nearest of the 6 × 6 × 6 cube or the 24 greys.
fn cube(red: u8, green: u8, blue: u8) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let near = |value: u8| (0..6u8).min_by_key(|place| LEVELS[usize::from(*place)].abs_diff(value)).unwrap_or(0);
    let far = |a: (u8, u8, u8)| {
        let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
        square(a.0, red) + square(a.1, green) + square(a.2, blue)
    };
    let (r, g, b) = (near(red), near(green), near(blue));
    let in_cube = far((LEVELS[usize::from(r)], LEVELS[usize::from(g)], LEVELS[usize::from(b)]));
    let mean = (u16::from(red) + u16::from(green) + u16::from(blue)) / 3;
    let step = (mean.saturating_sub(3) / 10).min(23) as u8;
    let grey = 8 + 10 * step;
    if far((grey, grey, grey)) < in_cube { 232 + step } else { 16 + 36 * r + 6 * g + b }
}

/// What stands for a sign where there is only ASCII; one column wide, like what it replaces.
fn ascii(symbol: &str) -> &'static str {
    match symbol {
        "α" => "a",
        "ρ" => "r",
        "─" | "╌" | "–" | "—" | "━" | "┄" => "-",
        "│" | "┆" | "┃" => "|",
        "┏" | "┓" | "┗" | "┛" | "┌" | "┐" | "└" | "┘" | "╭" | "╮" | "╰" | "╯" | "├" | "┤" | "┬" | "┴" | "┼" => {
            "+"
        }
        "×" | "✕" | "✗" => "x",
        "²" => "2",
        "·" | "…" => ".",
        "█" | "▓" | "●" | "■" => "#",
        "▒" | "▬" => "=",
        "░" | "○" | "□" => ".",
        "▁" | "▂" => "_",
        "▃" | "▄" => "-",
        "▅" | "▆" => "=",
        "▇" => "#",
        "▲" | "↑" => "^",
        "▼" | "↓" => "v",
        "▶" | "→" | "›" | "▸" => ">",
        "◀" | "◂" | "←" | "‹" => "<",
        "±" => "~",
        "✓" => "+",
        "✚" | "◆" => "*",
        "‖" => "=",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides() {
        let check = |variables: &[(&str, &str)], ascii_wanted: bool, depth: Depth, ascii: bool| {
            let get =
                |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
            assert_eq!(Theme::detect(ascii_wanted, get), Theme { depth, ascii }, "{variables:?}");
        };
        let utf8 = ("LANG", "C.UTF-8");
        check(&[("TERM", "xterm"), utf8], false, Depth::Sixteen, false);
        check(&[("TERM", "tmux-256color"), utf8], false, Depth::Indexed, false);
        check(&[("TERM", "screen-256color"), ("COLORTERM", "truecolor"), utf8], false, Depth::True, false);
        check(&[("TERM", "xterm-256color"), ("NO_COLOR", "1"), utf8], false, Depth::Plain, false);
        check(&[("TERM", "xterm-256color"), ("NO_COLOR", ""), utf8], true, Depth::Indexed, true);
        check(&[("TERM", "dumb"), utf8], false, Depth::Plain, true);
        check(&[("TERM", "linux"), utf8], false, Depth::Sixteen, true);
        check(&[("TERM", "xterm-256color"), ("LANG", "C")], false, Depth::Indexed, true);
        check(&[("TERM", "xterm"), ("LC_ALL", "C"), utf8], false, Depth::Sixteen, true);
        check(&[], false, Depth::Plain, true);
    }

    #[test]
    fn a_screen_has_only_what_the_terminal_has() {
        for (depth, heat) in [
            (Depth::Plain, Color::Reset),
            (Depth::Sixteen, Color::Reset),
            (Depth::Indexed, Color::Indexed(17)),
            (Depth::True, Color::Rgb(0, 34, 78)),
        ] {
            let theme = Theme { depth, ascii: true };
            let mut buffer = Buffer::with_lines(["α 0.5 ●─┼ ⣿"]);
            let style = Theme { depth: Depth::True, ascii: false }.heat(0.0);
            buffer.set_style(buffer.area, style);
            theme.finish(&mut buffer);
            let text: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
            assert_eq!(text, "a 0.5 #-+ ?");
            assert_eq!(buffer.content[0].bg, heat, "{depth:?}");
        }
    }

    #[test]
    fn series_differ_in_shape_and_colour() {
        for ascii in [false, true] {
            let theme = Theme { depth: Depth::True, ascii };
            let mut seen = std::collections::BTreeSet::new();
            for place in 0..8 {
                for finished in [false, true] {
                    assert!(seen.insert(theme.shape(place, finished)), "{place} {finished}");
                }
            }
        }
    }

    #[test]
    fn heat_can_be_read() {
        let theme = Theme { depth: Depth::True, ascii: false };
        for step in 0..=20 {
            let style = theme.heat(f64::from(step) / 20.0);
            let (Some(Color::Rgb(r, g, b)), Some(Color::Rgb(word, ..))) = (style.bg, style.fg) else {
                panic!("{style:?}")
            };
            let light = (u32::from(r) * 299 + u32::from(g) * 587 + u32::from(b) * 114) / 1000;
            assert!(light.abs_diff(u32::from(word)) > 100, "step {step}: {light} under {word}");
        }
    }
}
