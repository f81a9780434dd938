//! HTML: a `<table>` for the report.

use super::Tabular;
use super::shown::shown;
use crate::table::Align;

/// The table without a title; numbers lean right by the class `n`.
#[must_use]
pub fn html(table: &Tabular) -> String {
    if table.rows.is_empty() {
        return "<p>Nothing yet.</p>\n".to_owned();
    }
    let shown = shown(table);
    let mut out = String::from("<div class=\"wide\"><table>\n<thead><tr>");
    for (head, align) in shown.heads.iter().zip(&shown.aligns) {
        out.push_str(&format!("<th{}>{}</th>", class(*align), escape(head)));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &shown.rows {
        out.push_str("<tr>");
        for (cell, align) in row.iter().zip(&shown.aligns) {
            out.push_str(&format!("<td{}>{}</td>", class(*align), escape(cell)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table></div>\n");
    out
}

fn class(align: Align) -> &'static str {
    if align == Align::Right { " class=\"n\"" } else { "" }
}

/// Text that may stand anywhere in HTML.
pub(crate) fn escape(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in HTML, and of no use.
            '\0'..='\x08' | '\x0b'..='\x1f' | '\x7f' => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_cell() {
        assert_eq!(escape("<b a=\"x\">&'\u{1}\n"), "&lt;b a=&quot;x&quot;&gt;&amp;&#39;\u{fffd}\n");
    }
}
