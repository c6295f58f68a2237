//! Quality against what it costs: a point for each file.

use super::Compared;
use super::labels::{Area, SIZE, place};
use super::svg::{Anchor, Point, Svg};

const RADIUS: f64 = 4.0;
/// Room for the values and the title of the vertical axis, and of the other one.
const LEFT: f64 = 76.0;
const BELOW: f64 = 52.0;
const MARGIN: f64 = 24.0;
/// The most ticks of an axis of equal steps.
const TICKS: f64 = 10.0;

/// What stands across and upwards.
pub struct Plot {
    x: (&'static str, fn(&Compared) -> f64),
    y: (&'static str, fn(&Compared) -> Option<f64>),
    /// Whether upwards stand equal factors, not equal steps; what is not above zero has no place there.
    log: bool,
}

/// What can be plotted, the most telling first.
pub static PLOTS: [Plot; 2] = [
    Plot {
        x: ("bits per weight", |file| file.bits_per_weight),
        y: ("KL divergence from the base, nats", |file| file.kl_mean.filter(|kl| *kl > 0.0)),
        log: true,
    },
    Plot { x: ("size, MB", |file| file.bytes as f64 / 1e6), y: ("perplexity", |file| file.perplexity), log: false },
];

impl Plot {
    /// Whether any of the files has a place.
    pub fn shows(&self, files: &[Compared]) -> bool {
        files.iter().any(|file| (self.y.1)(file).is_some())
    }

    /// Draws the files that have a place, into a part of this size at the top.
    pub fn draw(&self, svg: &mut Svg, files: &[Compared], names: &[String], (width, height): Point) {
        let places = files.iter().zip(names).filter_map(|(file, name)| Some((file, name, (self.y.1)(file)?)));
        let (x_of, places) = (self.x.1, places.collect::<Vec<_>>());
        let area = Area { from: (LEFT, MARGIN), to: (width - MARGIN, height - BELOW) };
        let x = Axis::new(places.iter().map(|(file, ..)| x_of(file)), false, (area.from.0, area.to.0));
        let y = Axis::new(places.iter().map(|(.., y)| *y), self.log, (area.to.1, area.from.1));
        for (value, text) in x.ticks() {
            let at = x.at(value);
            svg.line("grid", (at, area.from.1), (at, area.to.1));
            svg.text((at, area.to.1 + 16.0), 12, Anchor::Middle, &text);
        }
        for (value, text) in y.ticks() {
            let at = y.at(value);
            svg.line("grid", (area.from.0, at), (area.to.0, at));
            svg.text((area.from.0 - 6.0, at + 4.0), 12, Anchor::End, &text);
        }
        svg.line("axis", (area.from.0, area.to.1), area.to);
        svg.line("axis", area.from, (area.from.0, area.to.1));
        svg.text(((area.from.0 + area.to.0) / 2.0, height - 12.0), 13, Anchor::Middle, self.x.0);
        let title = format!("{} (lower is better)", self.y.0);
        svg.upward((18.0, (area.from.1 + area.to.1) / 2.0), 13, &title);

        let points: Vec<Point> = places.iter().map(|(file, _, value)| (x.at(x_of(file)), y.at(*value))).collect();
        let names: Vec<String> = places.iter().map(|(_, name, _)| (*name).clone()).collect();
        let labels = place(&points, &names, area);
        for label in &labels {
            if let Some((from, to)) = label.lead {
                svg.line("lead", from, to);
            }
        }
        for ((file, ..), point) in places.iter().zip(&points) {
            svg.circle(file.class(), *point, RADIUS);
        }
        for (label, name) in labels.iter().zip(&names) {
            svg.text(label.baseline(), SIZE, Anchor::Middle, name);
        }
    }
}

/// From values to pixels.
struct Axis {
    log: bool,
    /// The values at both ends, logarithms where it is of equal factors.
    values: (f64, f64),
    pixels: (f64, f64),
}

impl Axis {
    /// An axis with some room around the values, of which there is at least one.
    fn new(values: impl Iterator<Item = f64>, log: bool, pixels: (f64, f64)) -> Self {
        let values = values.map(|v| if log { v.log10() } else { v });
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let room = if high > low { (high - low) * 0.05 } else { (high.abs() * 0.1).max(0.1) };
        Self { log, values: (low - room, high + room), pixels }
    }

    fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        let share = (value - self.values.0) / (self.values.1 - self.values.0);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// Round values inside, with their texts: 1, 2 and 5 of each power of ten, or equal steps of such a size.
    fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.values;
        let shown = |value: f64, power: i32| (value, format!("{value:.*}", usize::try_from(-power).unwrap_or(0)));
        if self.log {
            let powers = low.floor() as i32..=high.ceil() as i32;
            let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|v| shown(v * 10f64.powi(power), power)));
            return all.filter(|(value, _)| (low..=high).contains(&value.log10())).collect();
        }
        let steps = (-9..12).flat_map(|power| [1.0, 2.0, 5.0].map(|v| (v * 10f64.powi(power), power)));
        let (step, power) = steps.into_iter().find(|(step, _)| (high - low) / step <= TICKS).unwrap_or((1e12, 12));
        let first = (low / step).ceil() as i64;
        (first..).map(|i| shown(i as f64 * step, power)).take_while(|(value, _)| *value <= high).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(values: &[f64], log: bool) -> Vec<String> {
        Axis::new(values.iter().copied(), log, (0.0, 100.0)).ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(&[3.7, 8.5], false), ["4", "5", "6", "7", "8"]);
        assert_eq!(ticks(&[61.0, 145.0], false), ["60", "70", "80", "90", "100", "110", "120", "130", "140"]);
        assert_eq!(ticks(&[0.004, 0.6], true), ["0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5"]);
        assert_eq!(ticks(&[5.0], false), ["4.5", "4.6", "4.7", "4.8", "4.9", "5.0", "5.1", "5.2", "5.3", "5.4", "5.5"]);
    }

    #[test]
    fn values_lie_between_the_ends() {
        let axis = Axis::new([0.01, 1.0].into_iter(), true, (500.0, 0.0));
        assert!((axis.at(0.1) - 250.0).abs() < 1e-9 && axis.at(0.01) < 500.0 && axis.at(1.0) > 0.0);
    }
}
