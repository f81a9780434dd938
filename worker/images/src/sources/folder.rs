//! A folder per class.

use super::super::dataset::Sample;
use super::super::error::DataError;
use super::{Listing, Store, check_class_count};
use std::fs;
use std::path::{Path, PathBuf};

const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "jpe", "png", "webp"];
/// A link to a folder above would never end.
const DEPTH_MAX: usize = 16;

/// Class folders in the order of their names get the labels 0, 1, ..; images are sorted by path. Folders
/// within a class folder are looked into; names that begin with a dot are passed over.
pub(super) fn list(root: &Path, classes: Option<u32>, known: Option<&[String]>) -> Result<Listing, DataError> {
    let place = root.display().to_string();
    let mut class_names = Vec::new();
    for (name, path) in entries(root)? {
        if fs::metadata(&path).map_err(DataError::unreadable(&path))?.is_dir() {
            class_names.push(name);
        }
    }
    if class_names.is_empty() {
        let hint = ": it has no folders; `image_folder` wants a folder per class".into();
        return Err(DataError::NoImages { place, hint });
    }
    match known {
        Some(known) => {
            if let Some(stranger) = class_names.iter().find(|name| !known.contains(name)) {
                let problem = format!("its class folder `{stranger}` is not among the training classes");
                return Err(DataError::malformed(place, problem));
            }
        }
        None => {
            let parts = ["train", "training", "val", "validation", "test"];
            if class_names.iter().all(|name| parts.contains(&name.as_str())) {
                let problem = format!("it holds {}, not classes; name one of them", class_names.join(", "));
                return Err(DataError::malformed(place, problem));
            }
            check_class_count(root, classes, &class_names)?;
        }
    }
    let (mut samples, mut notes) = (Vec::new(), Vec::new());
    for (position, class) in class_names.iter().enumerate() {
        let label = known.map_or(Some(position), |known| known.iter().position(|name| name == class));
        let label = label.and_then(|label| u32::try_from(label).ok()).unwrap_or(u32::MAX);
        let mut walk = Walk { root, label, samples: &mut samples, left_out: 0 };
        let found = walk.folder(class, 0)?;
        let left_out = walk.left_out;
        if found == 0 {
            let others = if left_out > 0 { format!(" ({left_out} other files)") } else { String::new() };
            let folder = root.join(class).display().to_string();
            return Err(DataError::malformed(folder, format!("it holds no JPEG, PNG or WebP images{others}")));
        }
        if left_out > 0 {
            let folder = root.join(class).display().to_string();
            notes.push(format!("{folder}: left out {left_out} files that are not .jpg, .png or .webp"));
        }
    }
    let store = Store::Files { root: root.to_owned() };
    Ok(Listing { samples, store, class_names, notes })
}

struct Walk<'a> {
    root: &'a Path,
    label: u32,
    samples: &'a mut Vec<Sample>,
    left_out: usize,
}

impl Walk<'_> {
    /// Adds the images of a folder, given relative to the root. How many.
    fn folder(&mut self, folder: &str, depth: usize) -> Result<usize, DataError> {
        let path = self.root.join(folder);
        if depth > DEPTH_MAX {
            let problem = format!("folders lie more than {DEPTH_MAX} deep; is there a link to a folder above?");
            return Err(DataError::malformed(path.display().to_string(), problem));
        }
        let mut found = 0;
        for (name, path) in entries(&path)? {
            let relative = format!("{folder}/{name}");
            let facts = fs::metadata(&path).map_err(DataError::unreadable(&path))?;
            if facts.is_dir() {
                found += self.folder(&relative, depth + 1)?;
            } else if facts.is_file() && is_image(&path) {
                found += 1;
                self.samples.push(Sample { name: relative, label: self.label, bytes: facts.len(), slot: 0 });
            } else {
                self.left_out += 1;
            }
        }
        Ok(found)
    }
}

/// What a folder holds, sorted by name; names that begin with a dot are passed over.
pub(super) fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::unreadable(folder))? {
        let path = entry.map_err(DataError::unreadable(folder))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(DataError::malformed(path.display().to_string(), "its name is not UTF-8; rename it"));
        };
        if !name.starts_with('.') {
            entries.push((name.to_owned(), path));
        }
    }
    entries.sort();
    Ok(entries)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}
