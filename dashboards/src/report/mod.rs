//! The report: one HTML file with everything, that needs no network and no other file.

mod repeat;

use crate::grid_markdown::facts;
use crate::plot::{self, PlotError};
use crate::results::Results;
use crate::selection::PLOTS;
use crate::sheets;
use crate::tabular::html::escape;
use crate::tabular::{self, About, Tabular};

static STYLE: &str = include_str!("style.css");

/// The whole page: plots as SVG, tables, how to repeat the sweep, its file as submitted and as resolved. The same data
/// gives the same bytes.
///
/// # Errors
/// When a figure cannot be painted.
pub fn html(results: &Results) -> Result<String, PlotError> {
    let view = &results.view;
    let about = About::new(view);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"alpharho {}\">\n<title>{}: report of a sweep</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{}</h1>\n",
        env!("CARGO_PKG_VERSION"),
        escape(&view.name),
        escape(&view.name)
    );
    if !view.description.is_empty() {
        out.push_str(&format!("<p class=\"lead\">{}</p>\n", escape(&view.description)));
    }
    for warning in about.warnings() {
        out.push_str(&warn(&warning));
    }
    let inexact = sheets::inexact(results);
    if !inexact.is_empty() {
        out.push_str(&warn(&format!(
            "{} of {} trials are not bit-exact: repeating them need not give the same bits. The reasons are listed \
             under \"How to repeat it\".",
            inexact.len(),
            view.trials.len()
        )));
    }
    out.push_str(&definitions(&facts(view)));
    out.push_str(
        "<nav><a href=\"#plots\">Plots</a><a href=\"#tables\">Tables</a><a href=\"#repeat\">How to repeat it</a>\
         <a href=\"#spec\">Sweep file</a></nav>\n</header>\n",
    );
    out.push_str("<h2 id=\"plots\">Plots</h2>\n");
    for name in PLOTS {
        if let Some(drawing) = plot::plot(name, results)? {
            let svg = plot::svg(&drawing)?;
            out.push_str(&format!("<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n", caption(name)));
        }
    }
    out.push_str("<h2 id=\"tables\">Tables</h2>\n");
    if let Some(matrix) = sheets::matrix(results) {
        out.push_str(&section(&matrix, "Accuracy by α and ρ"));
    }
    out.push_str(&section(&sheets::grid(results), "Cells"));
    out.push_str(&section(&sheets::pareto(results), "Pareto front"));
    let width = sheets::width(results);
    out.push_str(&section(&width, &capital(&width.title)));
    let resolution = sheets::resolution(results);
    out.push_str(&section(&resolution, &capital(&resolution.title)));
    out.push_str(&section(&sheets::trials(results), "Trials"));
    out.push_str(&repeat::sections(results, &inexact));
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

fn caption(name: &str) -> &'static str {
    match name {
        "tradeoff" => {
            "Accuracy against Mult-Adds, as in the paper's Figure 4. The dashed line is fitted to the finished cells by \
             least squares on the logarithm of Mult-Adds; below, what it leaves: a jump at small α would stand out there."
        }
        "parameters" => {
            "Accuracy against trainable parameters, as in the paper's Figure 5. ρ changes no parameter: each α is a \
             column."
        }
        "curves" => "Accuracy and loss by epoch, training and validation, all cells with the same axes.",
        "time" => {
            "Accuracy against the measured training time of one image: wall time of the training loop (forward, \
             backward, update, waiting for data) by the images it saw, median over epochs, on one slot. Evaluation and \
             checkpoints are not in it."
        }
        "staleness" => "Updates by other replicas between reading the parameters and adding a gradient.",
        _ => "",
    }
}

fn warn(words: &str) -> String {
    format!("<p class=\"warn\">{}</p>\n", escape(words))
}

fn definitions(facts: &[(&'static str, String)]) -> String {
    let rows = facts.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)));
    format!("<dl>\n{}</dl>\n", rows.collect::<String>())
}

fn section(table: &Tabular, head: &str) -> String {
    let notes: Vec<String> = table.notes.iter().map(|note| escape(note)).collect();
    let notes =
        if notes.is_empty() { String::new() } else { format!("<p class=\"notes\">{}</p>\n", notes.join("<br>")) };
    format!("<h3>{}</h3>\n{}{notes}", escape(head), tabular::html(table))
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
