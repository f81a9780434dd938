//! Where things lie, and the environment that the programs we start get to see.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Variables that `.cargo/config.toml` gives to what cargo runs, xtask among them, as if the user had set them.
const GIVEN_BY_CARGO_CONFIG: [(&str, &str); 2] = [("LIBTORCH", "libtorch/cpu"), ("LIBTORCH_CXX11_ABI", "1")];

/// What `cargo run` tells xtask about itself. A cargo started by xtask must not take it for the user's wish, and
/// build scripts that watch these would run again without need.
const ABOUT_XTASK: [&str; 7] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
];

/// The working tree, and in it the ignored folder with everything that setup brings.
#[derive(Clone, Debug)]
pub(crate) struct House {
    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// `.alpharho`: libtorch, data, downloads.
    pub(crate) state: PathBuf,
}

impl House {
    /// The tree that holds this xtask: cargo says where; without cargo, where xtask was built.
    pub(crate) fn of_xtask() -> Self {
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let manifest = PathBuf::from(manifest);
        Self::at(manifest.parent().unwrap_or(&manifest))
    }

    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf(), state: root.join(".alpharho") }
    }

    /// The folder of a flavour of libtorch: `lib/` and `include/`.
    pub(crate) fn libtorch(&self, flavour: &str) -> PathBuf {
        self.state.join("libtorch").join(flavour)
    }

    /// The folder of a data set.
    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.state.join("data").join(name)
    }

    /// Verified downloads wait here until they are unpacked.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.state.join("downloads")
    }

    /// What a program writes to `TMPDIR`: beside the rest, because `/tmp` is often too small for libtorch.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.state.join("scratch")
    }

    /// Cargo's folder of build results.
    pub(crate) fn target(&self) -> PathBuf {
        match env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => self.root.join(folder),
            None => self.root.join("target"),
        }
    }

    /// The value of a variable that the user set; none when it is only what `.cargo/config.toml` gave.
    pub(crate) fn set_by_user(&self, name: &str) -> Option<String> {
        self.not_from_cargo(name, env::var(name).ok()?)
    }

    fn not_from_cargo(&self, name: &str, value: String) -> Option<String> {
        let given = GIVEN_BY_CARGO_CONFIG.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
        let is_given = match given {
            Some(path) if path.contains('/') => same_place(Path::new(&value), &self.state.join(path)),
            Some(word) => value == word,
            None => false,
        };
        (!is_given && !value.is_empty()).then_some(value)
    }

    /// A command that starts in the root and sees the environment the user gave, nothing that cargo added.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            let about_xtask = ABOUT_XTASK.iter().any(|start| name.starts_with(start));
            let from_config = GIVEN_BY_CARGO_CONFIG.iter().any(|(given, _)| *given == name);
            if about_xtask || (from_config && self.set_by_user(name).is_none()) {
                command.env_remove(name);
            }
        }
        match env::join_paths(self.loader_path_of_user()) {
            Ok(path) if !path.is_empty() => command.env("LD_LIBRARY_PATH", path),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
        command
    }

    /// The loader's path without what cargo and its configuration put there: libtorch's own OpenMP library must not
    /// end up in pip or apt-get.
    pub(crate) fn loader_path_of_user(&self) -> Vec<PathBuf> {
        let path = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let toolchains = env::var_os("RUSTUP_HOME").map(PathBuf::from);
        env::split_paths(&path).filter(|folder| !self.is_of_cargo(folder, toolchains.as_deref())).collect()
    }

    fn is_of_cargo(&self, folder: &Path, toolchains: Option<&Path>) -> bool {
        folder.as_os_str().is_empty()
            || folder.starts_with(self.target())
            || folder.starts_with(&self.state)
            || toolchains.is_some_and(|toolchains| folder.starts_with(toolchains))
            || folder.components().any(|part| part.as_os_str() == "rustlib" || part.as_os_str() == ".rustup")
    }
}

/// Whether two paths mean the same file, symbolic links followed where they exist.
fn same_place(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    a == b || real(a) == real(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_config_gives_is_not_the_users_wish() {
        let house = House::at(Path::new("/tree"));
        let check = |name: &str, value: &str, expected: Option<&str>| {
            assert_eq!(house.not_from_cargo(name, value.to_owned()).as_deref(), expected, "{name}={value}");
        };
        check("LIBTORCH", "/tree/.alpharho/libtorch/cpu", None);
        check("LIBTORCH", "/opt/libtorch", Some("/opt/libtorch"));
        check("LIBTORCH", "", None);
        check("LIBTORCH_CXX11_ABI", "1", None);
        check("LIBTORCH_CXX11_ABI", "0", Some("0"));
        check("LIBTORCH_USE_PYTORCH", "1", Some("1"));
    }

    #[test]
    fn the_users_part_of_the_loader_path_is_known() {
        let house = House::at(Path::new("/tree"));
        let check = |folder: &str, expected: bool| {
            assert_eq!(house.is_of_cargo(Path::new(folder), Some(Path::new("/opt/rust"))), expected, "{folder}");
        };
        check("/usr/local/cuda/lib64", false);
        check("/tree/.alpharho/libtorch/cpu/lib", true);
        check("/home/me/.rustup/toolchains/stable/lib", true);
        check("/opt/rust/toolchains/stable/lib", true);
        check("/usr/lib/rustlib/x86_64-unknown-linux-gnu/lib", true);
        check("", true);
    }
}
