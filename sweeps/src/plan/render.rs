//! A plan as text.

use super::{Plan, PlanRow};
use crate::spec::model::{Keep, Sweep};
use std::fmt::Write;
use std::str::FromStr;
use thiserror::Error;

/// How a plan is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlanFormat {
    /// Aligned columns, rounded numbers, notes below: for a terminal.
    #[default]
    Table,
    /// Exact numbers; the columns begin `trial,alpha,resolution,mult_adds,params`.
    Csv,
    /// Exact numbers: the plan's fields as they are.
    Json,
    /// The table for a page.
    Markdown,
}

impl PlanFormat {
    /// Their names, in the order of the help.
    pub const NAMES: [&'static str; 4] = ["table", "csv", "json", "markdown"];
}

/// A format that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no format \"{0}\"; the formats are table, csv, json, markdown")]
pub struct UnknownFormat(String);

impl FromStr for PlanFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "table" => Ok(Self::Table),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "markdown" => Ok(Self::Markdown),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

impl Plan {
    /// The plan as text that ends with a line break.
    #[must_use]
    pub fn render(&self, format: PlanFormat) -> String {
        match format {
            PlanFormat::Table => self.table(),
            PlanFormat::Csv => self.csv(),
            PlanFormat::Json => self.json(),
            PlanFormat::Markdown => self.markdown(),
        }
    }

    fn csv(&self) -> String {
        let mut out = String::from("trial,alpha,resolution,mult_adds,params,params_without_batch_norm");
        for axis in &self.axes {
            let _ = write!(out, ",{axis}");
        }
        out.push_str(",seed,epochs,compute_share,memory_bytes\n");
        for row in &self.rows {
            let PlanRow { trial, alpha, resolution, mult_adds, params, params_without_batch_norm, .. } = row;
            let _ = write!(out, "{trial},{alpha},{resolution},{mult_adds},{params},{params_without_batch_norm}");
            for axis in &self.axes {
                // A number, or one of the format's own words: nothing that needs quotes.
                let _ = write!(out, ",{}", axis_value(row, axis));
            }
            let PlanRow { seed, epochs, compute_share, memory_bytes, .. } = row;
            let _ = writeln!(out, ",{seed},{epochs},{compute_share:.6},{memory_bytes}");
        }
        out
    }

    fn json(&self) -> String {
        // A plan has nothing that JSON cannot hold.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    fn table(&self) -> String {
        let lines = self.lines();
        let columns = lines.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        for (index, line) in lines.iter().enumerate() {
            let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            let _ = writeln!(out, "{}", cells.join("  "));
            if index == 0 || index + 2 == lines.len() {
                let _ = writeln!(out, "{}", "─".repeat(widths.iter().sum::<usize>() + 2 * (columns.max(1) - 1)));
            }
        }
        out.push('\n');
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        out
    }

    fn markdown(&self) -> String {
        let mut out = String::new();
        for (index, line) in self.lines().iter().enumerate() {
            let _ = writeln!(out, "| {} |", line.join(" | "));
            if index == 0 {
                let _ = writeln!(out, "|{}", "---:|".repeat(line.len()));
            }
        }
        out.push('\n');
        for note in &self.notes {
            let _ = writeln!(out, "- {note}");
        }
        out
    }

    /// Heads, a line a trial, totals; rounded.
    fn lines(&self) -> Vec<Vec<String>> {
        let seeds = self.rows.iter().any(|row| row.seed != self.rows[0].seed);
        let words = ["trial", "α", "ρ", "Mult-Adds", "params"];
        let mut heads: Vec<String> = words.map(str::to_owned).to_vec();
        heads.extend(self.axes.iter().map(|axis| axis.trim_start_matches("training.").to_owned()));
        heads.extend(seeds.then(|| "seed".to_owned()));
        heads.extend(["epochs", "compute", "memory"].map(str::to_owned));
        let mut lines = vec![heads];
        for row in &self.rows {
            let mut line = vec![
                row.trial.to_string(),
                row.alpha.to_string(),
                row.resolution.to_string(),
                human(row.mult_adds),
                human(row.params),
            ];
            line.extend(self.axes.iter().map(|axis| axis_value(row, axis)));
            line.extend(seeds.then(|| row.seed.to_string()));
            line.push(row.epochs.to_string());
            line.push(format!("{:.1} %", row.compute_share * 100.0));
            line.push(format!("{}B", human(row.memory_bytes)));
            lines.push(line);
        }
        let mut total = vec![String::new(); lines[0].len()];
        let last = total.len() - 1;
        total[0] = format!("{} in all", self.rows.len());
        total[last - 1] = "100 %".to_owned();
        let largest = self.rows.iter().map(|row| row.memory_bytes).max().unwrap_or(0);
        total[last] = format!("≤ {}B", human(largest));
        lines.push(total);
        lines
    }
}

/// What a reader should know besides the table.
pub(super) fn notes(plan: &Plan, sweep: &Sweep) -> Vec<String> {
    let mut notes = Vec::new();
    if plan.scripted {
        notes.push("Scripted: nothing is trained, and every number that comes out is made up.".to_owned());
    }
    notes.push(format!(
        "Compute is Mult-Adds × epochs: {} for each training image, forward; about three times that with the gradient.",
        human_float(plan.mult_adds_epochs)
    ));
    let norm = &sweep.training.batch_norm;
    let decay = match norm.decay {
        _ if sweep.parameters.contains_key("training.batch_norm.decay") => "as its axis says".to_owned(),
        Some(decay) => decay.to_string(),
        None => "auto: 0.001^(4 / steps), at least 0.9 and at most 0.9997, with steps = epochs × training images / \
                 batch size; 0.9997 from 92,090 steps on"
            .to_owned(),
    };
    notes.push(format!("BatchNorm decay: {decay}."));
    if norm.reestimate_batches > 0 && !sweep.parameters.contains_key("training.batch_norm.reestimate_batches") {
        notes.push(format!(
            "BatchNorm's statistics are taken anew from {} training batches before each evaluation.",
            norm.reestimate_batches
        ));
    }
    notes.push(
        "Memory is an estimate for one trial: batch × layers' outputs × 3, and 4 copies of the parameters; libtorch \
         itself and waiting images come on top."
            .to_owned(),
    );
    let kept: Vec<&str> = sweep
        .checkpoint
        .keep
        .iter()
        .map(|keep| match keep {
            Keep::Best => "best",
            Keep::Latest => "latest",
        })
        .collect();
    notes.push(format!(
        "Checkpoints kept of each trial: {}; about {}B in all.",
        kept.join(" and "),
        human(plan.checkpoint_bytes)
    ));
    notes
}

fn axis_value(row: &PlanRow, axis: &str) -> String {
    match row.parameters.get(axis) {
        Some(serde_json::Value::String(word)) => word.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

/// Three digits and a letter: `569 M`, `4.23 M`, `13.6 M`.
fn human(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    human_float(count as f64)
}

fn human_float(count: f64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let mut scaled = count;
    let mut unit = 0;
    // 999.5 would be shown as 1000.
    while scaled >= 999.5 && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || scaled >= 99.95 {
        0
    } else if scaled >= 9.995 {
        1
    } else {
        2
    };
    format!("{scaled:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_letter() {
        for (count, expected) in [
            (0, "0 "),
            (999, "999 "),
            (470_072, "470 k"),
            (999_700, "1.00 M"),
            (4_231_976, "4.23 M"),
            (41_030_272, "41.0 M"),
            (99_960_000, "100 M"),
            (568_740_352, "569 M"),
            (4_867_293_184, "4.87 G"),
        ] {
            assert_eq!(human(count), expected, "{count}");
        }
    }

    #[test]
    fn formats_have_names() {
        for name in PlanFormat::NAMES {
            assert!(PlanFormat::from_str(name).is_ok(), "{name}");
        }
        let error = PlanFormat::from_str("xml").unwrap_err();
        assert_eq!(error.to_string(), "there is no format \"xml\"; the formats are table, csv, json, markdown");
    }
}
