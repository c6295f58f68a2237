//! The comparison as a plot: one panel of bars per figure, and quality against size.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Compared, Figure, shown};

const WIDTH: u32 = 1000;
const COLUMNS: usize = 2;
const HEADING: i32 = 30;
const BAR: i32 = 18;
const GAP: i32 = 6;
/// Room for a file's name, and for the value behind its bar.
const NAME: i32 = 190;
const VALUE: i32 = 70;
const SCATTER: u32 = 380;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The plot as the text of an SVG file; `names` stand for the files.
///
/// # Errors
/// The drawing library's.
pub fn svg(files: &[Compared], names: &[String]) -> Result<String> {
    let figures: Vec<_> = shown(files).collect();
    let panel = HEADING + (BAR + GAP) * files.len() as i32 + 2 * GAP;
    let panels = figures.len().div_ceil(COLUMNS);
    let points = points(files);
    let scatter = if points.is_some() { SCATTER } else { 0 };
    let height = scatter + panel as u32 * panels as u32;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let (top, bottom) = root.split_vertically(scatter);
        if let Some((quality, points)) = points {
            against_size(&top, quality, &points, names).map_err(drawing)?;
        }
        for (area, figure) in bottom.split_evenly((panels.max(1), COLUMNS)).iter().zip(figures) {
            bars(area, figure, files, names).map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(text)
}

fn drawing<E: std::error::Error + Send + Sync>(error: E) -> anyhow::Error {
    anyhow!("cannot draw the plot: {error}")
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// Bars from zero, one per file, with the value behind each.
fn bars<'a>(area: &Area<'a>, figure: &Figure, files: &[Compared], names: &[String]) -> Drawn<'a> {
    let width = area.dim_in_pixel().0 as i32 - NAME - VALUE - 2 * GAP;
    let largest = files.iter().filter_map(figure.of).fold(0.0, f64::max);
    area.draw(&Text::new(figure.name, (NAME, GAP), font(15, HPos::Left, VPos::Top)))?;
    for (i, (file, name)) in files.iter().zip(names).enumerate() {
        let top = HEADING + i as i32 * (BAR + GAP);
        let middle = top + BAR / 2;
        area.draw(&Text::new(shortened(name), (NAME - GAP, middle), font(12, HPos::Right, VPos::Center)))?;
        let Some(value) = (figure.of)(file) else { continue };
        let length = if largest > 0.0 { (value / largest * f64::from(width)).round() as i32 } else { 0 };
        area.draw(&Rectangle::new([(NAME, top), (NAME + length.max(1), top + BAR)], colour(i).filled()))?;
        let text = (figure.show)(value);
        area.draw(&Text::new(text, (NAME + length + GAP, middle), font(12, HPos::Left, VPos::Center)))?;
    }
    Ok(())
}

/// Megabytes and quality of each file; `None` where it was not evaluated.
type Points = Vec<Option<(f64, f64)>>;

/// What stands for quality, and the files' points.
fn points(files: &[Compared]) -> Option<(&'static str, Points)> {
    let of = |quality: fn(&Compared) -> Option<f64>| -> Points {
        files.iter().map(|file| quality(file).map(|q| (file.bytes as f64 / 1e6, q))).collect()
    };
    let (kl, perplexity) = (of(|file| file.kl_mean), of(|file| file.perplexity));
    let any = |points: &Points| points.iter().any(Option::is_some);
    if any(&kl) {
        Some(("KL divergence from the base, nats (lower is better)", kl))
    } else if any(&perplexity) {
        Some(("perplexity (lower is better)", perplexity))
    } else {
        None
    }
}

fn against_size<'a>(area: &Area<'a>, quality: &str, points: &[Option<(f64, f64)>], names: &[String]) -> Drawn<'a> {
    let there = || points.iter().flatten();
    let largest = |of: fn(&(f64, f64)) -> f64| there().map(of).fold(f64::MIN_POSITIVE, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..largest(|p| p.0), 0.0..largest(|p| p.1))?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("size, MB").y_desc(quality).draw()?;
    for (i, (point, name)) in points.iter().zip(names).enumerate() {
        let Some(point) = *point else { continue };
        let (x, y) = chart.backend_coord(&point);
        let plot = chart.plotting_area().strip_coord_spec();
        let (across, down) = plot.get_pixel_range();
        let at = (x - across.start, y - down.start);
        // A name stands where there is room for it.
        let (side, from) = if at.0 * 4 > across.len() as i32 * 3 { (HPos::Right, -9) } else { (HPos::Left, 9) };
        plot.draw(&Circle::new(at, 5, colour(i).filled()))?;
        plot.draw(&Text::new(shortened(name), (at.0 + from, at.1 - 4), font(12, side, VPos::Bottom)))?;
    }
    Ok(())
}

fn font<'a>(size: i32, h: HPos, v: VPos) -> TextStyle<'a> {
    TextStyle::from(("sans-serif", size).into_font()).pos(Pos::new(h, v)).color(&BLACK)
}

fn colour(file: usize) -> PaletteColor<Palette99> {
    Palette99::pick(file)
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
        let drawn = svg(&[file(80_000_000, Some(0.25)), file(160_000_000, None)], &names(2)).unwrap();
        for text in ["size MB", "bits/weight", "KL mean", "perplexity", "prefill tokens/s", "80.0", "0.25000", "1234.5"]
        {
            assert!(drawn.contains(&format!("\n{text}\n")), "{text}: {drawn}");
        }
        assert!(!drawn.contains("top-1") && !drawn.contains("memory"));
        // One background; size, bits and prefill of two files; KL and perplexity of one.
        assert_eq!(drawn.matches("<rect").count(), 1 + 3 * 2 + 2);
        assert_eq!(drawn.matches("<circle").count(), 1);
    }

    #[test]
    fn without_quality_there_are_bars_alone() {
        let drawn = svg(&[file(1, None)], &names(1)).unwrap();
        assert!(!drawn.contains("<circle") && drawn.contains("bits/weight"));
    }

    #[test]
    fn names_cannot_break_out_of_the_drawing() {
        let drawn = svg(&[file(1, None)], &["</text><script>".to_owned()]).unwrap();
        assert!(!drawn.contains("<script>"), "{drawn}");
    }
}
