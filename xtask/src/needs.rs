//! What a machine must bring: each thing that is missing is one line that says what to install.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const GIB: u64 = 1 << 30;

/// A C++ compiler, for the bridge between Rust and libtorch: `CXX`, else `c++`.
pub(crate) fn compiler() -> Result<()> {
    let compiler = env::var("CXX").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "c++".to_owned());
    // CXX may hold a wrapper and flags: `ccache g++`.
    let program = compiler.split_whitespace().next().unwrap_or("c++");
    match find_program(program, env::var_os("PATH").as_deref()) {
        Some(_) => Ok(()),
        None => bail!("{}", no_compiler(program)),
    }
}

fn no_compiler(program: &str) -> String {
    format!(
        "no C++ compiler: {program:?} is not on PATH; install one (Debian, Ubuntu: apt-get install g++; Fedora: dnf \
         install gcc-c++) or name yours in CXX, then run the same command again"
    )
}

/// `make`, which the build script of the trainer's allocator calls.
pub(crate) fn make() -> Result<()> {
    match find_program("make", env::var_os("PATH").as_deref()) {
        Some(_) => Ok(()),
        None => bail!("{NO_MAKE}"),
    }
}

const NO_MAKE: &str = "no make: \"make\" is not on PATH; install it (Debian, Ubuntu: apt-get install make; Fedora: dnf \
    install make), then run the same command again";

/// Python 3, and how to call its pip.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    /// The interpreter.
    pub(crate) python: PathBuf,
    /// What pip's own arguments come after: `python3 -m pip`, or `pip3`.
    pub(crate) pip: Vec<PathBuf>,
}

/// Finds Python 3 and pip.
pub(crate) fn python() -> Result<Python> {
    let path = env::var_os("PATH");
    let find = |name: &str| find_program(name, path.as_deref());
    let Some(python) =
        ["python3", "python"].into_iter().filter_map(find).find(|python| answers(python, &["-c", IS_PYTHON_3]))
    else {
        bail!("{NO_PYTHON}");
    };
    if answers(&python, &["-m", "pip", "--version"]) {
        return Ok(Python { pip: vec![python.clone(), "-m".into(), "pip".into()], python });
    }
    match ["pip3", "pip"].into_iter().filter_map(find).find(|pip| answers(pip, &["--version"])) {
        Some(pip) => Ok(Python { python, pip: vec![pip] }),
        None => bail!("{}", no_pip(&python)),
    }
}

const IS_PYTHON_3: &str = "import sys, zipfile, zlib; sys.exit(sys.version_info < (3, 7))";

const NO_PYTHON: &str = "no Python: \"python3\" (3.7 or newer) is not on PATH; libtorch comes out of a pip wheel, so \
    install it with pip (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf install python3-pip), then run the \
    same command again";

fn no_pip(python: &Path) -> String {
    format!(
        "no pip: \"{} -m pip\" does not work; install it (Debian, Ubuntu: apt-get install python3-pip; Fedora: dnf \
         install python3-pip; elsewhere: {0} -m ensurepip), then run the same command again",
        python.display()
    )
}

fn answers(program: &Path, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env_remove("LD_LIBRARY_PATH").status().is_ok_and(|status| status.success())
}

/// Room on the disk that holds `folder`, which must exist, for `what`.
pub(crate) fn disk(folder: &Path, needed_gib: u64, what: &str) -> Result<()> {
    let disk = rustix::fs::statvfs(folder)
        .with_context(|| format!("cannot ask for the free space of {}", folder.display()))?;
    match too_little(disk.f_bavail.saturating_mul(disk.f_frsize), needed_gib) {
        Some(free) => bail!(
            "not enough disk space: {what} needs about {needed_gib} GiB, {} has {free:.1} GiB free; make room or put \
             the tree on a larger disk, then run the same command again",
            folder.display()
        ),
        None => Ok(()),
    }
}

/// The free space in GiB where it is less than needed.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn too_little(free_bytes: u64, needed_gib: u64) -> Option<f64> {
    (free_bytes < needed_gib * GIB).then_some(free_bytes as f64 / GIB as f64)
}

/// The executable that a shell would start for `name`; a name with a slash is a path.
pub(crate) fn find_program(name: &str, path: Option<&std::ffi::OsStr>) -> Option<PathBuf> {
    if name.contains('/') {
        return is_executable(Path::new(name)).then(|| PathBuf::from(name));
    }
    env::split_paths(path?).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_found_as_a_shell_does() {
        let home = tempfile::tempdir().unwrap();
        let (first, second) = (home.path().join("first"), home.path().join("second"));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        fs::write(first.join("tool"), "not executable").unwrap();
        fs::write(second.join("tool"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(second.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = env::join_paths([&first, &second]).unwrap();
        assert_eq!(find_program("tool", Some(&path)), Some(second.join("tool")));
        assert_eq!(find_program("other", Some(&path)), None);
        assert_eq!(find_program("tool", None), None);
        let absolute = second.join("tool");
        assert_eq!(find_program(absolute.to_str().unwrap(), None), Some(absolute));
    }

    #[test]
    fn what_is_missing_is_one_line_that_says_what_to_install() {
        for (message, package) in [
            (no_compiler("c++"), "apt-get install g++"),
            (NO_MAKE.to_owned(), "apt-get install make"),
            (NO_PYTHON.to_owned(), "apt-get install python3-pip"),
            (no_pip(Path::new("/usr/bin/python3")), "apt-get install python3-pip"),
        ] {
            assert!(message.contains(package), "{message}");
            assert_eq!(message.lines().count(), 1);
        }
    }

    #[test]
    fn free_space_is_compared_with_what_is_needed() {
        assert_eq!(too_little(4 * GIB, 4), None);
        assert_eq!(too_little(3 * GIB + GIB / 2, 4), Some(3.5));
        let home = tempfile::tempdir().unwrap();
        disk(home.path(), 0, "nothing").unwrap();
        let message = disk(home.path(), 1 << 30, "everything").unwrap_err().to_string();
        assert!(message.starts_with("not enough disk space: everything needs about"), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
}
