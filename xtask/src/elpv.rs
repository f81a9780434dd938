//! ELPV: 2,624 photographs of solar cells, with two questions asked about each.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::download;
use crate::house::House;
use crate::install::Recipe;
use crate::needs;
use crate::pin::{Pin, parse_requirements};

const REQUIREMENTS: &str = include_str!("../requirements/elpv.txt");
const IMAGES: usize = 2624;

const NOTICE: &str = "\
ELPV: A Benchmark for Visual Identification of Defective Solar Cells in Electroluminescence Imagery
(package elpv-dataset 1.0.0.post1; S. Deitsch, C. Buerhop-Lutz, E. Sovetkin, A. Steland, A. Maier, F. Gallwitz,
C. Riess; https://github.com/zae-bayern/elpv-dataset)

Licence of the photographs and labels: Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International
(CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/). Not for commercial use.

defect.csv and cell-type.csv were written by `cargo xtask setup` from the package's labels.csv:
  defect.csv      label 1 where the defect probability is 0.5 or more, else 0
  cell-type.csv   label 0 monocrystalline, 1 polycrystalline
";

/// Fetches and unpacks the set where it is missing.
pub(crate) fn setup(house: &House) -> Result<()> {
    let pins = parse_requirements(REQUIREMENTS)?;
    let folder = house.data("elpv");
    let recipe = Recipe {
        stamp: format!("elpv recipe 1\n{}", pins.iter().map(Pin::stamp).collect::<String>()),
        required: &["images/cell0001.png", "images/cell2624.png", "defect.csv", "cell-type.csv", "NOTICE"],
    };
    if recipe.is_installed(&folder) {
        return Ok(());
    }
    let python = needs::python()?;
    let wheels = download::pip(house, &python, &pins)?;
    recipe.install(&folder, |out| {
        for wheel in &wheels {
            download::unpack_wheel(house, &python, wheel, out, &["elpv_dataset/data/="], &[])?;
        }
        write_manifests(out)
    })?;
    for wheel in wheels {
        fs::remove_file(wheel)?;
    }
    println!("ELPV: {IMAGES} photographs in {}", folder.display());
    println!("      licence CC BY-NC-SA 4.0: name the authors, not for commercial use (see NOTICE there)");
    Ok(())
}

fn write_manifests(folder: &Path) -> Result<()> {
    let labels = fs::read_to_string(folder.join("labels.csv")).context("the package has no labels.csv")?;
    let (defect, cell_type) = manifests(&labels)?;
    let count = defect.lines().count() - 1;
    ensure!(count == IMAGES, "labels.csv names {count} photographs, expected {IMAGES}");
    fs::write(folder.join("defect.csv"), defect)?;
    fs::write(folder.join("cell-type.csv"), cell_type)?;
    Ok(fs::write(folder.join("NOTICE"), NOTICE)?)
}

/// The two manifests, of defects and of cell types, from lines of path, defect probability and cell type.
fn manifests(labels: &str) -> Result<(String, String)> {
    let (mut defect, mut cell_type) = ("path,label\n".to_owned(), "path,label\n".to_owned());
    for (index, line) in labels.lines().enumerate() {
        let [path, probability, kind] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            bail!("labels.csv:{}: expected path, probability and type, found {line:?}", index + 1);
        };
        let probability: f64 = probability
            .parse()
            .ok()
            .filter(|value| (0.0..=1.0).contains(value))
            .with_context(|| format!("labels.csv:{}: {probability:?} is not a probability", index + 1))?;
        let kind = match kind {
            "mono" => 0,
            "poly" => 1,
            _ => bail!("labels.csv:{}: {kind:?} is neither mono nor poly", index + 1),
        };
        defect.push_str(&format!("{path},{}\n", u8::from(probability >= 0.5)));
        cell_type.push_str(&format!("{path},{kind}\n"));
    }
    Ok((defect, cell_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_manifests_are_written() {
        let labels =
            "images/a.png  1.0   mono\nimages/b.png 0.3333333333333333 poly\nimages/c.png 0.6666666666666666 poly\n";
        let (defect, cell_type) = manifests(labels).unwrap();
        assert_eq!(defect, "path,label\nimages/a.png,1\nimages/b.png,0\nimages/c.png,1\n");
        assert_eq!(cell_type, "path,label\nimages/a.png,0\nimages/b.png,1\nimages/c.png,1\n");
    }

    #[test]
    fn a_bad_line_is_named() {
        let check = |line: &str, expected: &str| {
            let message = manifests(&format!("images/a.png 0.0 mono\n{line}\n")).unwrap_err().to_string();
            assert_eq!(message, expected);
        };
        check("images/b.png 0.0", "labels.csv:2: expected path, probability and type, found \"images/b.png 0.0\"");
        check("images/b.png 1.5 mono", "labels.csv:2: \"1.5\" is not a probability");
        check("images/b.png NaN mono", "labels.csv:2: \"NaN\" is not a probability");
        check("images/b.png 1 thin", "labels.csv:2: \"thin\" is neither mono nor poly");
    }
}
