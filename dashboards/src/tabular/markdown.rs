//! Markdown.

use super::shown::shown;
use super::{About, Tabular};
use crate::table::Table;

/// A page: title, warnings in bold, notes, the table.
#[must_use]
pub fn markdown(table: &Tabular, about: &About) -> String {
    let mut out = format!("# {}: {}\n\n", about.sweep, table.title);
    for warning in about.warnings() {
        out.push_str(&format!("**{warning}**\n\n"));
    }
    out.push_str(&bare(table));
    for (place, note) in table.notes.iter().enumerate() {
        out.push_str(&format!("{}- {}\n", if place == 0 { "\n" } else { "" }, note.replace('\n', " ")));
    }
    out
}

/// The table alone.
pub(crate) fn bare(table: &Tabular) -> String {
    if table.rows.is_empty() {
        return "Nothing yet.\n".to_owned();
    }
    let shown = shown(table);
    let heads: Vec<(&str, crate::table::Align)> =
        shown.heads.iter().map(String::as_str).zip(shown.aligns.iter().copied()).collect();
    let mut text = Table::new(&heads);
    for row in shown.rows {
        text.row(row);
    }
    text.markdown()
}
