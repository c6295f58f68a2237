//! A drawing as the text of an SVG file, readable on light and on dark ground.

use std::fmt::Write as _;

/// Where a text's position is.
#[derive(Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A place in pixels, from the left and from the top.
pub type Point = (f64, f64);

/// The classes of shapes.
const STYLE: &str = "
.ground{fill:#fff}.grid{stroke:#e3e6ea}.axis,.lead{stroke:#8b949e}text{fill:#1f2328;font-family:sans-serif}
.plain{fill:#2472b5}.weighed{fill:#cf6d0c}
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.grid{stroke:#252b33}.axis,.lead{stroke:#6e7781}text{fill:#e6edf3}
.plain{fill:#58a6ff}.weighed{fill:#f0a04b}}
";

/// Shapes in the order in which they are drawn.
#[derive(Default)]
pub struct Svg {
    body: String,
}

impl Svg {
    /// `at` is the begin, the middle or the end of the text's baseline.
    pub fn text(&mut self, at: Point, size: u32, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.add(format_args!(
            r#"<text x="{:.1}" y="{:.1}" font-size="{size}" text-anchor="{anchor}">{text}</text>"#,
            at.0, at.1
        ));
    }

    /// A text that is read upwards, its middle at `at`.
    pub fn upward(&mut self, at: Point, size: u32, text: &str) {
        let (x, y, text) = (at.0, at.1, escaped(text));
        self.add(format_args!(
            r#"<text transform="translate({x:.1} {y:.1}) rotate(-90)" font-size="{size}" text-anchor="middle">{text}</text>"#
        ));
    }

    pub fn bar(&mut self, class: &str, at: Point, (width, height): Point) {
        let (x, y) = at;
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        ));
    }

    pub fn circle(&mut self, class: &str, at: Point, radius: f64) {
        self.add(format_args!(r#"<circle class="{class}" cx="{:.1}" cy="{:.1}" r="{radius}"/>"#, at.0, at.1));
    }

    pub fn line(&mut self, class: &str, from: Point, to: Point) {
        let ((a, b), (c, d)) = (from, to);
        self.add(format_args!(r#"<line class="{class}" x1="{a:.1}" y1="{b:.1}" x2="{c:.1}" y2="{d:.1}"/>"#));
    }

    /// The file's text, of a drawing of this size.
    pub fn finish(self, width: f64, height: f64) -> String {
        let size = format!(r#"width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}""#);
        let ground = r#"<rect class="ground" width="100%" height="100%"/>"#;
        let head = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" {size}>\n<style>{STYLE}</style>\n{ground}\n");
        head + &self.body + "</svg>\n"
    }

    fn add(&mut self, shape: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.body, "{shape}");
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // No file of XML may hold these, however they are written.
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_break_out() {
        let mut svg = Svg::default();
        svg.text((1.0, 2.0), 12, Anchor::Start, "</text><script>&\u{1}");
        let drawn = svg.finish(10.0, 10.0);
        assert!(drawn.contains(">&lt;/text&gt;&lt;script&gt;&amp;\u{FFFD}</text>"), "{drawn}");
    }
}
