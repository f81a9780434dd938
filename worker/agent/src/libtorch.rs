//! Finding libtorch, so that nobody sets a loader's path by hand.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The version that the trainer is built for.
pub const VERSION_WANTED: &str = "2.11";

/// A libtorch that the trainer can be started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder with `libtorch_cpu.so`.
    pub library_folder: PathBuf,
    /// Folders of CUDA's libraries that a pip-installed PyTorch needs.
    pub more_folders: Vec<PathBuf>,
    /// `2.11.0`; `None` where the folder does not say.
    pub version: Option<String>,
    /// For people: which way it was found.
    pub found_by: String,
    /// Whether the CUDA part lies there.
    pub cuda: bool,
}

impl Libtorch {
    /// The value of `LD_LIBRARY_PATH` that a trainer needs: these folders before those already set.
    #[must_use]
    pub fn loader_path(&self, already_set: Option<&str>) -> String {
        let folders = std::iter::once(&self.library_folder).chain(&self.more_folders);
        let mut parts: Vec<String> = folders.map(|folder| folder.display().to_string()).collect();
        parts.extend(already_set.filter(|set| !set.is_empty()).map(str::to_owned));
        parts.join(":")
    }
}

/// No libtorch: every place that was looked at, and why it was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NotFound {
    /// In the order of looking.
    pub looked_at: Vec<String>,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no libtorch {VERSION_WANTED} was found. Looked at:")?;
        for place in &self.looked_at {
            write!(f, "\n  - {place}")?;
        }
        write!(
            f,
            "\nRun `cargo xtask setup` in the source tree, or `pip install torch=={VERSION_WANTED}.0`, or name a folder \
             with --libtorch DIR"
        )
    }
}

/// Where to look: arguments and surroundings, given from outside.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `--libtorch DIR`: nothing else is looked at.
    pub told: Option<PathBuf>,
    /// The variable `LIBTORCH`.
    pub variable: Option<PathBuf>,
    /// The interpreter to ask for an installed PyTorch; `None` skips that.
    pub python: Option<PathBuf>,
    /// Folders that may hold `.alpharho/libtorch/{cuda,cpu}`, likeliest first.
    pub roots: Vec<PathBuf>,
}

impl Places {
    /// What a person expects: the environment, `python3`, the working folder, then all folders above the executable.
    #[must_use]
    pub fn usual(told: Option<PathBuf>) -> Self {
        let mut roots: Vec<PathBuf> = std::env::current_dir().into_iter().collect();
        if let Ok(executable) = std::env::current_exe() {
            roots.extend(executable.ancestors().skip(1).map(Path::to_path_buf));
        }
        roots.dedup();
        Self {
            told,
            variable: std::env::var_os("LIBTORCH").filter(|value| !value.is_empty()).map(PathBuf::from),
            python: Some(PathBuf::from("python3")),
            roots,
        }
    }

    /// The first libtorch that fits.
    ///
    /// # Errors
    /// When there is none; the error lists every place.
    pub fn find(&self) -> Result<Libtorch, NotFound> {
        let mut looked_at = Vec::new();
        if let Some(told) = &self.told {
            return look(told, "--libtorch").map_err(|why| NotFound { looked_at: vec![why] });
        }
        let mut tries: Vec<Box<dyn Fn() -> Result<Libtorch, String> + '_>> = Vec::new();
        match &self.variable {
            Some(folder) => tries.push(Box::new(|| look(folder, "LIBTORCH"))),
            None => looked_at.push("the variable LIBTORCH: not set".to_owned()),
        }
        if let Some(python) = &self.python {
            tries.push(Box::new(|| ask_python(python)));
        }
        for attempt in tries {
            match attempt() {
                Ok(found) => return Ok(found),
                Err(why) => looked_at.push(why),
            }
        }
        for flavour in ["cuda", "cpu"] {
            for root in &self.roots {
                let folder = root.join(".alpharho/libtorch").join(flavour);
                if folder.is_dir() {
                    match look(&folder, "cargo xtask setup") {
                        Ok(found) => return Ok(found),
                        Err(why) => looked_at.push(why),
                    }
                }
            }
        }
        let roots: Vec<String> = self.roots.iter().take(2).map(|root| root.display().to_string()).collect();
        looked_at.push(format!("cargo xtask setup: no .alpharho/libtorch in {} or above", roots.join(", ")));
        Err(NotFound { looked_at })
    }
}

/// A folder, or its `lib`, if libtorch of the right version lies there.
fn look(folder: &Path, found_by: &str) -> Result<Libtorch, String> {
    let candidates = [folder.to_path_buf(), folder.join("lib")];
    let Some(library_folder) = candidates.iter().find(|folder| folder.join("libtorch_cpu.so").exists()) else {
        return Err(format!("{found_by}: no libtorch_cpu.so in {} or its lib", folder.display()));
    };
    let library_folder = library_folder.canonicalize().unwrap_or_else(|_| library_folder.clone());
    let version = version(library_folder.parent().unwrap_or(&library_folder));
    checked(library_folder, version, found_by)
}

fn checked(library_folder: PathBuf, version: Option<String>, found_by: &str) -> Result<Libtorch, String> {
    if let Some(version) = version.as_deref().filter(|version| !is_wanted(version)) {
        return Err(format!(
            "{found_by}: {} is libtorch {version}; {VERSION_WANTED} is needed",
            library_folder.display()
        ));
    }
    Ok(Libtorch {
        more_folders: nvidia_folders(&library_folder),
        cuda: library_folder.join("libtorch_cuda.so").exists(),
        version,
        found_by: found_by.to_owned(),
        library_folder,
    })
}

fn is_wanted(version: &str) -> bool {
    version.strip_prefix(VERSION_WANTED).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// From the files that distributions of libtorch carry: `build-version`, Python's `version.py`, the C++ header.
fn version(root: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(root.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    if let Ok(text) = std::fs::read_to_string(root.join("version.py")) {
        let line = text.lines().find(|line| line.starts_with("__version__"))?;
        return line.split(['\'', '"']).nth(1).map(str::to_owned);
    }
    let header = std::fs::read_to_string(root.join("include/torch/headeronly/version.h")).ok()?;
    let number = |name: &str| {
        header.lines().find_map(|line| line.strip_prefix("#define ")?.strip_prefix(name)?.trim().parse::<u32>().ok())
    };
    let part = |name| number(name).map(|number| number.to_string());
    Some([part("TORCH_VERSION_MAJOR")?, part("TORCH_VERSION_MINOR")?, part("TORCH_VERSION_PATCH")?].join("."))
}

/// `site-packages/nvidia/*/lib` beside `site-packages/torch/lib`.
fn nvidia_folders(library_folder: &Path) -> Vec<PathBuf> {
    let Some(nvidia) = library_folder.ancestors().nth(2).map(|packages| packages.join("nvidia")) else {
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = std::fs::read_dir(nvidia)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("lib")))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    folders
}

/// Asks Python where PyTorch is, without importing it: that would take seconds.
fn ask_python(python: &Path) -> Result<Libtorch, String> {
    const QUESTION: &str = "import importlib.util as u, importlib.metadata as m\ns = u.find_spec('torch')\n\
        print(s.submodule_search_locations[0] if s else '')\nprint(m.version('torch') if s else '')";
    let name = python.display();
    let text = output(python, &["-c", QUESTION]).map_err(|why| format!("PyTorch of {name}: {why}"))?;
    let mut lines = text.lines();
    let (folder, version) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    if folder.is_empty() {
        return Err(format!("PyTorch of {name}: not installed"));
    }
    let library_folder = Path::new(folder).join("lib");
    let found_by = format!("PyTorch of {name}");
    if !library_folder.join("libtorch_cpu.so").exists() {
        return Err(format!("{found_by}: no libtorch_cpu.so in {}", library_folder.display()));
    }
    checked(library_folder, Some(version.to_owned()), &found_by)
}

/// What a program prints, within ten seconds.
fn output(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let until = Instant::now() + Duration::from_secs(10);
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if Instant::now() > until {
            // It is ours, and it hangs.
            let _ = child.kill();
            let _ = child.wait();
            return Err("gave no answer in 10 seconds".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn lay(folder: &Path, files: &[(&str, &str)]) {
        for (file, content) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    #[test]
    fn the_version_is_read_wherever_it_stands() {
        let check = |file: &str, content: &str, expected: Option<&str>| {
            let folder = tempfile::tempdir().unwrap();
            lay(folder.path(), &[(file, content)]);
            assert_eq!(version(folder.path()).as_deref(), expected, "{file}");
        };
        check("build-version", "2.11.0+cpu\n", Some("2.11.0+cpu"));
        check("version.py", "x = 1\n__version__ = '2.11.0+cu130'\n", Some("2.11.0+cu130"));
        check(
            "include/torch/headeronly/version.h",
            "#define TORCH_VERSION_MAJOR 2\n#define TORCH_VERSION_MINOR 11\n#define TORCH_VERSION_PATCH 0\n",
            Some("2.11.0"),
        );
        check("other", "", None);
    }

    #[test]
    fn only_the_wanted_version_is_taken() {
        for (version, expected) in [
            ("2.11.0", true),
            ("2.11.0+cu130", true),
            ("2.11", true),
            ("2.110.0", false),
            ("2.10.0", false),
            ("", false),
        ] {
            assert_eq!(is_wanted(version), expected, "{version}");
        }
    }

    #[test]
    fn a_folder_told_is_the_only_one_looked_at() {
        let home = tempfile::tempdir().unwrap();
        lay(home.path(), &[("good/lib/libtorch_cpu.so", ""), ("good/build-version", "2.11.0")]);
        let places = Places {
            told: Some(home.path().join("bad")),
            variable: Some(home.path().join("good")),
            ..Places::default()
        };
        let error = places.find().unwrap_err();
        assert_eq!(error.looked_at.len(), 1);
        assert!(error.to_string().contains("--libtorch: no libtorch_cpu.so in "), "{error}");
        let good = Places { told: None, ..places }.find().unwrap();
        assert_eq!(good.found_by, "LIBTORCH");
        assert!(good.library_folder.ends_with("good/lib"));
    }

    #[test]
    fn the_folder_of_setup_is_found_last_cuda_first() {
        let home = tempfile::tempdir().unwrap();
        lay(home.path(), &[(".alpharho/libtorch/cpu/lib/libtorch_cpu.so", "")]);
        let places = Places { roots: vec![home.path().join("target"), home.path().into()], ..Places::default() };
        let found = places.find().unwrap();
        assert!(found.library_folder.ends_with(".alpharho/libtorch/cpu/lib"));
        assert!(!found.cuda);
        let cuda = ".alpharho/libtorch/cuda/lib";
        lay(home.path(), &[(&format!("{cuda}/libtorch_cpu.so"), ""), (&format!("{cuda}/libtorch_cuda.so"), "")]);
        let found = places.find().unwrap();
        assert!(found.library_folder.ends_with(cuda));
        assert!(found.cuda);
    }

    #[test]
    fn an_installed_pytorch_is_asked_for_with_its_cuda_libraries() {
        let home = tempfile::tempdir().unwrap();
        let packages = home.path().join("site-packages");
        lay(&packages, &[("torch/lib/libtorch_cpu.so", ""), ("nvidia/cu13/lib/libcudart.so.13", "")]);
        let check = |version: &str, expected: Result<Vec<PathBuf>, &str>| {
            let python = home.path().join("python3");
            fs::write(&python, format!("#!/bin/sh\necho {}/torch\necho {version}\n", packages.display())).unwrap();
            fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
            let found = Places { python: Some(python), ..Places::default() }.find();
            match (found, expected) {
                (Ok(found), Ok(folders)) => assert_eq!(found.more_folders, folders),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{version}: {found:?}"),
            }
        };
        check("2.11.0", Ok(vec![packages.join("nvidia/cu13/lib")]));
        check("2.9.1", Err("is libtorch 2.9.1; 2.11 is needed"));
        check("", Err("is libtorch ; 2.11 is needed"));
    }

    #[test]
    fn a_python_that_is_not_there_is_named() {
        let places = Places { python: Some("/nowhere/python3".into()), ..Places::default() };
        let error = places.find().unwrap_err().to_string();
        assert!(error.contains("PyTorch of /nowhere/python3: cannot be started"), "{error}");
        assert!(error.contains("the variable LIBTORCH: not set"), "{error}");
        assert!(error.contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn the_loaders_path_comes_before_what_is_set() {
        let libtorch = Libtorch {
            library_folder: "/t/lib".into(),
            more_folders: vec!["/n/lib".into()],
            version: None,
            found_by: String::new(),
            cuda: true,
        };
        assert_eq!(libtorch.loader_path(Some("/x")), "/t/lib:/n/lib:/x");
        assert_eq!(libtorch.loader_path(Some("")), "/t/lib:/n/lib");
        assert_eq!(libtorch.loader_path(None), "/t/lib:/n/lib");
    }
}
