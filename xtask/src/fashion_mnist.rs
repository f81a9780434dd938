//! Fashion-MNIST: 60,000 + 10,000 small grey pictures of clothes, as Zalando published them.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::download;
use crate::house::House;
use crate::install::{Recipe, remove_folder};
use crate::pin::{Pin, check_sha256};

/// The published files and their SHA-256: the same whether they come from Debian or from the authors.
const FILES: [(&str, &str); 4] = [
    ("train-images-idx3-ubyte.gz", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
    ("train-labels-idx1-ubyte.gz", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"),
    ("t10k-images-idx3-ubyte.gz", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
    ("t10k-labels-idx1-ubyte.gz", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"),
];

/// Where Debian's package lies when it is installed.
const SYSTEM_FOLDER: &str = "/usr/share/datasets/fashion-mnist";

/// What setup came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The four files are there.
    Ready,
    /// This machine is not Debian and could not fetch them: the sentences say what to do.
    Unavailable(String),
}

/// Fetches the set where it is missing. A Debian machine that cannot is an error; another one is told what to do.
pub(crate) fn setup(house: &House) -> Result<Outcome> {
    let package = Pin {
        name: "dataset-fashion-mnist".to_owned(),
        version: "0.0~git20200523.55506a9-1".to_owned(),
        sha256: "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0".to_owned(),
    };
    let folder = house.data("fashion-mnist");
    let hashes = FILES.map(|(name, hash)| format!("{name} sha256:{hash}\n")).concat();
    let recipe = Recipe { stamp: format!("fashion-mnist recipe 1\n{hashes}"), required: &FILES.map(|(name, _)| name) };
    if recipe.is_installed(&folder) {
        return Ok(Outcome::Ready);
    }
    if let Some(source) = [folder.as_path(), Path::new(SYSTEM_FOLDER)].into_iter().find(|place| has_files(place)) {
        recipe.install(&folder, |out| copy_files(source, out))?;
    } else {
        let file = match download::apt(house, &package) {
            Ok(file) => file,
            Err(error) if is_debian() => bail!("{}", what_to_do(&folder, &format!("{error:#}"))),
            Err(error) => {
                let what_to_do = what_to_do(&folder, &format!("{error:#}"));
                return Ok(Outcome::Unavailable(format!(
                    "{what_to_do}. Until then the tests that need it are skipped and say so"
                )));
            }
        };
        recipe.install(&folder, |out| {
            let unpacked = out.join("package");
            download::unpack_deb(house, &file, &package, &unpacked)?;
            copy_files(&unpacked.join(SYSTEM_FOLDER.trim_start_matches('/')), out)?;
            remove_folder(&unpacked)
        })?;
        fs::remove_file(file)?;
    }
    println!("Fashion-MNIST: 70,000 pictures in {} (licence MIT)", folder.display());
    Ok(Outcome::Ready)
}

fn has_files(folder: &Path) -> bool {
    FILES.iter().all(|(name, _)| folder.join(name).is_file())
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    for (name, hash) in FILES {
        check_sha256(&from.join(name), hash)?;
        fs::copy(from.join(name), to.join(name))?;
    }
    Ok(())
}

fn what_to_do(folder: &Path, why: &str) -> String {
    format!(
        "Fashion-MNIST is not here: {why}. Put the four files {} (from https://github.com/zalandoresearch/fashion-mnist, \
         or Debian's package dataset-fashion-mnist) into {} and run `cargo xtask setup --data fashion-mnist`",
        FILES.map(|(name, _)| name).join(", "),
        folder.display()
    )
}

/// Whether this is Debian itself, where the package is always to be had.
fn is_debian() -> bool {
    is_debian_release(&fs::read_to_string("/etc/os-release").unwrap_or_default())
}

fn is_debian_release(os_release: &str) -> bool {
    let id = os_release.lines().find_map(|line| line.strip_prefix("ID="));
    id.is_some_and(|id| id.trim_matches(['"', '\'']) == "debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_must_have_the_package() {
        assert!(is_debian_release("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"));
        assert!(is_debian_release("ID=\"debian\"\n"));
        assert!(!is_debian_release("ID=ubuntu\nID_LIKE=debian\n"));
        assert!(!is_debian_release(""));
    }

    #[test]
    fn the_way_out_names_files_and_folder() {
        let text = what_to_do(Path::new("data/fashion-mnist"), "no apt-get");
        for part in [
            "no apt-get",
            "t10k-labels-idx1-ubyte.gz",
            "data/fashion-mnist and run",
            "cargo xtask setup --data fashion-mnist",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let house = House::at(home.path());
        let folder = house.data("fashion-mnist");
        fs::create_dir_all(&folder).unwrap();
        for (name, _) in FILES {
            fs::write(folder.join(name), "not this").unwrap();
        }
        let message = setup(&house).unwrap_err().to_string();
        assert!(message.contains("train-images-idx3-ubyte.gz: its SHA-256 is"), "{message}");
    }
}
