//! One path that stands for several files: a folder of them, or brace notation.

use super::super::error::DataError;
use super::folder::entries;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Far more than anybody has; a range of numbers can claim any count.
const FILES_MAX: usize = 100_000;

/// The files that a path stands for: itself; of a folder those with the extension, sorted; of braces each in its turn. No two
/// have the same name, because samples are named by them.
pub(super) fn files_of(path: &Path, extension: &str) -> Result<Vec<PathBuf>, DataError> {
    let place = path.display().to_string();
    if place.contains("://") || place.starts_with("pipe:") {
        let problem = "only files of this machine are read; download them and name their folder";
        return Err(DataError::malformed(place, problem));
    }
    let files = match fs::metadata(path) {
        Ok(facts) if facts.is_dir() => in_folder(path, extension)?,
        Ok(_) => vec![path.to_owned()],
        Err(_) if place.contains('{') => expand(&place).map_err(|problem| DataError::malformed(place, problem))?,
        Err(error) => return Err(DataError::unreadable(path)(error)),
    };
    let mut names = BTreeSet::new();
    for file in &files {
        fs::metadata(file).map_err(DataError::unreadable(file))?;
        if !names.insert(file.file_name()) {
            let problem = "a file of this name is among those before it; images are named by their file, so rename it";
            return Err(DataError::malformed(file.display().to_string(), problem));
        }
    }
    Ok(files)
}

fn in_folder(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, DataError> {
    let has = |path: &Path, wanted: &str| {
        path.extension().and_then(|of| of.to_str()).is_some_and(|of| of.eq_ignore_ascii_case(wanted))
    };
    let all = entries(folder)?;
    let mut files = Vec::new();
    for (_, path) in &all {
        if has(path, extension) && fs::metadata(path).map_err(DataError::unreadable(path))?.is_file() {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        let packed = all.iter().find(|(_, path)| ["gz", "tgz", "zst", "xz", "bz2"].iter().any(|of| has(path, of)));
        let hint = match packed {
            Some((name, _)) => format!(": it has no files ending in .{extension}; unpack {name}, and others like it"),
            None => format!(": it has no files ending in .{extension}"),
        };
        return Err(DataError::NoImages { place: folder.display().to_string(), hint });
    }
    Ok(files)
}

/// What `a-{008..010}.tar` or `{a,b}.tar` stands for, as shells and WebDataset write it: numbers are as wide as they are
/// written. The error says what is wrong with it.
fn expand(path: &str) -> Result<Vec<PathBuf>, String> {
    let mut done = vec![String::new()];
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, behind) = after.split_once('}').ok_or("a brace { is never closed")?;
        if inside.contains('{') {
            return Err("braces within braces are not read".to_owned());
        }
        let choices = match inside.split_once("..") {
            Some((from, to)) => numbers(from, to)?,
            None => inside.split(',').map(str::to_owned).collect(),
        };
        if done.len().saturating_mul(choices.len()) > FILES_MAX {
            return Err(format!("it stands for more than {FILES_MAX} files"));
        }
        let with = |start: &String| choices.iter().map(move |choice| format!("{start}{before}{choice}")).collect();
        done = done.iter().flat_map::<Vec<String>, _>(with).collect();
        rest = behind;
    }
    Ok(done.into_iter().map(|start| PathBuf::from(format!("{start}{rest}"))).collect())
}

fn numbers(from: &str, to: &str) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| digits);
        number.ok_or_else(|| format!("{{{from}..{to}}} is no range of whole numbers, as in {{000..127}}"))
    };
    let (first, last) = (number(from)?, number(to)?);
    if first > last {
        return Err(format!("{{{from}..{to}}} ends before it begins"));
    }
    if last - first >= FILES_MAX as u64 {
        return Err(format!("{{{from}..{to}}} stands for more than {FILES_MAX} files"));
    }
    let width = from.len().max(to.len());
    let padded = from.starts_with('0') || to.starts_with('0');
    Ok((first..=last).map(|number| if padded { format!("{number:0width$}") } else { number.to_string() }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_stand_for_files() {
        let check = |path: &str, expected: &[&str]| {
            let found: Vec<String> = expand(path).unwrap().iter().map(|path| path.display().to_string()).collect();
            assert_eq!(found, expected, "{path}");
        };
        check("/d/a-{008..010}.tar", &["/d/a-008.tar", "/d/a-009.tar", "/d/a-010.tar"]);
        check("{9..10}.tar", &["9.tar", "10.tar"]);
        check("{a,b}/{1..2}.tar", &["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"]);
        check("plain.tar", &["plain.tar"]);
    }

    #[test]
    fn bad_braces_are_refused_with_a_sentence() {
        let check = |path: &str, expected: &str| assert_eq!(expand(path).unwrap_err(), expected, "{path}");
        check("a-{0..3.tar", "a brace { is never closed");
        check("a-{0..{1..2}}.tar", "braces within braces are not read");
        check("a-{a..c}.tar", "{a..c} is no range of whole numbers, as in {000..127}");
        check("a-{0..4..2}.tar", "{0..4..2} is no range of whole numbers, as in {000..127}");
        check("a-{3..1}.tar", "{3..1} ends before it begins");
        check("a-{0..99999999999}.tar", "{0..99999999999} stands for more than 100000 files");
        check("{0..999}{0..999}.tar", "it stands for more than 100000 files");
    }
}
