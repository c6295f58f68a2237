//! Names beside points, none over another.

use std::cmp::Reverse;

use super::svg::Point;

/// Height of a line of text of [`SIZE`].
const HEIGHT: f64 = 12.0;
/// The size of the names' font.
pub const SIZE: u32 = 11;
/// The middle width of its characters.
const CHARACTER: f64 = 6.2;
/// What a point keeps free around it.
const MARK: f64 = 5.5;
/// How far from its point a name may stand, nearest first. Beyond the first, a line leads to it.
const DISTANCES: [f64; 12] = [7.0, 11.0, 16.0, 23.0, 32.0, 43.0, 56.0, 72.0, 90.0, 110.0, 135.0, 165.0];
const DIRECTIONS: u32 = 24;
/// Points with many others as near as this are named first, while there is room.
const NEAR: f64 = 60.0;
/// How often names are placed again, those first that found no place.
const ROUNDS: usize = 30;

/// The part of a drawing from the left and top to the right and bottom.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub from: Point,
    pub to: Point,
}

impl Area {
    fn around(centre: Point, width: f64, height: f64) -> Self {
        let (x, y) = centre;
        Self { from: (x - width / 2.0, y - height / 2.0), to: (x + width / 2.0, y + height / 2.0) }
    }

    fn meets(&self, other: &Self) -> bool {
        self.from.0 < other.to.0 && other.from.0 < self.to.0 && self.from.1 < other.to.1 && other.from.1 < self.to.1
    }

    fn holds(&self, other: &Self) -> bool {
        self.nearest(other.from) == other.from && self.nearest(other.to) == other.to
    }

    /// The point of the area next to `to`.
    fn nearest(&self, to: Point) -> Point {
        (to.0.clamp(self.from.0, self.to.0), to.1.clamp(self.from.1, self.to.1))
    }
}

/// Where a name stands.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    area: Area,
    /// A line from the point to the name, where it stands apart.
    pub lead: Option<(Point, Point)>,
}

impl Label {
    /// The middle of the text's baseline.
    pub fn baseline(&self) -> Point {
        ((self.area.from.0 + self.area.to.0) / 2.0, self.area.to.1 - 3.0)
    }

    /// Points of the leading line, near to one another.
    fn led(&self) -> impl Iterator<Item = Point> {
        const STEPS: u32 = 40;
        self.lead.into_iter().flat_map(|((a, b), (c, d))| {
            (0..=STEPS).map(move |i| f64::from(i) / f64::from(STEPS)).map(move |t| (a + (c - a) * t, b + (d - b) * t))
        })
    }

    fn clear_of(&self, other: &Self) -> bool {
        let over = |area: &Area, line: &Self| line.led().any(|p| area.nearest(p) == p);
        !self.area.meets(&other.area) && !over(&self.area, other) && !over(&other.area, self)
    }
}

/// A place inside `area` for the name of each point.
pub fn place(points: &[Point], names: &[String], area: Area) -> Vec<Label> {
    let near = |p: &Point| points.iter().filter(|q| (p.0 - q.0).hypot(p.1 - q.1) < NEAR).count();
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|i| Reverse(near(&points[*i])));
    let mut round = 0;
    loop {
        let (placed, left) = place_in_order(points, names, area, &order);
        round += 1;
        if left.is_empty() || round == ROUNDS {
            let anywhere = |i: usize| candidates(points[i], width(&names[i])).next();
            return placed.into_iter().enumerate().filter_map(|(i, label)| label.or_else(|| anywhere(i))).collect();
        }
        order.sort_by_key(|i| !left.contains(i));
    }
}

/// The names that find a free place, one after the other, and the points whose names do not.
fn place_in_order(points: &[Point], names: &[String], area: Area, order: &[usize]) -> (Vec<Option<Label>>, Vec<usize>) {
    let marks: Vec<_> = points.iter().map(|p| Area::around(*p, 2.0 * MARK, 2.0 * MARK)).collect();
    let mut placed: Vec<Option<Label>> = vec![None; points.len()];
    for &i in order {
        // A point that lies on another one has its line all the same.
        let others = || marks.iter().filter(|mark| mark.nearest(points[i]) != points[i]);
        let free = |label: &Label| {
            area.holds(&label.area)
                && !marks.iter().any(|mark| mark.meets(&label.area))
                && !others().any(|mark| label.led().any(|p| mark.nearest(p) == p))
                && placed.iter().flatten().all(|other| label.clear_of(other))
        };
        placed[i] = candidates(points[i], width(&names[i])).find(free);
    }
    let left = (0..points.len()).filter(|i| placed[*i].is_none()).collect();
    (placed, left)
}

fn width(name: &str) -> f64 {
    CHARACTER * name.chars().count() as f64
}

/// Places for the name of a point, the best first.
fn candidates(point: Point, width: f64) -> impl Iterator<Item = Label> {
    DISTANCES.into_iter().flat_map(move |distance| {
        (0..DIRECTIONS).map(move |i| {
            // From the right to both sides.
            let turn = f64::from(i.div_ceil(2)) / f64::from(DIRECTIONS) * if i % 2 == 0 { 1.0 } else { -1.0 };
            let (sin, cos) = (turn * std::f64::consts::TAU).sin_cos();
            let centre = (point.0 + cos * (distance + width / 2.0), point.1 + sin * (distance + HEIGHT / 2.0));
            let area = Area::around(centre, width, HEIGHT);
            let lead = (distance > DISTANCES[0]).then(|| (point, area.nearest(point)));
            Label { area, lead }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AREA: Area = Area { from: (0.0, 0.0), to: (900.0, 500.0) };

    /// Forty points in a narrow band, where types of few bits crowd.
    fn crowd() -> (Vec<Point>, Vec<String>) {
        let mut state = 7u32;
        let mut random = |range: f64| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1u32 << 24) * range
        };
        let points = (0..40).map(|_| (300.0 + random(200.0), 50.0 + random(400.0))).collect();
        (points, (0..40).map(|i| format!("iq{i}_xxs-imatrix")).collect())
    }

    #[test]
    fn names_in_a_crowd_do_not_meet() {
        let (points, names) = crowd();
        let labels = place(&points, &names, AREA);
        assert_eq!(labels.len(), 40);
        for (i, a) in labels.iter().enumerate() {
            assert!(AREA.holds(&a.area), "{a:?}");
            assert!(labels[i + 1..].iter().all(|b| a.clear_of(b)), "{a:?}");
            assert!(points.iter().all(|p| !Area::around(*p, 8.0, 8.0).meets(&a.area)), "{a:?}");
        }
    }

    #[test]
    fn a_name_alone_stands_beside_its_point() {
        let label = place(&[(100.0, 100.0)], &["q4_0".to_owned()], AREA)[0];
        assert!(label.lead.is_none() && label.area.from.0 > 105.0 && label.baseline().1 < 106.0, "{label:?}");
        // At the right end there is room to its left.
        let label = place(&[(895.0, 100.0)], &["q4_0".to_owned()], AREA)[0];
        assert!(label.area.to.0 < 890.0, "{label:?}");
    }

    #[test]
    fn without_room_there_still_is_a_name() {
        let narrow = Area { from: (0.0, 0.0), to: (10.0, 10.0) };
        assert_eq!(place(&[(5.0, 5.0); 3], &["a", "b", "c"].map(str::to_owned), narrow).len(), 3);
    }
}
