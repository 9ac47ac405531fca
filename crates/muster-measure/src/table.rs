//! Columns of text.

use std::fmt::Write;

/// A table for people to read. Its first columns are aligned to the left, numbers to the right.
#[derive(Debug, Clone)]
pub struct Table {
    left: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table with these columns, of which the first `left` hold words.
    pub fn new<I>(left: usize, head: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let mut table = Self {
            left,
            rows: Vec::new(),
        };
        table.row(head);
        table
    }

    /// Adds a row.
    pub fn row<I>(&mut self, cells: I)
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Returns the table as text.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = if column < self.left {
                    write!(line, "{cell:<width$}  ")
                } else {
                    write!(line, "{cell:>width$}  ")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new(1, ["payload", "a second"]);
        table.row(["16 B", "5"]);
        assert_eq!(table.text(), "payload  a second\n16 B            5\n");
    }
}
