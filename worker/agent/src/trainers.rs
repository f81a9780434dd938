//! The programs that train: where they are, and how they are started.

use crate::libtorch::Libtorch;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Name of the trainer that links libtorch.
pub const TRAINER: &str = "alpharho-trainer";
/// Name of the one that acts out scripts.
pub const SCRIPTED_TRAINER: &str = "alpharho-trainer-scripted";

/// What this worker can run. Each is there, or a sentence says why not.
#[derive(Clone, Debug)]
pub struct Trainers {
    /// For real trials.
    pub real: Result<RealTrainer, String>,
    /// For trials with a script.
    pub scripted: Result<PathBuf, String>,
}

/// The trainer and the library it is started with.
#[derive(Clone, Debug)]
pub struct RealTrainer {
    /// The executable.
    pub executable: PathBuf,
    /// Its libtorch.
    pub libtorch: Libtorch,
}

impl Trainers {
    /// How to start the one for such a trial.
    ///
    /// # Errors
    /// The sentence that says why it is not there.
    pub fn command(&self, scripted: bool) -> Result<Command, String> {
        if scripted {
            return self.scripted.clone().map(Command::new);
        }
        self.real.clone().map(|real| real.command())
    }
}

impl RealTrainer {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        let already_set = std::env::var("LD_LIBRARY_PATH").ok();
        command.env("LD_LIBRARY_PATH", self.libtorch.loader_path(already_set.as_deref()));
        command.env("ALPHARHO_LIBTORCH", &self.libtorch.library_folder);
        command
    }

    /// Has the loader put it together without running it, which takes a tenth of the time.
    ///
    /// # Errors
    /// The loader's words.
    pub fn try_to_load(&self) -> Result<(), String> {
        let name = self.executable.display();
        let mut command = self.command();
        // A program that is linked against nothing starts nevertheless; without orders it ends.
        command.stdin(Stdio::null()).env("LD_TRACE_LOADED_OBJECTS", "1").env("LD_WARN", "1");
        let output = command.output().map_err(|error| format!("{name} cannot be started: {error}"))?;
        let [listed, words] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        let missing: Vec<&str> = missing(&listed).chain(missing(&words)).collect();
        // 127 is the loader's.
        if missing.is_empty() && output.status.code() != Some(127) {
            return Ok(());
        }
        Err(format!(
            "{name} cannot be loaded with the libtorch in {} (by {}): {}",
            self.libtorch.library_folder.display(),
            self.libtorch.found_by,
            if missing.is_empty() { words.trim().to_owned() } else { missing.join(", ") }
        ))
    }
}

/// What the loader says of libraries that are nowhere, or not new enough, and of what they should define and do not.
fn missing(said: &str) -> impl Iterator<Item = &str> {
    said.lines().map(str::trim).filter(|line| line.contains("not found") || line.contains("undefined symbol"))
}

/// The executable: as told, else beside this one, else on the path.
///
/// # Errors
/// A sentence with all that was looked at.
pub fn find(name: &str, told: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(told) = told {
        return if told.is_file() {
            Ok(told.to_path_buf())
        } else {
            Err(format!("there is no {}, which was given as {name}", told.display()))
        };
    }
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(name)));
    if let Some(beside) = beside.as_ref().filter(|file| file.is_file()) {
        return Ok(beside.clone());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()) {
        return Ok(found);
    }
    Err(format!(
        "{name} is neither at {} nor on PATH; build it with `cargo build --release -p {name}`, or copy it beside this \
         executable",
        beside.unwrap_or_default().display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_trainer_that_is_nowhere_is_named_with_where_it_was_looked_for() {
        let error = find("no-such-trainer", None).unwrap_err();
        assert!(error.starts_with("no-such-trainer is neither at /"), "{error}");
        let error = find(TRAINER, Some(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(error, "there is no /nowhere, which was given as alpharho-trainer");
        assert!(find("sh", None).is_ok());
    }

    #[test]
    fn a_trainer_that_cannot_be_loaded_is_told_apart_from_one_that_can() {
        let home = tempfile::tempdir().unwrap();
        let trainer = RealTrainer {
            executable: find("sh", None).unwrap(),
            libtorch: Libtorch {
                library_folder: home.path().to_owned(),
                more_folders: vec![],
                version: None,
                found_by: "LIBTORCH".into(),
                cuda: false,
            },
        };
        trainer.try_to_load().unwrap();
        fs::write(home.path().join("libc.so.6"), "").unwrap();
        let error = trainer.try_to_load().unwrap_err();
        assert!(error.contains("libc.so.6") && error.contains("(by LIBTORCH): "), "{error}");
    }

    #[test]
    fn libraries_that_are_nowhere_are_named() {
        let listed = "\tlibm.so.6 => /lib/libm.so.6 (0x00007f)\n\tlibtorch_cpu.so => not found\n\tlibgcc_s.so.1 => \
                      /lib/libgcc_s.so.1 (0x00007f)\n";
        assert_eq!(missing(listed).collect::<Vec<_>>(), ["libtorch_cpu.so => not found"]);
        let words = "undefined symbol: _ZN2at5emptyE\t(/opt/alpharho-trainer)\n";
        assert_eq!(missing(words).count(), 1);
    }
}
