//! Which points nobody beats.

/// Places of the points that no other beats: cheaper at no less value, or worth more at no more cost. Of equal
/// points all stay. Sorted by cost, then place; what has no point is never among them.
#[must_use]
pub fn front(points: &[Option<(f64, f64)>]) -> Vec<usize> {
    let mut order: Vec<(usize, f64, f64)> = points
        .iter()
        .enumerate()
        .filter_map(|(place, point)| point.map(|(cost, value)| (place, cost, value)))
        .collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.2.total_cmp(&a.2)).then(a.0.cmp(&b.0)));
    let mut front: Vec<(usize, f64, f64)> = Vec::new();
    for (place, cost, value) in order {
        let stays = match front.last() {
            None => true,
            Some(&(_, best_cost, best)) => value > best || (value == best && cost == best_cost),
        };
        if stays {
            front.push((place, cost, value));
        }
    }
    front.into_iter().map(|(place, _, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(points: &[(f64, f64)], expected: &[usize]) {
        let points: Vec<Option<(f64, f64)>> = points.iter().map(|point| Some(*point)).collect();
        assert_eq!(front(&points), expected, "{points:?}");
    }

    #[test]
    fn only_unbeaten_points_are_on_the_front() {
        check(&[], &[]);
        check(&[(5.0, 0.5)], &[0]);
        // Dearer and worse; dearer and equal; as dear and worse.
        check(&[(1.0, 0.5), (2.0, 0.4)], &[0]);
        check(&[(1.0, 0.5), (2.0, 0.5)], &[0]);
        check(&[(1.0, 0.4), (1.0, 0.5)], &[1]);
        // In order of cost, whatever the order given.
        check(&[(3.0, 0.9), (1.0, 0.5), (2.0, 0.45), (2.5, 0.7)], &[1, 3, 0]);
        // Equal points both stay.
        check(&[(1.0, 0.5), (1.0, 0.5)], &[0, 1]);
    }

    #[test]
    fn what_has_no_point_is_not_on_the_front() {
        assert_eq!(front(&[None, Some((1.0, 0.1)), None]), [1]);
    }
}
