//! Tables for people, and the same as fields between tabs.

use comfy_table::{CellAlignment, Table as Aligned, presets};

/// Rows under a header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    header: Vec<&'static str>,
    right: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: impl Into<Vec<&'static str>>) -> Self {
        Table { header: header.into(), right: Vec::new(), rows: Vec::new() }
    }

    /// Sets columns to the right: numbers and sizes.
    pub(crate) fn right(mut self, columns: impl Into<Vec<usize>>) -> Self {
        self.right = columns.into();
        self
    }

    pub(crate) fn row(&mut self, cells: impl Into<Vec<String>>) {
        self.rows.push(cells.into());
    }

    /// Columns in line, two spaces apart, header in capitals.
    pub(crate) fn to_aligned(&self) -> String {
        let mut table = Aligned::new();
        table.load_style(presets::NOTHING);
        table.set_header(self.header.iter().map(|name| name.to_uppercase()));
        table.add_rows(self.rows.iter().cloned());
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_string()).collect();
        lines.join("\n") + "\n"
    }

    /// Fields between tabs. A tab or line break within a field would break the form and becomes a space.
    pub(crate) fn to_plain(&self) -> String {
        let clean = |cell: &String| cell.replace(['\t', '\n', '\r'], " ");
        let line = |row: &Vec<String>| row.iter().map(clean).collect::<Vec<_>>().join("\t") + "\n";
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_line() {
        let mut table = Table::new(["name", "size"]).right([1]);
        table.row(["a".into(), "5".into()]);
        table.row(["longer".into(), "1234".into()]);
        assert_eq!(table.to_aligned(), "NAME    SIZE\na          5\nlonger  1234\n");
        assert_eq!(table.to_plain(), "a\t5\nlonger\t1234\n");
    }

    #[test]
    fn a_field_cannot_break_the_plain_form() {
        let mut table = Table::new(["name"]);
        table.row(["a\tb\nc".into()]);
        assert_eq!(table.to_plain(), "a b c\n");
        assert_eq!(Table::new(["name"]).to_aligned(), "NAME\n");
    }
}
