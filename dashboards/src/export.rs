//! The files of a sweep: `grid.csv`, `grid.md`, `tradeoff.svg`, `tradeoff.png`.

use crate::plot::{self, PlotError};
use crate::view::SweepView;
use crate::{grid_csv, grid_markdown};
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
    /// The rows.
    #[error("cannot write grid.csv: {0}")]
    Csv(#[from] csv::Error),
    /// The figure.
    #[error(transparent)]
    Plot(#[from] PlotError),
}

/// Writes all files into `folder`, which is made where it is not there, and returns their paths. Each is written
/// beside its place and renamed, so that a reader never sees half a file. The same data gives the same bytes.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write_all(view: &SweepView, folder: &Path) -> Result<Vec<PathBuf>, ExportError> {
    fs::create_dir_all(folder).map_err(|source| ExportError::Write { path: folder.to_owned(), source })?;
    let drawing = plot::tradeoff(view)?;
    let files: [(&str, Vec<u8>); 4] = [
        ("grid.csv", grid_csv::write(view)?),
        ("grid.md", grid_markdown::write(view).into_bytes()),
        ("tradeoff.svg", plot::svg(&drawing)?.into_bytes()),
        ("tradeoff.png", plot::png(&drawing)?),
    ];
    files.into_iter().map(|(name, bytes)| write_file(folder, name, &bytes)).collect()
}

fn write_file(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, ExportError> {
    let path = folder.join(name);
    let beside = folder.join(format!(".{name}.part"));
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(|source| ExportError::Write { path: path.clone(), source })?;
    Ok(path)
}
