//! The programs that train: where they are, and how they are started.

use crate::libtorch::Libtorch;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

    /// Starts it once, with no orders, to see whether the loader can put it together.
    ///
    /// # Errors
    /// The loader's words.
    pub fn try_to_load(&self) -> Result<(), String> {
        let name = self.executable.display();
        let mut child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        let until = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                break status;
            }
            if Instant::now() > until {
                // It was loaded, or it would have ended; it is ours to end.
                let _ = child.kill();
                let _ = child.wait();
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        // Without orders it may end as it likes; 127 is the loader's.
        if status.code() != Some(127) {
            return Ok(());
        }
        let mut words = String::new();
        if let Some(mut pipe) = child.stderr.take() {
            // What cannot be read is not told.
            let _ = pipe.read_to_string(&mut words);
        }
        Err(format!(
            "{name} cannot be loaded with the libtorch in {} (by {}): {}",
            self.libtorch.library_folder.display(),
            self.libtorch.found_by,
            words.trim()
        ))
    }
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
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_trainer_that_is_nowhere_is_named_with_where_it_was_looked_for() {
        let error = find("no-such-trainer", None).unwrap_err();
        assert!(error.starts_with("no-such-trainer is neither at /"), "{error}");
        let error = find(TRAINER, Some(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(error, "there is no /nowhere, which was given as alpharho-trainer");
        assert!(find("sh", None).is_ok());
    }

    #[test]
    fn a_trainer_that_cannot_be_loaded_is_told_apart_from_one_without_orders() {
        let home = tempfile::tempdir().unwrap();
        let check = |script: &str, expected: Result<(), &str>| {
            let executable = home.path().join("trainer");
            fs::write(&executable, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&executable, fs::Permissions::from_mode(0o755)).unwrap();
            let libtorch = Libtorch {
                library_folder: "/t/lib".into(),
                more_folders: vec![],
                version: None,
                found_by: "LIBTORCH".into(),
                cuda: false,
            };
            let loaded = RealTrainer { executable, libtorch }.try_to_load();
            match (loaded, expected) {
                (Ok(()), Ok(())) => {}
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (loaded, _) => panic!("{script}: {loaded:?}"),
            }
        };
        check("exit 2", Ok(()));
        check("echo $ALPHARHO_LIBTORCH ${LD_LIBRARY_PATH%%:*} >&2; exit 127", Err(": /t/lib /t/lib"));
        check("echo libtorch.so: cannot open >&2; exit 127", Err("libtorch.so: cannot open"));
    }
}
