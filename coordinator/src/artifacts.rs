//! The folder of checkpoints: `SWEEP/trial-ID/epoch-0003-step-000123-1a2b3c4d.safetensors`.
//!
//! A file is written under another name, synced, renamed, and its folder synced, before any row names it; a row is
//! gone before its file is. What is left over after a crash has no row and is removed at the next start, unless
//! the folder has served another store too.

use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use tokio::io::AsyncWriteExt;

/// Where uploads are written until they are whole, in a folder for each store.
const UPLOADS: &str = ".uploads";
/// Ids of the stores that the folder has served, a line each.
const OWNERS: &str = ".stores";
/// The largest checkpoint taken: far above any network here.
pub(crate) const CHECKPOINT_BYTES_MAX: u64 = 16 << 30;

/// Why the artifacts folder cannot be used.
#[derive(Debug, Error)]
#[error("the artifacts folder {folder} cannot be used: {source}; give another one with --artifacts", folder = folder.display())]
pub struct ArtifactsError {
    /// The folder.
    pub folder: PathBuf,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

/// The folder.
#[derive(Debug)]
pub(crate) struct Artifacts {
    folder: PathBuf,
    uploads: PathBuf,
    begun: AtomicU64,
}

/// What a file is called: where in training it was saved, and the start of its hash.
pub(crate) fn file_name(sweep: &str, trial: u64, epoch: u32, step: u64, sha256: &str) -> String {
    let hash = sha256.get(..8).unwrap_or(sha256);
    format!("{sweep}/trial-{trial}/epoch-{epoch:04}-step-{step:06}-{hash}.safetensors")
}

impl Artifacts {
    /// Makes the folder if need be; removes what uploads have left, and files that no row names.
    pub(crate) fn open(folder: &Path, store_id: &str, named: &BTreeSet<String>) -> Result<Self, ArtifactsError> {
        let problem = |source| ArtifactsError { folder: folder.to_owned(), source };
        let uploads = folder.join(UPLOADS).join(store_id);
        match std::fs::remove_dir_all(&uploads) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(problem(error)),
        }
        let had_files = folder.exists();
        std::fs::create_dir_all(&uploads).map_err(problem)?;
        if owned_alone(folder, store_id, had_files).map_err(problem)? {
            remove_unnamed(folder, named).map_err(problem)?;
        }
        Ok(Self { folder: folder.to_owned(), uploads, begun: AtomicU64::new(0) })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Opens a file to be read: one below the folder, on a way without links.
    pub(crate) async fn open_file(&self, file: &str) -> io::Result<tokio::fs::File> {
        check_way(&self.folder, file)?;
        tokio::fs::File::open(self.path(file)).await
    }

    /// Begins a file.
    pub(crate) async fn begin(&self) -> io::Result<Upload> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let path = self.uploads.join(format!("{number}.part"));
        let file = tokio::fs::File::create(&path).await?;
        Ok(Upload { file, part: Part(path), hash: Sha256::new(), bytes: 0 })
    }

    /// Gives a whole file its name. True if there was one of that name, which it has replaced.
    pub(crate) async fn keep(&self, upload: Upload, name: &str) -> io::Result<bool> {
        let Upload { mut file, part, .. } = upload;
        file.flush().await?;
        file.sync_all().await?;
        drop(file);
        let target = self.path(name);
        let root = self.folder.clone();
        let name = name.to_owned();
        let kept = tokio::task::spawn_blocking(move || {
            check_way(&root, &name)?;
            let folder = target.parent().unwrap_or(&root).to_owned();
            let existed = target.exists();
            std::fs::create_dir_all(&folder)?;
            if std::fs::rename(&part.0, &target).is_err() {
                // The folder may just have been removed as empty.
                std::fs::create_dir_all(&folder)?;
                std::fs::rename(&part.0, &target)?;
            }
            // The name, then the names of the folders that may be new.
            for folder in folder.ancestors() {
                std::fs::File::open(folder)?.sync_all()?;
                if folder == root {
                    break;
                }
            }
            Ok(existed)
        });
        kept.await.map_err(io::Error::other)?
    }

    /// Gives damaged files another name, so that nobody takes them for checkpoints and a person can look at them.
    pub(crate) fn set_aside(&self, files: &[String]) {
        for file in files {
            let path = self.path(file);
            if let Err(error) = std::fs::rename(&path, self.path(&format!("{file}.damaged"))) {
                tracing::warn!(file = %path.display(), %error, "a damaged checkpoint could not be set aside");
            }
        }
    }

    /// Removes files that no row names any more, and folders that are empty then. What cannot be removed is told
    /// and stays until the next start.
    pub(crate) fn remove(&self, files: &[String]) {
        for file in files {
            let path = self.path(file);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(file = %path.display(), %error, "a checkpoint could not be removed"),
            }
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.folder) {
                // Refused while something is in it.
                if std::fs::remove_dir(folder).is_err() {
                    break;
                }
            }
        }
    }
}

/// Refuses a name that leads out of the folder: with parts that go up or begin elsewhere, or over a link that somebody
/// has put there. What is not there yet is no link.
fn check_way(root: &Path, name: &str) -> io::Result<()> {
    let refused = |problem: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} {problem}")));
    let mut path = root.to_owned();
    for part in Path::new(name).components() {
        let Component::Normal(part) = part else { return refused("leads out of the artifacts folder") };
        path.push(part);
        if path.symlink_metadata().is_ok_and(|facts| facts.is_symlink()) {
            return refused("leads over a link in the artifacts folder; put the real file or folder in its place");
        }
    }
    Ok(())
}

/// A file on its way in, hashed while it is written. Removed unless kept.
#[derive(Debug)]
pub(crate) struct Upload {
    file: tokio::fs::File,
    part: Part,
    hash: Sha256,
    pub(crate) bytes: u64,
}

impl Upload {
    pub(crate) async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.hash.update(data);
        self.bytes += data.len() as u64;
        self.file.write_all(data).await
    }

    /// Hexadecimal, of what was written so far.
    pub(crate) fn sha256(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }
}

/// A file that is there for as long as this is, unless it was given another name.
#[derive(Debug)]
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether this store is the only one that the folder has ever served; puts it on the list.
fn owned_alone(folder: &Path, store_id: &str, had_files: bool) -> io::Result<bool> {
    let list = folder.join(OWNERS);
    let mut owners = String::new();
    match std::fs::File::open(&list) {
        Ok(mut file) => {
            file.read_to_string(&mut owners)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if had_files && std::fs::read_dir(folder)?.count() > 1 {
                // Somebody's files, and nobody knows whose.
                owners = "unknown\n".to_owned();
            }
        }
        Err(error) => return Err(error),
    }
    if owners.lines().all(|owner| owner != store_id) {
        owners = format!("{owners}{store_id}\n");
        let mut file = std::fs::File::create(&list)?;
        file.write_all(owners.as_bytes())?;
        file.sync_all()?;
    }
    Ok(owners.lines().count() == 1)
}

/// Removes checkpoints without a row, in the two levels of folders where they lie.
fn remove_unnamed(folder: &Path, named: &BTreeSet<String>) -> io::Result<()> {
    for sweep in folders(folder)? {
        for trial in folders(&sweep)? {
            for entry in std::fs::read_dir(&trial)? {
                let path = entry?.path();
                let name = path.strip_prefix(folder).ok().and_then(Path::to_str);
                let is_checkpoint = path.extension().is_some_and(|extension| extension == "safetensors");
                if is_checkpoint && name.is_some_and(|name| !named.contains(name)) {
                    tracing::info!(file = %path.display(), "removed a checkpoint that nothing refers to");
                    std::fs::remove_file(&path)?;
                }
            }
        }
    }
    Ok(())
}

fn folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Links are not followed.
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str) {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "weights").unwrap();
    }

    #[test]
    fn what_no_row_names_goes_at_the_start_but_only_if_it_can_be_nobody_elses() {
        let kept = file_name("s", 1, 2, 30, "0123456789abcdef");
        let stray = file_name("s", 1, 1, 15, "fedcba9876543210");
        assert_eq!(kept, "s/trial-1/epoch-0002-step-000030-01234567.safetensors");
        let named = BTreeSet::from([kept.clone()]);
        // Who was there before, what was there before, whether the stray file goes.
        for (owners, files_first, goes) in
            [("", false, true), ("me\n", true, true), ("", true, false), ("me\nyou\n", true, false)]
        {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path().join("artifacts");
            if !files_first {
                Artifacts::open(&root, "me", &named).unwrap();
            }
            write(&root, &kept);
            write(&root, &stray);
            write(&root, "s/trial-1/notes.txt");
            write(&root, ".uploads/me/0.part");
            if !owners.is_empty() {
                std::fs::write(root.join(OWNERS), owners).unwrap();
            }
            let artifacts = Artifacts::open(&root, "me", &named).unwrap();
            assert!(artifacts.path(&kept).exists() && root.join("s/trial-1/notes.txt").exists());
            assert_eq!(artifacts.path(&stray).exists(), !goes, "{owners:?} {files_first}");
            assert!(!root.join(".uploads/me/0.part").exists());
        }
    }

    #[tokio::test]
    async fn an_upload_has_its_name_only_when_kept_and_empty_folders_go() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path(), "me", &BTreeSet::new()).unwrap();
        let mut upload = artifacts.begin().await.unwrap();
        upload.write(b"ab").await.unwrap();
        upload.write(b"c").await.unwrap();
        assert_eq!(upload.bytes, 3);
        assert_eq!(upload.sha256(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let name = file_name("s", 1, 1, 1, &upload.sha256());
        assert!(!artifacts.path(&name).exists());
        assert!(!artifacts.keep(upload, &name).await.unwrap());
        assert_eq!(std::fs::read(artifacts.path(&name)).unwrap(), b"abc");
        drop(artifacts.begin().await.unwrap());
        assert_eq!(std::fs::read_dir(&artifacts.uploads).unwrap().count(), 0);
        artifacts.remove(&[name.clone(), name]);
        assert!(!folder.path().join("s").exists());
    }

    #[tokio::test]
    async fn no_name_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        write(&outside, "trial-1/secret.safetensors");
        let root = folder.path().join("artifacts");
        let artifacts = Artifacts::open(&root, "me", &BTreeSet::new()).unwrap();
        write(&root, "s/trial-1/real.safetensors");
        std::os::unix::fs::symlink(&outside, root.join("linked")).unwrap();
        std::os::unix::fs::symlink(outside.join("trial-1/secret.safetensors"), root.join("s/link.safetensors"))
            .unwrap();
        for (name, expected) in [
            ("s/trial-1/real.safetensors", ""),
            ("../outside/trial-1/secret.safetensors", "leads out of"),
            ("/etc/passwd", "leads out of"),
            ("s/../../outside/trial-1/secret.safetensors", "leads out of"),
            ("linked/trial-1/secret.safetensors", "leads over a link"),
            ("s/link.safetensors", "leads over a link"),
        ] {
            let read = artifacts.open_file(name).await.map_or_else(|error| error.to_string(), |_| String::new());
            let fits = |said: &str| if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(fits(&read), "{name}: {read}");
            if !expected.is_empty() {
                let kept = artifacts.keep(artifacts.begin().await.unwrap(), name).await.unwrap_err().to_string();
                assert!(fits(&kept), "{name}: {kept}");
            }
        }
        assert_eq!(std::fs::read_dir(outside.join("trial-1")).unwrap().count(), 1);
    }
}
