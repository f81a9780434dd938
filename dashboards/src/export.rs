//! The files of a sweep: plots, tables and the report, as selected.

use crate::plot::{self, PlotError};
use crate::results::Results;
use crate::selection::{Family, PLOTS, REPORT, Selection, TABLES, endings};
use crate::tabular::{self, About, Tabular, TabularError};
use crate::{grid_markdown, report, sheets};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a file could not be written.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The folder or a file.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A table.
    #[error(transparent)]
    Table(#[from] TabularError),
    /// A figure.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

/// Writes what is selected into `folder`, which is made where it is not there, and returns the files' paths in the
/// order of their names' lists. Each is written beside its place and renamed, so that a reader never sees half a file.
/// The same data gives the same bytes. What a sweep has nothing for (staleness without replicas) is left out.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(results: &Results, selection: &Selection, folder: &Path) -> Result<Vec<PathBuf>, ExportError> {
    fs::create_dir_all(folder).map_err(|source| ExportError::Write { path: folder.to_owned(), source })?;
    let plots = || PLOTS.par_iter().map(|name| write_plot(name, results, selection, folder)).collect();
    let (plots, others): (Result<Vec<_>, _>, _) = rayon::join(plots, || write_others(results, selection, folder));
    let mut files = plots?.concat();
    files.append(&mut others?);
    Ok(files)
}

fn write_plot(
    name: &str,
    results: &Results,
    selection: &Selection,
    folder: &Path,
) -> Result<Vec<PathBuf>, ExportError> {
    let mut files = Vec::new();
    if !selection.wants_any(name) {
        return Ok(files);
    }
    let Some(drawing) = plot::plot(name, results)? else { return Ok(files) };
    if selection.wants(name, "svg") {
        files.push(write_file(folder, &format!("{name}.svg"), plot::svg(&drawing)?.as_bytes())?);
    }
    if selection.wants(name, "png") {
        files.push(write_file(folder, &format!("{name}.png"), &plot::png(&drawing)?)?);
    }
    Ok(files)
}

/// Tables and the report.
fn write_others(results: &Results, selection: &Selection, folder: &Path) -> Result<Vec<PathBuf>, ExportError> {
    let about = About::new(&results.view);
    let mut files = Vec::new();
    for name in TABLES.iter().filter(|name| selection.wants_any(name)) {
        let Some(table) = sheets::sheet(name, results) else { continue };
        if *name == "attempts" && table.rows.is_empty() {
            continue;
        }
        for ending in endings(Family::Tables).into_iter().filter(|ending| selection.wants(name, ending)) {
            let bytes = table_bytes(results, &table, &about, ending)?;
            files.push(write_file(folder, &format!("{name}.{ending}"), &bytes)?);
        }
    }
    if selection.wants(REPORT, "html") {
        files.push(write_file(folder, "report.html", report::html(results)?.as_bytes())?);
    }
    Ok(files)
}

fn table_bytes(results: &Results, table: &Tabular, about: &About, ending: &str) -> Result<Vec<u8>, ExportError> {
    Ok(match ending {
        "csv" => tabular::csv(table, about)?,
        "json" => tabular::json(table, about)?,
        "tex" => tabular::latex(table, about).into_bytes(),
        "parquet" => tabular::parquet(table, about)?,
        _ if table.name == "grid" => grid_markdown::write(results, table, about).into_bytes(),
        _ => tabular::markdown(table, about).into_bytes(),
    })
}

/// Writes a file beside its place in a folder that is there, and renames it.
///
/// # Errors
/// When it cannot be written.
pub fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, ExportError> {
    let path = folder.join(name);
    let beside = folder.join(format!(".{name}.part"));
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(|source| ExportError::Write { path: path.clone(), source })?;
    Ok(path)
}
