//! LaTeX with booktabs, to be taken in by `\input`.

use super::shown::shown;
use super::{About, Tabular};
use crate::table::Align;

/// More rows than fit a page go into a `longtable`.
const ROWS_FLOAT_MAX: usize = 45;
/// More columns than this are shrunk to the line where they are wider.
const COLUMNS_NORMAL_MAX: usize = 8;
/// A column with longer words than this breaks them into lines.
const LETTERS_MAX: usize = 40;
/// To the width of the line, where it is wider.
const SHRUNK: &str = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n";

/// A float with caption and label, the notes below it; a table longer than a page runs over several. Needs the
/// packages booktabs, for wide ones graphicx, for long ones longtable; pdfLaTeX, XeLaTeX and LuaLaTeX all take it.
#[must_use]
pub fn latex(table: &Tabular, about: &About) -> String {
    let shown = shown(table);
    let long = shown.rows.len() > ROWS_FLOAT_MAX;
    let wide = shown.heads.len() > COLUMNS_NORMAL_MAX;
    let packages = match (long, wide) {
        (true, _) => "booktabs,longtable",
        (false, true) => "booktabs,graphicx",
        (false, false) => "booktabs",
    };
    let mut out = format!("% \\usepackage{{{packages}}}\n");
    let caption = format!("{}: {}", about.sweep, table.title);
    let caption = format!("\\caption{{{}.}}\\label{{tab:{}-{}}}", escape(&caption), about.sweep, table.name);
    let letters: String = (0..shown.heads.len())
        .map(|place| {
            let longest = shown.rows.iter().map(|row| row[place].chars().count()).max().unwrap_or(0);
            match shown.aligns[place] {
                Align::Right => "r",
                Align::Left if longest > LETTERS_MAX => "p{0.4\\linewidth}",
                Align::Left => "l",
            }
        })
        .collect();
    let line = |cells: &[String]| format!("{} \\\\\n", cells.iter().map(|c| escape(c)).collect::<Vec<_>>().join(" & "));
    let head = format!("\\toprule\n{}\\midrule\n", line(&shown.heads));
    let rows: String = shown.rows.iter().map(|row| line(row)).collect();
    let notes: Vec<String> =
        about.warnings().into_iter().chain(table.notes.iter().cloned()).map(|n| escape(&n)).collect();
    if shown.heads.is_empty() || shown.rows.is_empty() {
        out.push_str(&format!("\\begin{{table}}\n\\centering\n{caption}\nNothing yet.\n\\end{{table}}\n"));
    } else if long {
        out.push_str("\\begingroup\\scriptsize\\setlength{\\tabcolsep}{2.5pt}\n");
        out.push_str(&format!("\\begin{{longtable}}{{{letters}}}\n{caption} \\\\\n"));
        out.push_str(&format!("{head}\\endhead\n\\bottomrule\n\\endlastfoot\n{rows}\\end{{longtable}}\n"));
        out.push_str(&below(&notes, "\\noindent\\footnotesize "));
        out.push_str("\\par\\endgroup\n");
    } else {
        let (open, close) = if wide { (SHRUNK, "%\n}\n") } else { ("", "\n") };
        out.push_str(&format!("\\begin{{table}}\n\\centering\n{caption}\n{open}"));
        out.push_str(&format!("\\begin{{tabular}}{{{letters}}}\n{head}{rows}\\bottomrule\n\\end{{tabular}}{close}"));
        out.push_str(&below(&notes, "\\par\\smallskip\\raggedright\\footnotesize "));
        out.push_str("\\end{table}\n");
    }
    out
}

fn below(notes: &[String], how: &str) -> String {
    if notes.is_empty() { String::new() } else { format!("{how}{}\n", notes.join("\n")) }
}

/// Words that LaTeX sets as they are. Letters that its default fonts lack are written by their code.
fn escape(words: &str) -> String {
    let mut out = String::new();
    for letter in words.chars() {
        match letter {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                out.push('\\');
                out.push(letter);
            }
            '~' => out.push_str("\\textasciitilde{}"),
            '^' => out.push_str("\\textasciicircum{}"),
            '\\' => out.push_str("\\textbackslash{}"),
            '<' => out.push_str("$<$"),
            '>' => out.push_str("$>$"),
            '|' => out.push_str("$|$"),
            '"' => out.push_str("''"),
            'α' => out.push_str("$\\alpha$"),
            'ρ' => out.push_str("$\\rho$"),
            '±' => out.push_str("$\\pm$"),
            '×' => out.push_str("$\\times$"),
            '·' => out.push_str("$\\cdot$"),
            '−' => out.push_str("$-$"),
            '≈' => out.push_str("$\\approx$"),
            '≤' => out.push_str("$\\le$"),
            '≥' => out.push_str("$\\ge$"),
            '²' => out.push_str("$^2$"),
            '–' => out.push_str("--"),
            '—' => out.push_str("---"),
            '’' => out.push('\''),
            '…' => out.push_str("\\dots{}"),
            // Every TeX of today sets these with its default fonts; the Icelandic letters need another encoding.
            'À'..='ÿ' if !"ÐðÞþ÷".contains(letter) => out.push(letter),
            ' '..='~' => out.push(letter),
            letter if letter.is_control() => out.push(' '),
            letter => out.push_str(&format!("(U+{:04X})", u32::from(letter))),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_latex_is_escaped() {
        for (words, expected) in [
            ("50 % of a_b & c#1", "50 \\% of a\\_b \\& c\\#1"),
            ("{x}^2 ~ \\y", "\\{x\\}\\textasciicircum{}2 \\textasciitilde{} \\textbackslash{}y"),
            ("70.60 ± 0.31", "70.60 $\\pm$ 0.31"),
            ("α < 1, ρ", "$\\alpha$ $<$ 1, $\\rho$"),
            ("Zürich 中\n", "Zürich (U+4E2D) "),
            ("– −1", "-- $-$1"),
        ] {
            assert_eq!(escape(words), expected);
        }
    }
}
