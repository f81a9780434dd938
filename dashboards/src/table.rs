//! Aligned text tables: for the terminal, and as Markdown.

/// Which way a column leans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table of text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Self {
        Self { columns: columns.iter().map(|(name, align)| ((*name).to_owned(), *align)).collect(), rows: Vec::new() }
    }

    /// Adds a column; before the first row.
    pub fn column(&mut self, name: &str, align: Align) {
        self.columns.push((name.to_owned(), align));
    }

    /// Adds a row. What it lacks is empty, what is too much is dropped.
    pub fn row<I: IntoIterator<Item = String>>(&mut self, cells: I) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| one_line(&cell)).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// For a terminal: two spaces between columns, a line below the head, no trailing blanks.
    #[must_use]
    pub fn text(&self) -> String {
        let widths = self.widths(str::to_owned);
        let mut out = String::new();
        let head: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let rule: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        for row in [&head, &rule].into_iter().chain(&self.rows) {
            let cells: Vec<String> = row
                .iter()
                .zip(&self.columns)
                .zip(&widths)
                .map(|((cell, column), width)| pad(cell, column.1, *width))
                .collect();
            out.push_str(cells.join("  ").trim_end());
            out.push('\n');
        }
        out
    }

    /// As a Markdown table, aligned in its source too.
    #[must_use]
    pub fn markdown(&self) -> String {
        let widths: Vec<usize> = self.widths(escape).into_iter().map(|width| width.max(3)).collect();
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let fit = |row: &[String]| {
            row.iter()
                .zip(&self.columns)
                .zip(&widths)
                .map(|((cell, column), width)| pad(&escape(cell), column.1, *width))
                .collect()
        };
        let head: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let rule = self.columns.iter().zip(&widths).map(|((_, align), width)| match align {
            Align::Left => "-".repeat(*width),
            Align::Right => format!("{}:", "-".repeat(width - 1)),
        });
        let mut out = line(fit(&head));
        out.push_str(&line(rule.collect()));
        for row in &self.rows {
            out.push_str(&line(fit(row)));
        }
        out
    }

    fn widths(&self, shown: impl Fn(&str) -> String) -> Vec<usize> {
        let width = |cell: &str| shown(cell).chars().count();
        self.columns
            .iter()
            .enumerate()
            .map(|(place, (name, _))| {
                self.rows.iter().map(|row| width(&row[place])).chain([width(name)]).max().unwrap_or(0)
            })
            .collect()
    }
}

fn pad(cell: &str, align: Align, width: usize) -> String {
    let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
    match align {
        Align::Left => format!("{cell}{blanks}"),
        Align::Right => format!("{blanks}{cell}"),
    }
}

/// A cell is one line, whatever a reason or a host's name holds.
fn one_line(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn escape(cell: &str) -> String {
    cell.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let mut table = Table::new(&[("α", Align::Right), ("state", Align::Left)]);
        table.row(["0.75".into(), "running".into()]);
        table.row(["1".into(), "a|b\nc".into(), "too much".into()]);
        table.row(["2".into()]);
        table
    }

    #[test]
    fn text_is_aligned_by_characters_not_bytes() {
        let expected = "   α  state
────  ───────
0.75  running
   1  a|b c
   2
";
        assert_eq!(example().text(), expected);
    }

    #[test]
    fn markdown_escapes_bars() {
        let expected = "|    α | state   |
| ---: | ------- |
| 0.75 | running |
|    1 | a\\|b c  |
|    2 |         |
";
        assert_eq!(example().markdown(), expected);
    }
}
