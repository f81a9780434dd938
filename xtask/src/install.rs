//! Folders that are either complete or not there: filled beside their place, stamped, then renamed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Lies in every installed folder and says from what it was made.
const STAMP: &str = ".stamp";

/// What should lie in a folder.
pub(crate) struct Recipe<'a> {
    /// Versions and hashes of the sources, and the number of the recipe; a change makes the folder stale.
    pub(crate) stamp: String,
    /// Files without which the folder counts as damaged, relative to it.
    pub(crate) required: &'a [&'a str],
}

impl Recipe<'_> {
    /// Whether `folder` holds this already.
    pub(crate) fn is_installed(&self, folder: &Path) -> bool {
        fs::read_to_string(folder.join(STAMP)).is_ok_and(|stamp| stamp == self.stamp)
            && self.required.iter().all(|file| folder.join(file).exists())
    }

    /// Makes `folder` anew: `fill` writes into an empty folder beside it, which then takes its place. An interrupted
    /// run leaves the old folder, or none, and the next run starts over.
    pub(crate) fn install(&self, folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let partial = beside(folder, "partial");
        let old = beside(folder, "old");
        remove_folder(&partial)?;
        remove_folder(&old)?;
        fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
        fill(&partial)?;
        for file in self.required {
            let file = partial.join(file);
            anyhow::ensure!(
                file.exists(),
                "unpacking left no {}: the package is not what was expected",
                file.display()
            );
        }
        fs::write(partial.join(STAMP), &self.stamp)?;
        if folder.exists() {
            fs::rename(folder, &old).with_context(|| format!("cannot move {} away", folder.display()))?;
        }
        fs::rename(&partial, folder)
            .with_context(|| format!("cannot rename {} to {}", partial.display(), folder.display()))?;
        remove_folder(&old)
    }
}

/// `dir/name` → `dir/.name.kind`.
fn beside(folder: &Path, kind: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.{kind}"))
}

/// Removes a folder with its content; one that is not there is fine.
pub(crate) fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(stamp: &str) -> Recipe<'static> {
        Recipe { stamp: stamp.to_owned(), required: &["lib/a.so"] }
    }

    fn fill(folder: &Path) -> Result<()> {
        fs::create_dir(folder.join("lib"))?;
        Ok(fs::write(folder.join("lib/a.so"), "a")?)
    }

    #[test]
    fn a_second_run_finds_it_and_a_new_version_replaces_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("set");
        assert!(!recipe("a 1").is_installed(&folder));
        recipe("a 1").install(&folder, fill).unwrap();
        assert!(recipe("a 1").is_installed(&folder));
        assert!(!recipe("a 2").is_installed(&folder));
        fs::write(folder.join("left over"), "").unwrap();
        recipe("a 2").install(&folder, fill).unwrap();
        assert!(recipe("a 2").is_installed(&folder));
        assert!(!folder.join("left over").exists());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing is left beside the folder");
    }

    #[test]
    fn a_missing_file_makes_it_stale() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("set");
        recipe("a 1").install(&folder, fill).unwrap();
        fs::remove_file(folder.join("lib/a.so")).unwrap();
        assert!(!recipe("a 1").is_installed(&folder));
    }

    #[test]
    fn a_failed_fill_leaves_the_old_folder_and_can_be_repeated() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("set");
        recipe("a 1").install(&folder, fill).unwrap();
        let failed = recipe("a 2").install(&folder, |partial| {
            fs::write(partial.join("half"), "")?;
            anyhow::bail!("the disk is full")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the disk is full");
        assert!(recipe("a 1").is_installed(&folder));
        let incomplete = recipe("a 2").install(&folder, |_| Ok(()));
        assert!(incomplete.unwrap_err().to_string().contains("lib/a.so"));
        recipe("a 2").install(&folder, fill).unwrap();
        assert!(recipe("a 2").is_installed(&folder));
        assert!(!folder.join("half").exists());
    }
}
