//! The paper's published numbers, to stand beside ours: A. G. Howard et al., "MobileNets: Efficient Convolutional
//! Neural Networks for Mobile Vision Applications", 2017, arXiv:1704.04861.

use sweeps::spec::model::Sweep;

/// How the paper is cited under tables and plots.
pub const CITATION: &str = "Howard et al. 2017, arXiv:1704.04861";

static TABLES: &str = include_str!("../data/paper_tables.csv");

/// One row of one of the paper's tables.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The table's number, 4 to 14.
    pub table: u32,
    /// What the row is of: `0.75 MobileNet-224`.
    pub name: String,
    /// What was measured: `imagenet_top1`, `coco_map` and so on.
    pub metric: String,
    /// As printed; accuracies in percent.
    pub value: f64,
    /// Millions, as printed.
    pub mult_adds_m: Option<f64>,
    /// Millions, as printed.
    pub params_m: Option<f64>,
}

/// A cell of α × ρ whose ImageNet accuracy the paper gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PaperCell {
    /// α.
    pub alpha: f64,
    /// ρ, in pixels.
    pub resolution: u32,
    /// Top-1 accuracy on ImageNet, as a fraction.
    pub top1: f64,
    /// Mult-Adds of one image, rounded to millions in the paper.
    pub mult_adds: f64,
    /// Parameters, rounded to hundred thousands in the paper.
    pub params: f64,
}

/// All rows, in the file's order. What cannot be read is left out; a test says that nothing is.
#[must_use]
pub fn rows() -> Vec<Row> {
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(TABLES.as_bytes());
    reader.records().filter_map(|record| row(&record.ok()?)).collect()
}

/// The eight cells with an ImageNet accuracy (Tables 6, 7 and 9), each once, most Mult-Adds first.
#[must_use]
pub fn cells() -> Vec<PaperCell> {
    let mut cells: Vec<PaperCell> = Vec::new();
    for row in rows().iter().filter(|row| row.metric == "imagenet_top1") {
        let Some(cell) = cell(row) else { continue };
        if !cells.iter().any(|known| known.alpha == cell.alpha && known.resolution == cell.resolution) {
            cells.push(cell);
        }
    }
    cells.sort_by(|a, b| b.mult_adds.total_cmp(&a.mult_adds));
    cells
}

/// The paper's cell of these values.
#[must_use]
pub fn cell_of(alpha: f64, resolution: u32) -> Option<PaperCell> {
    cells().into_iter().find(|cell| cell.alpha == alpha && cell.resolution == resolution)
}

/// Whether a sweep trains what the paper's Tables 4 to 9 are about: the 1000 classes of ImageNet. Told by the number
/// of classes and the data's name.
#[must_use]
pub fn is_imagenet(spec: &Sweep) -> bool {
    let name = spec.data.train.to_lowercase();
    spec.data.classes == 1000 && ["imagenet", "ilsvrc"].iter().any(|word| name.contains(word))
}

fn row(record: &csv::StringRecord) -> Option<Row> {
    let number = |place: usize| record.get(place).and_then(|field| field.parse::<f64>().ok());
    Some(Row {
        table: record.get(0)?.parse().ok()?,
        name: record.get(1)?.to_owned(),
        metric: record.get(2)?.to_owned(),
        value: number(3)?,
        mult_adds_m: number(4),
        params_m: number(5),
    })
}

fn cell(row: &Row) -> Option<PaperCell> {
    let (alpha, resolution) = row.name.split_once(" MobileNet-")?;
    Some(PaperCell {
        alpha: alpha.parse().ok()?,
        resolution: resolution.parse().ok()?,
        top1: row.value / 100.0,
        mult_adds: row.mult_adds_m? * 1e6,
        params: row.params_m? * 1e6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_file_is_a_row() {
        let lines = TABLES.lines().filter(|line| !line.starts_with('#')).count() - 1;
        assert_eq!((rows().len(), lines), (54, 54));
        let first = &rows()[0];
        assert_eq!((first.table, first.name.as_str(), first.value), (4, "Conv MobileNet", 71.7));
        assert!(rows().iter().any(|row| row.table == 11 && row.mult_adds_m.is_none()));
    }

    #[test]
    fn the_published_cells_are_eight() {
        let found: Vec<(f64, u32, f64)> = cells().iter().map(|c| (c.alpha, c.resolution, c.top1)).collect();
        let expected = [
            (1.0, 224, 0.706),
            (1.0, 192, 0.691),
            (0.75, 224, 0.684),
            (1.0, 160, 0.672),
            (1.0, 128, 0.644),
            (0.5, 224, 0.637),
            (0.5, 160, 0.602),
            (0.25, 224, 0.506),
        ];
        assert_eq!(found.len(), expected.len());
        for (is, wanted) in found.iter().zip(expected) {
            assert!((is.0, is.1) == (wanted.0, wanted.1) && (is.2 - wanted.2).abs() < 1e-12, "{is:?} {wanted:?}");
        }
        assert_eq!(cell_of(0.5, 160).map(|cell| cell.mult_adds), Some(76e6));
        assert_eq!(cell_of(0.5, 128), None);
    }
}
