//! Where labels go: beside their markers, on nothing else.
//!
//! Each label has candidate places around its marker, near ones first. A greedy pass in the given order is
//! followed by rounds in which each label may move to a better place, given all others. What still overlaps a
//! label or a marker then is left out: a missing label is better than an unreadable one.

use super::drawing::Point;
use std::f64::consts::TAU;

/// Rounds of improvement; placements settle in two or three.
const ROUNDS: usize = 6;
/// Distances from the marker's edge to the label's.
const DISTANCES: [f64; 9] = [5.0, 12.0, 22.0, 36.0, 54.0, 76.0, 102.0, 132.0, 166.0];
/// Directions from the marker.
const DIRECTIONS: u32 = 24;
/// Labels further away than this are tied to their marker by a line.
const LEADER_FROM: f64 = 20.0;
/// Free room around a label.
const MARGIN: f64 = 3.0;
/// Worse than any number of blemishes.
const FORBIDDEN: f64 = 1e6;

/// A rectangle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Rect {
    fn centered(center: Point, width: f64, height: f64) -> Self {
        Self {
            left: center.0 - width / 2.0,
            top: center.1 - height / 2.0,
            right: center.0 + width / 2.0,
            bottom: center.1 + height / 2.0,
        }
    }

    fn grown(self, by: f64) -> Self {
        Self { left: self.left - by, top: self.top - by, right: self.right + by, bottom: self.bottom + by }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    fn holds(&self, inner: &Self) -> bool {
        self.left <= inner.left && self.top <= inner.top && inner.right <= self.right && inner.bottom <= self.bottom
    }

    fn nearest(&self, to: Point) -> Point {
        (to.0.clamp(self.left, self.right), to.1.clamp(self.top, self.bottom))
    }

    /// Distance of a point outside.
    fn away(&self, from: Point) -> f64 {
        let near = self.nearest(from);
        (near.0 - from.0).hypot(near.1 - from.1)
    }

    /// Length of the part of a segment that lies inside.
    fn crossed(&self, (from, to): (Point, Point)) -> f64 {
        self.clipped(from, to).map_or(0.0, |(from, to)| (to.0 - from.0).hypot(to.1 - from.1))
    }

    /// The part of a segment that lies inside (Liang and Barsky's clipping).
    pub(super) fn clipped(&self, from: Point, to: Point) -> Option<(Point, Point)> {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
        for (step, distance) in
            [(-dx, from.0 - self.left), (dx, self.right - from.0), (-dy, from.1 - self.top), (dy, self.bottom - from.1)]
        {
            if step == 0.0 {
                if distance < 0.0 {
                    return None;
                }
            } else if step < 0.0 {
                enter = enter.max(distance / step);
            } else {
                leave = leave.min(distance / step);
            }
        }
        let at = |way: f64| (from.0 + dx * way, from.1 + dy * way);
        (enter < leave).then(|| (at(enter), at(leave)))
    }
}

/// A marker that wants a label.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The marker's centre.
    pub(super) at: Point,
    /// Size of the label.
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A label's place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Placed {
    /// Its box.
    pub(super) place: Rect,
    /// A line from the marker to it, where it is not beside it.
    pub(super) leader: Option<(Point, Point)>,
}

/// What labels must keep away from.
pub(super) struct Surroundings<'a> {
    /// Centres of all markers.
    pub(super) markers: &'a [Point],
    /// Their radius.
    pub(super) radius: f64,
    /// Lines: better not crossed.
    pub(super) lines: &'a [(Point, Point)],
    /// Labels lie within.
    pub(super) area: Rect,
}

/// Places for the labels, in the order of `wanted`; `None` where there is no room.
pub(super) fn place(wanted: &[Wanted], around: &Surroundings<'_>) -> Vec<Option<Placed>> {
    let candidates: Vec<Vec<(Placed, f64)>> = wanted.iter().map(|label| candidates(label, around)).collect();
    let mut chosen: Vec<Option<Placed>> = vec![None; wanted.len()];
    for label in crowded_first(wanted) {
        chosen[label] = best(label, &candidates, &chosen).map(|(place, _)| place);
    }
    for _ in 0..ROUNDS {
        let mut moved = false;
        for label in 0..wanted.len() {
            let better = best(label, &candidates, &chosen).map(|(place, _)| place);
            moved |= better != chosen[label];
            chosen[label] = better;
        }
        if !moved {
            break;
        }
    }
    for label in 0..wanted.len() {
        // Its best place now, which the rounds may not have reached.
        let place = best(label, &candidates, &chosen).filter(|(_, cost)| *cost < FORBIDDEN);
        chosen[label] = place.map(|(place, _)| place);
    }
    chosen
}

fn crowded_first(wanted: &[Wanted]) -> Vec<usize> {
    let crowd = |label: &Wanted| -> f64 {
        wanted.iter().map(|other| 1.0 / (30.0 + (other.at.0 - label.at.0).hypot(other.at.1 - label.at.1))).sum()
    };
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| crowd(&wanted[*b]).total_cmp(&crowd(&wanted[*a])).then(a.cmp(b)));
    order
}

/// All places of a label that are not forbidden, with what is wrong with each, other labels aside.
fn candidates(label: &Wanted, around: &Surroundings<'_>) -> Vec<(Placed, f64)> {
    let mut out = Vec::new();
    for (near, distance) in DISTANCES.iter().enumerate() {
        for step in 0..DIRECTIONS {
            let angle = TAU * f64::from(step) / f64::from(DIRECTIONS);
            let (right, down) = (angle.cos(), -angle.sin());
            let reach = around.radius + distance;
            // The box touches the ray where it leaves the marker's surroundings.
            let center = (
                label.at.0 + right * reach + label.width / 2.0 * stretched(right),
                label.at.1 + down * reach + label.height / 2.0 * stretched(down),
            );
            let place = Rect::centered(center, label.width, label.height);
            let leader = (*distance > LEADER_FROM)
                .then(|| (rim(label.at, place.nearest(label.at), around.radius), place.nearest(label.at)));
            // Left above and right below are free along a rising front; straight sides read best.
            let lean = if (right < -0.1 && down < -0.1) || (right > 0.1 && down > 0.1) { 0.0 } else { 3.0 };
            let cost = 4.0 * near as f64 + distance * 0.5 + lean + blemishes(&place, leader, label.at, around);
            if cost < FORBIDDEN {
                out.push((Placed { place, leader }, cost));
            }
        }
    }
    out
}

/// Pushes the box fully past the ray's end sooner than a circle would, so that flat boxes sit beside markers.
fn stretched(direction: f64) -> f64 {
    (direction * 1.4).clamp(-1.0, 1.0)
}

fn rim(center: Point, towards: Point, radius: f64) -> Point {
    let (dx, dy) = (towards.0 - center.0, towards.1 - center.1);
    let length = dx.hypot(dy).max(1e-9);
    (center.0 + dx / length * (radius + 2.0), center.1 + dy / length * (radius + 2.0))
}

fn blemishes(place: &Rect, leader: Option<(Point, Point)>, own: Point, around: &Surroundings<'_>) -> f64 {
    let mut cost = 0.0;
    if !around.area.holds(place) {
        cost += FORBIDDEN;
    }
    for marker in around.markers {
        let side = 2.0 * around.radius;
        let square = Rect::centered(*marker, side, side);
        if place.grown(1.0).overlaps(&square) {
            cost += FORBIDDEN;
        }
        if *marker != own && leader.is_some_and(|leader| square.crossed(leader) > 0.0) {
            cost += 300.0;
        }
        // Without a line to its marker a label is read as the nearest one's.
        if *marker != own && leader.is_none() && place.away(*marker) < 1.5 * place.away(own) {
            cost += 150.0;
        }
    }
    for line in around.lines {
        let crossed = place.grown(1.0).crossed(*line);
        if crossed > 0.0 {
            cost += 25.0 + crossed;
        }
        if leader.is_some_and(|leader| meet(leader, *line)) {
            cost += 20.0;
        }
    }
    cost
}

fn best(label: usize, candidates: &[Vec<(Placed, f64)>], chosen: &[Option<Placed>]) -> Option<(Placed, f64)> {
    let others: Vec<&Placed> = chosen
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != label)
        .filter_map(|(_, place)| place.as_ref())
        .collect();
    let total = |(place, cost): &(Placed, f64)| cost + others.iter().map(|other| conflict(place, other)).sum::<f64>();
    candidates[label].iter().map(|candidate| (candidate.0, total(candidate))).min_by(|a, b| a.1.total_cmp(&b.1))
}

fn conflict(a: &Placed, b: &Placed) -> f64 {
    let mut cost = 0.0;
    if a.place.grown(MARGIN).overlaps(&b.place) {
        cost += FORBIDDEN;
    }
    for (leader, place) in [(a.leader, &b.place), (b.leader, &a.place)] {
        if leader.is_some_and(|leader| place.grown(1.0).crossed(leader) > 0.0) {
            cost += 1_000.0;
        }
    }
    if let (Some(one), Some(other)) = (a.leader, b.leader)
        && meet(one, other)
    {
        cost += 500.0;
    }
    cost
}

/// Whether two segments cross.
fn meet(one: (Point, Point), other: (Point, Point)) -> bool {
    let side =
        |(from, to): (Point, Point), at: Point| (to.0 - from.0) * (at.1 - from.1) - (to.1 - from.1) * (at.0 - from.0);
    side(one, other.0) * side(one, other.1) < 0.0 && side(other, one.0) * side(other, one.1) < 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Rect = Rect { left: 0.0, top: 0.0, right: 1000.0, bottom: 700.0 };

    /// Places labels of 80 × 18 for these markers and checks what must never happen.
    fn check(markers: &[Point]) -> Vec<Option<Placed>> {
        let wanted: Vec<Wanted> = markers.iter().map(|at| Wanted { at: *at, width: 80.0, height: 18.0 }).collect();
        let lines: Vec<(Point, Point)> = markers.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let around = Surroundings { markers, radius: 12.0, lines: &lines, area: AREA };
        let placed = place(&wanted, &around);
        let boxes: Vec<Rect> = placed.iter().flatten().map(|placed| placed.place).collect();
        for (place, one) in boxes.iter().enumerate() {
            assert!(AREA.holds(one), "{one:?} leaves the area");
            for other in &boxes[place + 1..] {
                assert!(!one.overlaps(other), "{one:?} overlaps {other:?}");
            }
            for marker in markers {
                let square = Rect::centered(*marker, 24.0, 24.0);
                assert!(!one.overlaps(&square), "{one:?} lies on the marker at {marker:?}");
            }
        }
        placed
    }

    /// A pseudo-random stream (Knuth's MMIX generator) in [0, 1).
    fn draws(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    #[test]
    fn a_lonely_marker_has_its_label_beside_it() {
        let placed = check(&[(500.0, 350.0)]);
        let placed = placed[0].unwrap();
        assert_eq!(placed.leader, None);
        let gap = placed.place.nearest((500.0, 350.0));
        assert!((gap.0 - 500.0).hypot(gap.1 - 350.0) < 25.0, "{placed:?}");
    }

    #[test]
    fn markers_at_the_edges_keep_their_labels_inside() {
        let placed = check(&[(0.0, 0.0), (1000.0, 0.0), (0.0, 700.0), (1000.0, 700.0)]);
        assert!(placed.iter().all(Option::is_some));
    }

    /// As two cells of nearly the same cost and accuracy are.
    #[test]
    fn neighbours_labels_are_not_mistaken_for_each_other() {
        for (dx, dy) in [(20.0, 0.0), (44.0, 17.0), (0.0, 30.0), (-25.0, 12.0)] {
            let markers = [(500.0, 350.0), (500.0 + dx, 350.0 + dy)];
            for (own, placed) in check(&markers).into_iter().enumerate() {
                let Placed { place, leader } = placed.unwrap();
                let other = markers[1 - own];
                assert!(
                    leader.is_some() || place.away(other) >= 1.5 * place.away(markers[own]),
                    "{dx} {dy}: {place:?}"
                );
            }
        }
    }

    #[test]
    fn sixteen_scattered_markers_all_get_labels() {
        for seed in 0..20 {
            let mut draw = draws(seed);
            let markers: Vec<Point> = (0..16).map(|_| (100.0 + 800.0 * draw(), 250.0 + 200.0 * draw())).collect();
            assert_eq!(check(&markers).iter().flatten().count(), 16, "seed {seed}");
        }
    }

    #[test]
    fn where_there_is_no_room_labels_are_left_out_not_stacked() {
        for seed in 0..3 {
            let mut draw = draws(seed);
            let markers: Vec<Point> = (0..80).map(|_| (400.0 + 150.0 * draw(), 300.0 + 100.0 * draw())).collect();
            assert!(check(&markers).iter().any(Option::is_none), "seed {seed}");
        }
    }

    #[test]
    fn clipping_measures_what_lies_inside() {
        let square = Rect { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 };
        for (from, to, expected) in [
            ((-5.0, 5.0), (15.0, 5.0), 10.0),
            ((5.0, 5.0), (5.0, 50.0), 5.0),
            ((-5.0, -1.0), (15.0, -1.0), 0.0),
            ((20.0, 0.0), (20.0, 10.0), 0.0),
            ((2.0, 2.0), (5.0, 6.0), 5.0),
        ] {
            assert!((square.crossed((from, to)) - expected).abs() < 1e-9, "{from:?} {to:?}");
        }
    }
}
