//! The rows of a comparison, as a table and as JSON.

use std::fmt;

use comfy_table::Table;
use serde::Serialize;

/// One measured property of both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub row: String,
    /// Our median.
    pub ours: f64,
    /// Their median.
    pub theirs: f64,
    /// The unit of both; lower is better.
    pub unit: &'static str,
    /// The median over the rounds of ours divided by theirs.
    pub ratio: f64,
    /// The highest ratio that passes.
    pub target: f64,
    /// Whether it does.
    pub pass: bool,
}

impl Row {
    /// A row from interleaved rounds of (ours, theirs).
    #[must_use]
    pub fn new(
        row: impl Into<String>,
        unit: &'static str,
        target: f64,
        rounds: &[(f64, f64)],
    ) -> Self {
        let ours = median(rounds.iter().map(|(ours, _)| *ours));
        let theirs = median(rounds.iter().map(|(_, theirs)| *theirs));
        // Of each round, so that a slow spell of the machine falls on both sides of it.
        let ratio =
            median(rounds.iter().map(|(ours, theirs)| ours / theirs.max(f64::MIN_POSITIVE)));
        Self { row: row.into(), ours, theirs, unit, ratio, target, pass: ratio <= target }
    }
}

/// The middle value; the upper of two.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All rows of one comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Whom we are compared with.
    pub peer: &'static str,
    /// The rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether every row meets its target.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.rows.iter().all(|row| row.pass)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.set_header(["row", "ours", self.peer, "unit", "ratio", "target", "verdict"]);
        for row in &self.rows {
            table.add_row([
                row.row.clone(),
                format!("{:.1}", row.ours),
                format!("{:.1}", row.theirs),
                row.unit.to_owned(),
                format!("{:.2}", row.ratio),
                format!("{:.2}", row.target),
                if row.pass { "pass" } else { "MISSED" }.to_owned(),
            ]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_passes_by_the_median_ratio_of_its_rounds() {
        let row = Row::new("x", "ns", 1.2, &[(1.0, 1.0), (9.0, 1.0), (1.1, 1.0)]);
        assert!(row.pass && (row.ratio - 1.1).abs() < 1e-9);
        let row = Row::new("x", "ns", 1.2, &[(2.0, 1.0), (2.0, 1.0), (1.0, 1.0)]);
        assert!(!row.pass);
    }
}
