//! GCompris' photographs: 196 small colour WebP pictures of five kinds of things.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::download;
use crate::house::House;
use crate::install::{Recipe, remove_folder};
use crate::pin::Pin;
use crate::rcc;

const COLLECTIONS: [&str; 4] = ["categorization", "explore_monuments", "explore_world_animals", "explore_farm_animals"];
const CLASSES: [(&str, usize); 5] =
    [("animal", 24), ("fish", 28), ("monument", 76), ("renewable_energy", 29), ("tool", 39)];

/// Fetches and unpacks the photographs where they are missing: `photographs/CLASS/*.webp`, and under `licences/` the
/// files that name the author and licence of each.
pub(crate) fn setup(house: &House) -> Result<()> {
    let package = Pin {
        name: "gcompris-qt-data".to_owned(),
        version: "3.1-2".to_owned(),
        sha256: "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f".to_owned(),
    };
    let folder = house.data("gcompris");
    let recipe = Recipe {
        stamp: format!("gcompris recipe 1\n{}", package.stamp()),
        required: &["photographs/animal", "photographs/tool", "licences"],
    };
    if recipe.is_installed(&folder) {
        return Ok(());
    }
    let file = download::apt(house, &package).context(
        "the GCompris photographs come out of Debian's package gcompris-qt-data 3.1-2 and cannot be had without it",
    )?;
    recipe.install(&folder, |out| {
        let unpacked = out.join("package");
        download::unpack_deb(house, &file, &package, &unpacked)?;
        fs::create_dir(out.join("licences"))?;
        for collection in COLLECTIONS {
            let resources = unpacked.join("usr/share/gcompris-qt/rcc").join(collection).with_extension("rcc");
            sort(&resources, collection, out).with_context(|| resources.display().to_string())?;
        }
        remove_folder(&unpacked)?;
        check_counts(out)
    })?;
    fs::remove_file(file)?;
    println!("GCompris: 196 photographs in {} (free licences, see licences/ there)", folder.display());
    Ok(())
}

fn sort(resources: &Path, collection: &str, out: &Path) -> Result<()> {
    for entry in rcc::read(&fs::read(resources)?)? {
        let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        let parent = folder.rsplit('/').next().unwrap_or_default();
        if let Some(class) = class_of(collection, folder, name) {
            let folder = out.join("photographs").join(class);
            fs::create_dir_all(&folder)?;
            // The same monument occurs in two collections.
            fs::write(folder.join(format!("{collection}-{parent}-{name}")), entry.content)?;
        } else if name == "README" {
            fs::write(out.join("licences").join(format!("{collection}-{parent}.txt")), entry.content)?;
        }
    }
    Ok(())
}

/// The class of a photograph; none for drawings, sounds and screens.
fn class_of(collection: &str, folder: &str, name: &str) -> Option<&'static str> {
    let place = folder.split_once("/resource/").map(|(_, place)| place)?;
    if !name.ends_with(".webp") {
        return None;
    }
    match (collection, place) {
        ("categorization", "images/fishes") => Some("fish"),
        ("categorization", "images/monuments") => Some("monument"),
        ("categorization", "images/renewable") => Some("renewable_energy"),
        ("categorization", "images/tools") => Some("tool"),
        ("explore_monuments", "egypt" | "france" | "germany" | "india" | "usa" | "wonders") => Some("monument"),
        ("explore_world_animals" | "explore_farm_animals", "animals") => Some("animal"),
        _ => None,
    }
}

fn check_counts(out: &Path) -> Result<()> {
    for (class, expected) in CLASSES {
        let count = out.join("photographs").join(class).read_dir()?.count();
        ensure!(count == expected, "{count} photographs of the class {class}, expected {expected}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photographs_are_sorted_by_place() {
        let check = |collection: &str, place: &str, name: &str, expected: Option<&str>| {
            let folder = format!("gcompris/src/activities/{collection}{place}");
            assert_eq!(class_of(collection, &folder, name), expected, "{folder}/{name}");
        };
        check("categorization", "/resource/images/fishes", "fish1.webp", Some("fish"));
        check("categorization", "/resource/images/fishes", "README", None);
        check("categorization", "/resource/images/numbers", "1.webp", None);
        check("explore_monuments", "/resource/france", "eiffelTower.webp", Some("monument"));
        check("explore_monuments", "/resource/france", "france.svg", None);
        check("explore_monuments", "/resource/board", "board1.webp", None);
        check("explore_farm_animals", "/resource/animals", "cow.webp", Some("animal"));
        check("explore_farm_animals", "", "cow.webp", None);
    }
}
