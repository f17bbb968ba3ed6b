//! The rows of a comparison, as a table and as JSON.

use std::fmt;

use comfy_table::Table;
use serde::{Deserialize, Serialize, Serializer};

/// What our share of the peer's figure must be.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Target {
    /// Nothing: the row is for information and passes.
    #[default]
    None,
    /// Lower is better.
    AtMost(f64),
    /// Higher is better.
    AtLeast(f64),
}

impl Target {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::None => true,
            Self::AtMost(limit) => ratio <= limit,
            Self::AtLeast(limit) => ratio >= limit,
        }
    }
}

/// In the table.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("-"),
            Self::AtMost(limit) => write!(f, "\u{2264} {limit:.2}"),
            Self::AtLeast(limit) => write!(f, "\u{2265} {limit:.2}"),
        }
    }
}

/// In JSON: the number, or null. Which way it counts is told by the row's `pass`.
impl Serialize for Target {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => to.serialize_none(),
            Self::AtMost(limit) | Self::AtLeast(limit) => to.serialize_f64(*limit),
        }
    }
}

/// One measured property of both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub row: String,
    /// Our median.
    pub ours: f64,
    /// Their median.
    pub theirs: f64,
    /// The unit of both.
    pub unit: &'static str,
    /// The median over the rounds of ours divided by theirs.
    pub ratio: f64,
    /// Which ratios pass.
    pub target: Target,
    /// Whether it does.
    pub pass: bool,
}

impl Row {
    /// A row from interleaved rounds of (ours, theirs). What is no number was not seen, and misses
    /// its target.
    #[must_use]
    pub fn new(
        row: impl Into<String>,
        unit: &'static str,
        target: Target,
        rounds: &[(f64, f64)],
    ) -> Self {
        let ours = median(rounds.iter().map(|(ours, _)| *ours));
        let theirs = median(rounds.iter().map(|(_, theirs)| *theirs));
        // Of each round, so that a slow spell of the machine falls on both sides of it.
        let of = |(ours, theirs): &(f64, f64)| {
            ours / if *theirs == 0.0 { f64::MIN_POSITIVE } else { *theirs }
        };
        let ratio = median(rounds.iter().map(of));
        Self { row: row.into(), ours, theirs, unit, ratio, target, pass: target.is_met(ratio) }
    }

    /// A value that is told and held against nothing.
    #[must_use]
    pub fn told(row: &str, unit: &'static str, value: f64) -> Self {
        Self::new(row, unit, Target::None, &[(value, value)])
    }

    /// How often something was found that is never allowed.
    #[must_use]
    pub fn violations(found: usize) -> Self {
        Self {
            row: "violations".to_owned(),
            ours: found as f64,
            theirs: 0.0,
            unit: "",
            // Of nothing that is allowed.
            ratio: found as f64,
            target: Target::AtMost(0.0),
            pass: found == 0,
        }
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
    /// Under which conditions both were measured, one line each: what the reader needs to judge
    /// the figures or to get them again.
    pub conditions: Vec<String>,
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
        for condition in &self.conditions {
            writeln!(f, "{condition}")?;
        }
        let mut table = Table::new();
        table.set_header(["row", "ours", self.peer, "unit", "ratio", "target", "verdict"]);
        for row in &self.rows {
            let Line { cells, verdict } = Line::from(row);
            table.add_row(cells.into_iter().chain([verdict.to_string()]));
        }
        write!(f, "{table}")
    }
}

/// A report as people read it: what one process writes to a file for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet {
    /// Whom we are compared with.
    pub peer: String,
    /// Under which conditions both were measured, one line each.
    pub conditions: Vec<String>,
    /// The rows.
    pub lines: Vec<Line>,
}

impl From<&Report> for Sheet {
    fn from(report: &Report) -> Self {
        Self {
            peer: report.peer.to_owned(),
            conditions: report.conditions.clone(),
            lines: report.rows.iter().map(Line::from).collect(),
        }
    }
}

/// A row as people read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What was measured, ours, theirs, the unit, the ratio, and its target.
    pub cells: [String; 6],
    /// Whether the target is met.
    pub verdict: Verdict,
}

impl From<&Row> for Line {
    fn from(row: &Row) -> Self {
        let verdict = match row {
            Row { target: Target::None, .. } => Verdict::None,
            Row { pass: true, .. } => Verdict::Pass,
            Row { pass: false, .. } => Verdict::Missed,
        };
        let number = |value: f64, digits: usize| {
            if value.is_nan() { "-".to_owned() } else { format!("{value:.digits$}") }
        };
        let cells = [
            row.row.clone(),
            number(row.ours, 1),
            number(row.theirs, 1),
            row.unit.to_owned(),
            number(row.ratio, 2),
            row.target.to_string(),
        ];
        Self { cells, verdict }
    }
}

/// Whether a row meets its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It has none.
    None,
    /// It does.
    Pass,
    /// It does not.
    Missed,
}

/// In the table.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "-",
            Self::Pass => "pass",
            Self::Missed => "MISSED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_passes_by_the_median_ratio_of_its_rounds() {
        let at_most = Target::AtMost(1.2);
        let row = Row::new("x", "ns", at_most, &[(1.0, 1.0), (9.0, 1.0), (1.1, 1.0)]);
        assert!(row.pass && (row.ratio - 1.1).abs() < 1e-9);
        let row = Row::new("x", "ns", at_most, &[(2.0, 1.0), (2.0, 1.0), (1.0, 1.0)]);
        assert!(!row.pass);
    }

    #[test]
    fn more_is_better_where_a_target_is_a_least_ratio() {
        let row = |ours| Row::new("x", "/s", Target::AtLeast(2.0), &[(ours, 1.0)]);
        assert!(row(2.5).pass && !row(1.5).pass);
    }

    #[test]
    fn a_time_that_nobody_saw_is_no_good_one() {
        let row = |pair| Row::new("asks, p99", "ms", Target::AtMost(1.0), &[pair]);
        assert!(!row((f64::NAN, 2.0)).pass && !row((2.0, f64::NAN)).pass);
        let line = Line::from(&row((f64::NAN, 2.0)));
        assert_eq!((&*line.cells[1], &*line.cells[4], line.verdict), ("-", "-", Verdict::Missed));
    }

    #[test]
    fn a_sheet_says_what_the_table_says() {
        let row = |target, ours| Row::new("asks", "/s", target, &[(ours, 2.0)]);
        let at_least = Target::AtLeast(2.0);
        let rows = vec![row(at_least, 5.0), row(at_least, 3.0), row(Target::None, 1.0)];
        let report = Report { peer: "X", conditions: vec!["2 CPUs".into()], rows };
        let sheet = Sheet::from(&report);
        let table = report.to_string();
        for Line { cells, verdict } in &sheet.lines {
            let verdict = verdict.to_string();
            assert!(cells.iter().chain([&verdict]).all(|cell| table.contains(cell)), "{table}");
        }
        let verdicts = sheet.lines.iter().map(|line| line.verdict);
        assert!(verdicts.eq([Verdict::Pass, Verdict::Missed, Verdict::None]));
        let text = serde_json::to_string(&sheet).unwrap();
        assert_eq!(serde_json::from_str::<Sheet>(&text).unwrap(), sheet);
    }

    #[test]
    fn a_row_without_a_target_passes_and_its_target_is_null() {
        let row = Row::new("x", "/s", Target::None, &[(1.0, 100.0)]);
        assert!(row.pass);
        assert!(serde_json::to_value(&row).unwrap()["target"].is_null());
    }
}
