//! The comparison as a plot: quality against size, and one panel of bars per figure.

use super::scatter::PLOTS;
use super::svg::{Anchor, Svg};
use super::{Compared, Figure, shown};

const WIDTH: f64 = 1000.0;
const SCATTER: f64 = 600.0;
const LEGEND: f64 = 24.0;
const COLUMNS: usize = 2;
const HEADING: f64 = 30.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
/// Room for a file's name, and for the value behind its bar.
const NAME: f64 = 190.0;
const VALUE: f64 = 70.0;
/// With more files, bars say no more than the table.
const MOST_BARS: usize = 24;

/// The plot as the text of an SVG file; `names` stand for the files.
pub fn svg(files: &[Compared], names: &[String]) -> String {
    let mut svg = Svg::default();
    let names = distinct(names);
    let mut top = 0.0;
    if let Some(plot) = PLOTS.iter().find(|plot| plot.shows(files)) {
        plot.draw(&mut svg, files, &names, (WIDTH, SCATTER));
        top += SCATTER;
    }
    if files.iter().any(|file| file.imatrix) {
        for (i, (class, text)) in
            [("plain", "no importance matrix"), ("weighed", "with an importance matrix")].iter().enumerate()
        {
            let x = NAME + i as f64 * 200.0;
            svg.circle(class, (x, top + LEGEND / 2.0 - 4.0), 4.0);
            svg.text((x + 10.0, top + LEGEND / 2.0), 12, Anchor::Start, text);
        }
        top += LEGEND;
    }
    if files.len() <= MOST_BARS {
        let panel = HEADING + (BAR + GAP) * files.len() as f64 + 2.0 * GAP;
        for (i, figure) in shown(files).enumerate() {
            let left = WIDTH / COLUMNS as f64 * (i % COLUMNS) as f64;
            bars(&mut svg, figure, files, &names, (left, top + panel * (i / COLUMNS) as f64));
        }
        top += panel * shown(files).count().div_ceil(COLUMNS) as f64;
    }
    svg.finish(WIDTH, top)
}

/// Bars from zero, one per file, with the value behind each.
fn bars(svg: &mut Svg, figure: &Figure, files: &[Compared], names: &[String], (left, top): (f64, f64)) {
    let width = WIDTH / COLUMNS as f64 - NAME - VALUE - 2.0 * GAP;
    let largest = files.iter().filter_map(figure.of).fold(0.0, f64::max);
    svg.text((left + NAME, top + 18.0), 15, Anchor::Start, figure.name);
    for (i, (file, name)) in files.iter().zip(names).enumerate() {
        let top = top + HEADING + i as f64 * (BAR + GAP);
        let baseline = top + BAR / 2.0 + 4.0;
        svg.text((left + NAME - GAP, baseline), 12, Anchor::End, &shortened(name));
        let Some(value) = (figure.of)(file) else { continue };
        let length = if largest > 0.0 { (value / largest * width).max(1.0) } else { 1.0 };
        svg.bar(file.class(), (left + NAME, top), (length, BAR));
        svg.text((left + NAME + length + GAP, baseline), 12, Anchor::Start, &(figure.show)(value));
    }
}

/// The names without the words that all begin and end with, unless nothing is left of one.
fn distinct(names: &[String]) -> Vec<String> {
    const BETWEEN: [char; 4] = ['-', '.', '/', ' '];
    let Some((first, rest)) = names.split_first() else { return Vec::new() };
    let common = |name: &String| first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let same = rest.iter().map(common).min().unwrap_or(0);
    let begin = first.bytes().take(same).rposition(|b| BETWEEN.contains(&char::from(b))).map_or(0, |i| i + 1);
    let common = |name: &String| first.bytes().rev().zip(name.bytes().rev()).take_while(|(a, b)| a == b).count();
    let same = rest.iter().map(common).min().unwrap_or(0);
    let end = first.bytes().rev().take(same).collect::<Vec<_>>();
    let end = end.iter().rposition(|b| BETWEEN.contains(&char::from(*b))).map_or(0, |i| i + 1);
    let inner =
        |name: &String| name.get(begin..name.len().checked_sub(end)?).filter(|s| !s.is_empty()).map(str::to_owned);
    names.iter().map(inner).collect::<Option<Vec<_>>>().unwrap_or_else(|| names.to_vec())
}

/// The end of a long name, where a file's type stands.
fn shortened(name: &str) -> String {
    const LONGEST: usize = 28;
    let count = name.chars().count();
    if count <= LONGEST {
        return name.to_owned();
    }
    std::iter::once('…').chain(name.chars().skip(count - LONGEST + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speed::Speed;

    fn file(bytes: u64, kl: Option<f64>) -> Compared {
        Compared {
            model: String::new(),
            dtype: "Q4_0".to_owned(),
            bytes,
            bits_per_weight: 4.5,
            imatrix: false,
            perplexity: kl.map(|_| 20.0),
            perplexity_error: None,
            kl_mean: kl,
            kl_p99: None,
            kl_max: None,
            top1_agreement: None,
            speed: Speed { prefill_tps: Some(1234.5), ..Speed::default() },
        }
    }

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("model-{i}.gguf")).collect()
    }

    #[test]
    fn every_figure_has_its_panel_and_every_file_its_bar() {
        let drawn = svg(&[file(80_000_000, Some(0.25)), file(160_000_000, None)], &names(2));
        for text in ["size MB", "bits/weight", "KL mean", "perplexity", "prefill tokens/s", "80.0", "0.25000", "1234.5"]
        {
            assert!(drawn.contains(&format!(">{text}</text>")), "{text}: {drawn}");
        }
        assert!(!drawn.contains("top-1") && !drawn.contains("memory") && !drawn.contains("importance"));
        // The ground; size, bits and prefill of two files; KL and perplexity of one.
        assert_eq!(drawn.matches("<rect").count(), 1 + 3 * 2 + 2);
        assert_eq!(drawn.matches("<circle").count(), 1);
    }

    #[test]
    fn without_quality_there_are_bars_alone() {
        let drawn = svg(&[file(1, None)], &names(1));
        assert!(!drawn.contains("<circle") && drawn.contains("bits/weight"));
    }

    #[test]
    fn what_does_not_diverge_has_no_place_among_factors() {
        let weighed = Compared { imatrix: true, ..file(5, Some(0.5)) };
        let drawn = svg(&[file(1, Some(0.0)), file(2, Some(0.25)), weighed], &names(3));
        assert_eq!(drawn.matches("<circle class=\"plain\"").count(), 1 + 1);
        assert_eq!(drawn.matches("<circle class=\"weighed\"").count(), 1 + 1);
        assert!(drawn.contains("KL divergence from the base") && drawn.contains(">0.5</text>"));
        // The base alone: its perplexity is left.
        assert!(svg(&[file(1, Some(0.0))], &names(1)).contains("perplexity (lower is better)"));
    }

    #[test]
    fn many_files_have_points_alone() {
        let files: Vec<_> = (1..=30).map(|i| file(i, Some(i as f64 / 100.0))).collect();
        let drawn = svg(&files, &names(30));
        assert_eq!((drawn.matches("<circle").count(), drawn.matches("<rect").count()), (30, 1));
    }

    #[test]
    fn names_lose_what_they_have_in_common() {
        let of = |names: &[&str]| distinct(&names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["smol-135m-q4_0.gguf", "smol-135m-q4_1.gguf"]), ["q4_0", "q4_1"]);
        assert_eq!(of(&["a/q4_0-imatrix.gguf", "a/q4_0.gguf"]), ["q4_0-imatrix", "q4_0"]);
        assert_eq!(of(&["model.gguf"]), ["model.gguf"]);
        assert_eq!(of(&["ä-x.gguf", "ö-x.gguf"]), ["ä", "ö"]);
        assert_eq!(of(&["x-", "x-y"]), ["x-", "x-y"]);
    }
}
