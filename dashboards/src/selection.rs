//! What to export: the names that `--only` takes.

use std::collections::BTreeSet;
use thiserror::Error;

/// Files of one kind; a format belongs to one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Pictures.
    Plots,
    /// Tables.
    Tables,
    /// The page that holds all.
    Report,
}

/// Names of plots.
pub const PLOTS: &[&str] = &["tradeoff", "parameters", "curves", "time", "staleness"];
/// Names of tables.
pub const TABLES: &[&str] = &["grid", "width", "resolution", "pareto", "trials", "attempts", "metrics"];
/// Name of the report.
pub const REPORT: &str = "report";
/// Names of what is exported of single trials, each into a folder of that name.
pub const OF_TRIALS: &[&str] = &["tensorboard", "weights", "onnx"];
/// The one of [`OF_TRIALS`] that is written unasked; networks are as large as checkpoints.
const OF_TRIALS_UNASKED: &str = "tensorboard";
/// Formats by their endings, other names that people use, and what they are formats of.
const FORMATS: &[(&str, &[&str], Family)] = &[
    ("svg", &[], Family::Plots),
    ("png", &[], Family::Plots),
    ("csv", &[], Family::Tables),
    ("json", &[], Family::Tables),
    ("md", &["markdown"], Family::Tables),
    ("tex", &["latex"], Family::Tables),
    ("parquet", &[], Family::Tables),
    ("html", &[], Family::Report),
];
/// Files that are written only when they are asked for: a page of ten thousand points is of no use to people.
const UNASKED: &[(&str, &str)] = &[("metrics", "md"), ("metrics", "tex")];

/// A name that nothing has.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("nothing to export is called {name:?}{}; there are: {}", suggestion(.name), all_names().join(", "))]
pub struct UnknownName {
    /// As given.
    pub name: String,
}

/// Which files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// `None`: all but [`UNASKED`].
    files: Option<BTreeSet<(String, String)>>,
    /// Of [`OF_TRIALS`], as far as they are named.
    of_trials: BTreeSet<&'static str>,
}

impl Selection {
    /// Everything that makes sense.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// From names of plots, tables, formats, families and files (`grid`, `svg`, `tables`, `grid.csv`), also several
    /// with commas between; no names: everything. Within a family formats narrow names down: `grid,csv` is `grid.csv`,
    /// `grid,width,csv,svg` is two tables as CSV and all plots as SVG.
    ///
    /// # Errors
    /// When a name is not known.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownName> {
        let mut items: BTreeSet<(Family, &str)> = BTreeSet::new();
        let mut formats: BTreeSet<(Family, &str)> = BTreeSet::new();
        let mut files = BTreeSet::new();
        let mut of_trials = BTreeSet::new();
        let words =
            names.iter().flat_map(|name| name.as_ref().split(',')).map(str::trim).filter(|name| !name.is_empty());
        for name in words {
            let lower = name.to_lowercase();
            if let Some(name) = OF_TRIALS.iter().find(|name| **name == lower) {
                of_trials.insert(*name);
            } else if let Some((item, family)) = all_items().find(|(item, _)| *item == lower) {
                items.insert((family, item));
            } else if let Some((format, family)) = format(&lower) {
                formats.insert((family, format));
            } else if let Some(family) = family(&lower) {
                items.extend(all_items().filter(|(_, of)| *of == family).map(|(item, of)| (of, item)));
            } else if let Some((item, format)) = file(&lower) {
                files.insert((item.to_owned(), format.to_owned()));
            } else {
                return Err(UnknownName { name: name.to_owned() });
            }
        }
        if items.is_empty() && formats.is_empty() && files.is_empty() && of_trials.is_empty() {
            return Ok(Self::everything());
        }
        for of in [Family::Plots, Family::Tables, Family::Report] {
            let named: Vec<&str> = items.iter().filter(|(family, _)| *family == of).map(|(_, item)| *item).collect();
            let narrowed: Vec<&str> = formats.iter().filter(|(family, _)| *family == of).map(|(_, f)| *f).collect();
            if named.is_empty() && narrowed.is_empty() {
                continue;
            }
            for (item, _) in all_items().filter(|(_, family)| *family == of) {
                for (format, _, _) in FORMATS.iter().filter(|(_, _, family)| *family == of) {
                    let item_meant = named.is_empty() || named.contains(&item);
                    let format_meant = narrowed.is_empty() || narrowed.contains(format);
                    let both_named = named.contains(&item) && narrowed.contains(format);
                    if item_meant && format_meant && (both_named || !UNASKED.contains(&(item, format))) {
                        files.insert((item.to_owned(), (*format).to_owned()));
                    }
                }
            }
        }
        Ok(Self { files: Some(files), of_trials })
    }

    /// Whether this file is meant, by its name without ending and its ending.
    #[must_use]
    pub fn wants(&self, item: &str, format: &str) -> bool {
        match &self.files {
            None => !UNASKED.contains(&(item, format)),
            Some(files) => files.contains(&(item.to_owned(), format.to_owned())),
        }
    }

    /// Whether this of [`OF_TRIALS`] is meant.
    #[must_use]
    pub fn wants_of_trials(&self, name: &str) -> bool {
        match &self.files {
            None => name == OF_TRIALS_UNASKED,
            Some(_) => self.of_trials.contains(name),
        }
    }

    /// Whether this is meant in some format.
    #[must_use]
    pub fn wants_any(&self, item: &str) -> bool {
        match &self.files {
            None => true,
            Some(files) => files.iter().any(|(name, _)| name == item),
        }
    }
}

/// Endings of a family's files.
#[must_use]
pub fn endings(of: Family) -> Vec<&'static str> {
    FORMATS.iter().filter(|(_, _, family)| *family == of).map(|(ending, _, _)| *ending).collect()
}

fn all_items() -> impl Iterator<Item = (&'static str, Family)> {
    let plots = PLOTS.iter().map(|name| (*name, Family::Plots));
    let tables = TABLES.iter().map(|name| (*name, Family::Tables));
    plots.chain(tables).chain([(REPORT, Family::Report)])
}

fn format(name: &str) -> Option<(&'static str, Family)> {
    let known = FORMATS.iter().find(|(ending, others, _)| *ending == name || others.contains(&name));
    known.map(|(ending, _, family)| (*ending, *family))
}

fn family(name: &str) -> Option<Family> {
    match name {
        "plots" => Some(Family::Plots),
        "tables" => Some(Family::Tables),
        _ => None,
    }
}

/// `grid.csv`.
fn file(name: &str) -> Option<(&'static str, &'static str)> {
    let (item, ending) = name.split_once('.')?;
    let (item, of) = all_items().find(|(known, _)| *known == item)?;
    let (ending, family) = format(ending)?;
    (of == family).then_some((item, ending))
}

fn all_names() -> Vec<&'static str> {
    let formats = FORMATS.iter().flat_map(|(ending, others, _)| std::iter::once(ending).chain(*others));
    all_items()
        .map(|(item, _)| item)
        .chain(["plots", "tables"])
        .chain(OF_TRIALS.iter().copied())
        .chain(formats.copied())
        .collect()
}

fn suggestion(name: &str) -> String {
    let close = all_names().into_iter().map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), known), known));
    match close.min() {
        Some((distance, known)) if distance <= 2 && distance < known.len() => format!("; did you mean {known:?}?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], yes: &[&str], no: &[&str]) {
        let selection = Selection::parse(names).unwrap();
        let wants = |file: &&&str| {
            let (item, format) = file.split_once('.').unwrap();
            selection.wants(item, format)
        };
        assert_eq!(yes.iter().filter(|file| !wants(file)).collect::<Vec<_>>(), Vec::<&&str>::new(), "{names:?}");
        assert_eq!(no.iter().filter(wants).collect::<Vec<_>>(), Vec::<&&str>::new(), "{names:?}");
    }

    #[test]
    fn names_and_formats_are_understood() {
        check(&[], &["grid.csv", "tradeoff.png", "report.html", "metrics.parquet"], &["metrics.tex", "metrics.md"]);
        check(&["grid"], &["grid.csv", "grid.tex"], &["width.csv", "tradeoff.svg", "report.html"]);
        check(&["svg"], &["tradeoff.svg", "curves.svg"], &["tradeoff.png", "grid.csv", "report.html"]);
        check(&["grid,csv"], &["grid.csv"], &["grid.md", "width.csv", "tradeoff.svg"]);
        check(&["grid", "width", "latex", "png"], &["grid.tex", "width.tex", "time.png"], &["grid.csv", "time.svg"]);
        check(&["report", "csv"], &["report.html", "grid.csv"], &["grid.md", "tradeoff.svg"]);
        check(&["Plots", "grid.csv"], &["grid.csv", "time.svg"], &["grid.md", "width.csv"]);
        check(&["metrics"], &["metrics.csv", "metrics.parquet"], &["metrics.md"]);
        check(&["metrics", "tex"], &["metrics.tex"], &["metrics.csv", "grid.tex"]);
        check(&["html"], &["report.html"], &["grid.csv"]);
    }

    #[test]
    fn trials_are_exported_by_name() {
        let check = |names: &[&str], expected: &[&str], csv: bool| {
            let selection = Selection::parse(names).unwrap();
            let wanted: Vec<&str> = OF_TRIALS.iter().copied().filter(|name| selection.wants_of_trials(name)).collect();
            assert_eq!((wanted, selection.wants("grid", "csv")), (expected.to_vec(), csv), "{names:?}");
        };
        check(&[], &["tensorboard"], true);
        check(&["grid"], &[], true);
        check(&["weights"], &["weights"], false);
        check(&["tensorboard,onnx", "weights", "csv"], &["tensorboard", "weights", "onnx"], true);
        let words = Selection::parse(&["tensorbord"]).unwrap_err().to_string();
        assert!(words.contains("did you mean \"tensorboard\"?"), "{words}");
    }

    #[test]
    fn a_slip_is_answered_with_what_was_meant() {
        let words = |name: &str| Selection::parse(&[name]).unwrap_err().to_string();
        let said = words("tradeof");
        assert!(
            said.starts_with("nothing to export is called \"tradeof\"; did you mean \"tradeoff\"?; there"),
            "{said}"
        );
        assert!(words("grid.svg").starts_with("nothing to export is called \"grid.svg\"; there are: tradeoff, "));
        assert!(words("xml, ").contains("latex, parquet, html"));
    }
}
