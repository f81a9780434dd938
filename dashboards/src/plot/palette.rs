//! Colours that people with any colour vision can tell apart.

use super::drawing::Color;

/// Okabe and Ito's palette without its yellow, which cannot be seen on white, and without black.
const OKABE_ITO: [Color; 6] = [
    Color(0, 114, 178),
    Color(213, 94, 0),
    Color(0, 158, 115),
    Color(204, 121, 167),
    Color(230, 159, 0),
    Color(86, 180, 233),
];

/// Ends and middle of a ramp from dark blue to ochre (after cividis), for more colours than can be told apart.
const RAMP: [Color; 5] =
    [Color(0, 40, 95), Color(70, 80, 108), Color(122, 121, 120), Color(170, 155, 100), Color(214, 182, 60)];

/// The colour of item `place` of `count`.
pub(super) fn color(place: usize, count: usize) -> Color {
    if count <= OKABE_ITO.len() {
        return OKABE_ITO[place % OKABE_ITO.len()];
    }
    let way = place as f64 / (count - 1) as f64 * (RAMP.len() - 1) as f64;
    let below = (way.floor() as usize).min(RAMP.len() - 2);
    let share = way - below as f64;
    let (from, to) = (RAMP[below], RAMP[below + 1]);
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
    Color(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

/// Axes and words.
pub(super) const INK: Color = Color(34, 34, 34);
/// Less important words, leader lines.
pub(super) const GREY: Color = Color(110, 110, 110);
/// What others published.
pub(super) const FAINT: Color = Color(165, 165, 165);
/// Lines of the grid.
pub(super) const GRID: Color = Color(230, 230, 230);
/// The Pareto front.
pub(super) const FRONT: Color = Color(90, 90, 90);
/// Paper.
pub(super) const WHITE: Color = Color(255, 255, 255);
