//! Log lines at a bounded rate. Pure: the time is told.

use std::time::{Duration, Instant};

/// Lines a second that pass.
const LINES_PER_SECOND: u32 = 20;
/// Characters of a line that are kept.
const LINE_LENGTH_MAX: usize = 2_000;

/// Lets so many lines a second pass and counts the others.
pub(crate) struct LogLimit {
    second_began: Instant,
    passed: u32,
    left_out: u64,
}

impl LogLimit {
    pub(crate) fn new(now: Instant) -> Self {
        Self { second_began: now, passed: 0, left_out: 0 }
    }

    /// What to write down of a line: itself, maybe with a note of what was left out before it, or nothing.
    pub(crate) fn pass(&mut self, now: Instant, line: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if now.duration_since(self.second_began) >= Duration::from_secs(1) {
            lines.extend(self.note());
            self.second_began = now;
            self.passed = 0;
        }
        if self.passed >= LINES_PER_SECOND {
            self.left_out += 1;
            return lines;
        }
        self.passed += 1;
        lines.push(shortened(line));
        lines
    }

    /// How many lines were left out since the last such note.
    pub(crate) fn note(&mut self) -> Option<String> {
        let left_out = std::mem::take(&mut self.left_out);
        (left_out > 0).then(|| format!("… {left_out} lines left out"))
    }
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE_LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted() {
        let start = Instant::now();
        let mut limit = LogLimit::new(start);
        let passed: usize = (0..100).map(|number| limit.pass(start, &number.to_string()).len()).sum();
        assert_eq!(passed, 20);
        let later = start + Duration::from_secs(2);
        assert_eq!(limit.pass(later, "after"), ["… 80 lines left out", "after"]);
        assert_eq!(limit.note(), None);
    }

    #[test]
    fn a_long_line_is_shortened() {
        let now = Instant::now();
        let lines = LogLimit::new(now).pass(now, &"é".repeat(5_000));
        assert_eq!(lines[0].chars().count(), LINE_LENGTH_MAX + 1);
    }
}
