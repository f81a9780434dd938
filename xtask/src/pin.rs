//! Downloads that are pinned by version and SHA-256.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

/// One package, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// The package's name in its registry.
    pub(crate) name: String,
    /// Its exact version.
    pub(crate) version: String,
    /// SHA-256 of the file, in small hex digits.
    pub(crate) sha256: String,
}

impl fmt::Display for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name, self.version)
    }
}

impl Pin {
    /// The line of a requirements file.
    pub(crate) fn requirement(&self) -> String {
        format!("{}=={} --hash=sha256:{}", self.name, self.version, self.sha256)
    }

    /// The line of a stamp.
    pub(crate) fn stamp(&self) -> String {
        format!("{} {} sha256:{}\n", self.name, self.version, self.sha256)
    }

    /// The file in `folder` that is this package, known by its hash. A file of that name with another hash is the
    /// rest of an interrupted download and is removed.
    pub(crate) fn find(&self, folder: &Path) -> Result<Option<PathBuf>> {
        let start = format!("{}-{}-", self.name.replace('-', "_"), self.version);
        let debian_start = format!("{}_{}_", self.name, self.version);
        let Ok(entries) = folder.read_dir() else { return Ok(None) };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with(&start) && !name.starts_with(&debian_start) {
                continue;
            }
            if sha256(&entry.path())? == self.sha256 {
                return Ok(Some(entry.path()));
            }
            std::fs::remove_file(entry.path())?;
        }
        Ok(None)
    }
}

/// Reads the pins of a requirements file: `name==version --hash=sha256:…` in each line; `#` begins a comment.
pub(crate) fn parse_requirements(text: &str) -> Result<Vec<Pin>> {
    let mut pins = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let pin = parse_requirement(line).with_context(|| format!("line {}: {line}", index + 1))?;
        pins.push(pin);
    }
    ensure!(!pins.is_empty(), "no package is named");
    Ok(pins)
}

fn parse_requirement(line: &str) -> Result<Pin> {
    let (name, rest) = line.split_once("==").context("no exact version (name==version)")?;
    let (version, hash) = rest.split_once(" --hash=sha256:").context("no --hash=sha256:…")?;
    let hash = hash.trim();
    ensure!(hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "not a SHA-256: {hash}");
    Ok(Pin { name: name.trim().to_owned(), version: version.trim().to_owned(), sha256: hash.to_owned() })
}

/// The SHA-256 of a file, in small hex digits.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let reading = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(reading)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).with_context(reading)?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

/// Refuses a file whose SHA-256 is not `expected`.
pub(crate) fn check_sha256(path: &Path, expected: &str) -> Result<()> {
    let actual = sha256(path)?;
    if actual != expected {
        bail!(
            "{}: its SHA-256 is {actual}, expected {expected}; remove the file and run the same command again",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// SHA-256 of "abc", from FIPS 180-2.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn hashes_are_checked() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "abc").unwrap();
        check_sha256(&file, ABC).unwrap();
        fs::write(&file, "abd").unwrap();
        let message = check_sha256(&file, ABC).unwrap_err().to_string();
        assert!(message.contains("file: its SHA-256 is a52d159f"), "{message}");
        assert!(message.contains("remove the file"), "{message}");
        assert!(check_sha256(&home.path().join("none"), ABC).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn requirements_are_pinned_or_refused() {
        let pin = Pin { name: "a-b".into(), version: "1.0".into(), sha256: ABC.into() };
        let text = format!("# why\n\n{}  # this\n", pin.requirement());
        assert_eq!(parse_requirements(&text).unwrap(), [pin]);
        let check = |text: &str, expected: &str| {
            let message = format!("{:#}", parse_requirements(text).unwrap_err());
            assert!(message.contains(expected), "{text:?} gives {message:?}");
        };
        check("", "no package is named");
        check("a>=1", "line 1: a>=1: no exact version");
        check("a==1", "line 1: a==1: no --hash=sha256:");
        check("a==1 --hash=sha256:12", "not a SHA-256: 12");
    }

    #[test]
    fn every_shipped_requirements_file_is_pinned() {
        for text in [
            include_str!("../requirements/elpv.txt"),
            include_str!("../requirements/libtorch-cpu.txt"),
            include_str!("../requirements/libtorch-cuda.txt"),
        ] {
            parse_requirements(text).unwrap();
        }
    }

    #[test]
    fn a_download_is_known_by_its_hash() {
        let home = tempfile::tempdir().unwrap();
        let pin = Pin { name: "a-b".into(), version: "1.0".into(), sha256: ABC.into() };
        let wheel = home.path().join("a_b-1.0-py3-none-any.whl");
        assert_eq!(pin.find(home.path()).unwrap(), None);
        fs::write(&wheel, "ab").unwrap();
        assert_eq!(pin.find(home.path()).unwrap(), None);
        assert!(!wheel.exists(), "half a file is removed");
        fs::write(&wheel, "abc").unwrap();
        assert_eq!(pin.find(home.path()).unwrap(), Some(wheel));
        fs::write(home.path().join("a-b_1.0_all.deb"), "abc").unwrap();
        assert!(pin.find(home.path()).unwrap().is_some());
        assert_eq!(pin.find(&home.path().join("none")).unwrap(), None);
    }
}
