//! A table on a terminal: columns that line up whatever is in them.

use std::fmt::Write as _;

use anstyle::Style;

/// How titles look.
pub(crate) const TITLE: Style = Style::new().dimmed();

/// One field of a table.
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// A field that is not emphasized.
pub(crate) fn cell(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), style: Style::new() }
}

/// The titles of the columns.
pub(crate) fn titles<'t>(titles: impl IntoIterator<Item = &'t str>) -> Vec<Cell> {
    titles.into_iter().map(|title| Cell { text: title.to_owned(), style: TITLE }).collect()
}

/// The rows as lines. All have as many fields as the first.
pub(crate) fn align(rows: &[Vec<Cell>]) -> String {
    let width = |cell: &Cell| cell.text.chars().count();
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let is_last = column + 1 == columns;
            let padding = if is_last { 0 } else { widths[column] - width(cell) + 2 };
            let Cell { text: content, style } = cell;
            let _ = write!(text, "{style}{content}{style:#}{:padding$}", "");
        }
        text.push('\n');
    }
    text
}
