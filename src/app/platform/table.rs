//! Aligned columns, and pairs of a name and a value; nothing in them is
//! obeyed by a terminal.

/// Rows below a head.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns of these names, and the rows in them.
    pub(super) fn of<const COLUMNS: usize>(
        head: [&str; COLUMNS],
        rows: impl IntoIterator<Item = [String; COLUMNS]>,
    ) -> Self {
        let shown = |row: [String; COLUMNS]| row.iter().map(|cell| visible(cell)).collect();
        let head = std::iter::once(head.map(str::to_owned));
        Self { rows: head.chain(rows).map(shown).collect() }
    }

    /// The text, a line for each row.
    pub(super) fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let line: Vec<_> = cells.collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A line for each pair; pairs without a value are left out.
pub(super) fn pairs(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &&(&str, String)| format!("{name:width$}  {}\n", visible(value));
    pairs.iter().map(line).collect()
}

fn visible(text: &str) -> String {
    let show =
        |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(show).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_controls_are_shown() {
        let rows = [["orders", "startup-4"], ["a\u{1b}[31m", ""]];
        let table = Table::of(["NAME", "PLAN"], rows.map(|row| row.map(str::to_owned)));
        assert_eq!(table.text(), "NAME         PLAN\norders       startup-4\na\\u{1b}[31m\n");
        let text = pairs(&[("name", "orders".to_owned()), ("reason", String::new())]);
        assert_eq!(text, "name  orders\n");
    }
}
