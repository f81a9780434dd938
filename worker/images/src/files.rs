//! Files as they are found: never a device or a pipe, which have no end, and never more than is meant to be read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An image file, and what is kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct FileBuffer {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// Opens what must be a plain file, or a link to one.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    // Before it is opened: a pipe would be waited for.
    if fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"))
}

/// Reads a plain file whole.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read_file_into(path, bytes_max, &mut bytes)?;
    Ok(bytes)
}

/// The same into a buffer that is used again.
pub(super) fn read_file_into(path: &Path, bytes_max: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    open_file(path)?.take(bytes_max + 1).read_to_end(bytes)?;
    if bytes.len() as u64 > bytes_max {
        let problem = format!("it is larger than the {bytes_max} bytes that are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_pipes_and_what_is_too_large_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("plain"), "12345").unwrap();
        std::os::unix::fs::symlink(at("plain"), at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        let pipe = std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap();
        assert!(pipe.success());
        let check = |name: &str, bytes_max: u64, expected: &str| {
            let read = read_file(&at(name), bytes_max);
            let said = read.map_or_else(|error| error.to_string(), |bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(said, expected, "{name}");
        };
        check("plain", 5, "12345");
        check("link", 5, "12345");
        check("plain", 4, "it is larger than the 4 bytes that are read");
        for endless in ["zero", "pipe", "."] {
            check(endless, 5, "it is not a file");
        }
    }
}
