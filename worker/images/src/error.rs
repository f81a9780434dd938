//! What can be wrong with data.

use std::io;
use std::path::{Path, PathBuf};

/// Why a data set cannot be used. Each is a sentence for the person who wrote the sweep.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be opened or read.
    #[error(
        "cannot read {}: {source}; `data` names paths on the worker, or names that it maps with --data NAME=PATH",
        path.display()
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder is not what its format asks for.
    #[error("{place}: {problem}")]
    Malformed {
        /// The folder, the file, or the file and line.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// There is nothing to train or to validate on.
    #[error("{place} holds no images{hint}")]
    NoImages {
        /// The folder or file.
        place: String,
        /// More, from a comma or semicolon on.
        hint: String,
    },
    /// A class without a single training image.
    #[error("class `{class}` has no training images in {place}; remove the class or add images")]
    EmptyClass {
        /// Its name.
        class: String,
        /// The folder or file.
        place: String,
    },
    /// The data has more or fewer classes than the sweep says.
    #[error("data.classes is {expected}, but {place} has {found}: {names}")]
    Classes {
        /// As the sweep says.
        expected: u32,
        /// As the data says.
        found: usize,
        /// The folder or file.
        place: String,
        /// Their names; the first few if they are many.
        names: String,
    },
    /// A label that no class has.
    #[error("{place}: label {label} is out of range; data.classes is {classes}, so labels are 0 to {}", classes.saturating_sub(1))]
    Label {
        /// The file and the line or index.
        place: String,
        /// As it stands there.
        label: String,
        /// As the sweep says.
        classes: u32,
    },
    /// An image would be both trained on and validated with.
    #[error("{place}: {name} is used both for training and for validation; accuracy would mean nothing")]
    Overlap {
        /// The folder or file of the validation set.
        place: String,
        /// The image, or the folder or file that holds both.
        name: String,
    },
    /// More broken images than the sweep allows.
    #[error(
        "{broken} images are broken, and data.broken_images_max is {max}; the last is {name}: {reason}; \
         repair or remove them, or raise the limit"
    )]
    TooManyBroken {
        /// So many were found until now.
        broken: usize,
        /// As the sweep says.
        max: u32,
        /// The last one.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The threads that prepare batches could not be started, or ended before their work was done.
    #[error("the loader's threads failed: {reason}")]
    Loader {
        /// Why.
        reason: String,
    },
}

impl DataError {
    /// [`DataError::Unreadable`], as a function for `map_err`.
    pub(super) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Unreadable { path: path.to_owned(), source }
    }

    /// [`DataError::Unwritable`], as a function for `map_err`.
    pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Unwritable { path: path.to_owned(), source }
    }

    /// [`DataError::Malformed`].
    pub(super) fn malformed(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Malformed { place: place.into(), problem: problem.into() }
    }
}
