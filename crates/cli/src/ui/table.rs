//! Plain aligned tables.

use unicode_width::UnicodeWidthStr;

use super::style::Style;
use super::visible;

/// Where a column's text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows of text under a heading, columns two spaces apart.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the columns are dropped, missing ones are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().take(self.columns.len());
        let mut cells: Vec<String> = cells.map(|cell| visible(&cell).into_owned()).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    /// The table as text, one line for the heading and one for each row.
    pub fn render(&self, style: Style) -> String {
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|c| {
                let cells = self.rows.iter().map(|row| row[c].width());
                cells.chain([self.columns[c].0.width()]).max().unwrap_or(0)
            })
            .collect();
        let heading: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        let mut out = style.heading(&self.line(&heading, &widths));
        out.push('\n');
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            out.push_str(&self.line(&cells, &widths));
            out.push('\n');
        }
        out
    }

    fn line(&self, cells: &[&str], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, &width), &(_, align)) in cells.iter().zip(widths).zip(&self.columns) {
            let pad = " ".repeat(width.saturating_sub(cell.width()));
            match align {
                Align::Left => line.extend([cell, pad.as_str(), "  "]),
                Align::Right => line.extend([pad.as_str(), cell, "  "]),
            }
        }
        line.trim_end().to_owned()
    }
}

/// Lines of `name  value`, the names padded to one width.
pub fn fields(pairs: &[(&str, String)], style: Style) -> String {
    let width = pairs.iter().map(|(name, _)| name.width()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, value) in pairs {
        let pad = " ".repeat(width - name.width());
        out.extend([style.dim(name).as_str(), &pad, "  ", &visible(value), "\n"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_by_display_width() {
        let mut table = Table::new(&[("name", Align::Left), ("size", Align::Right)]);
        table.row(["模型".to_owned(), "9 B".to_owned()]);
        table.row(["smollm2".to_owned(), "97.7 MB".to_owned()]);
        assert_eq!(table.render(Style::plain()), "name        size\n模型         9 B\nsmollm2  97.7 MB\n");
    }

    #[test]
    fn a_short_row_is_filled() {
        let mut table = Table::new(&[("a", Align::Left), ("b", Align::Left)]);
        table.row(["x".to_owned()]);
        assert_eq!(table.render(Style::plain()), "a  b\nx\n");
    }

    #[test]
    fn fields_share_one_width() {
        let text = fields(&[("size", "1".into()), ("parameters", "2".into())], Style::plain());
        assert_eq!(text, "size        1\nparameters  2\n");
    }
}
