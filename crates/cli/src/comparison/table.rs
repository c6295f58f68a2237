//! The comparison as a table.

use super::{Compared, shown};
use crate::ui::table::{Align, Table};

/// One row per file, one column per figure that any of them has.
pub fn table(files: &[Compared], names: &[String]) -> Table {
    let figures: Vec<_> = shown(files).collect();
    let columns = figures.iter().map(|figure| (figure.name, Align::Right));
    let columns: Vec<_> = [("model", Align::Left), ("type", Align::Left)].into_iter().chain(columns).collect();
    let mut table = Table::new(&columns);
    for (file, name) in files.iter().zip(names) {
        let cells = figures.iter().map(|figure| (figure.of)(file).map_or_else(|| "–".to_owned(), figure.show));
        table.row([name.clone(), file.dtype.clone()].into_iter().chain(cells));
    }
    table
}
