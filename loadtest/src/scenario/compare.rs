//! Two reports of the same scenario side by side: what is worse by more than noise.
//!
//! How noisy a figure is, the reports themselves tell: by how much it differs from one part of a run to
//! the next. A figure counts as another one when it differs by more than that, and by more than the band
//! that was asked for.

use std::fmt;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;

use super::outcome::Outcome;

/// Parts of a run that are compared with each other.
const PARTS: usize = 8;

/// Why two reports are not compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// They are not of the same scenario.
    #[error("one is of the scenario {0}, the other of {1}")]
    Scenario(String, String),
    /// They are not of the same hardware.
    #[error(
        "they were measured on different hardware: {0} and {1}; --other-hardware compares them all the same"
    )]
    Hardware(String, String),
    /// They are not of the same load.
    #[error("they had different loads: {0}")]
    Load(String),
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within noise.
    Same,
    /// Better by more.
    Better,
    /// Worse by more.
    Worse,
}

/// A figure in both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub what: String,
    /// The first one's.
    pub a: f64,
    /// The second one's.
    pub b: f64,
    /// The unit of both.
    pub unit: &'static str,
    /// By how many percent it may differ.
    pub band_percent: f64,
    /// What became of it.
    pub verdict: Verdict,
}

/// Two reports side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison(pub Vec<Row>);

impl Comparison {
    /// Compares two reports. What differs by at most `band_percent` is the same.
    ///
    /// # Errors
    /// [`CompareError`] when they cannot be compared.
    pub fn new(
        a: &Outcome,
        b: &Outcome,
        band_percent: f64,
        any_hardware: bool,
    ) -> Result<Self, CompareError> {
        if a.scenario != b.scenario {
            return Err(CompareError::Scenario(a.scenario.clone(), b.scenario.clone()));
        }
        let hardware = |it: &Outcome| {
            let machine = &it.machine;
            let gib = machine.memory_bytes.div_ceil(1 << 30);
            format!("{} with {} CPUs and {gib} GiB", machine.cpu, machine.cpus)
        };
        if hardware(a) != hardware(b) && !any_hardware {
            return Err(CompareError::Hardware(hardware(a), hardware(b)));
        }
        let (phases, others) = (names(a), names(b));
        if phases != others || a.cluster.nodes.len() != b.cluster.nodes.len() {
            let load =
                |it: &Outcome, phases: &str| format!("{} nodes, {phases}", it.cluster.nodes.len());
            return Err(CompareError::Load(format!(
                "{} and {}",
                load(a, &phases),
                load(b, &others)
            )));
        }
        let mut rows = Vec::new();
        let noise = |of: fn(&super::collect::Point) -> f64| {
            let parts = |it: &Outcome| spread(it.timeline.iter().map(of));
            band_percent.max(parts(a)).max(parts(b))
        };
        let (rate, p50, p99) = (noise(|p| p.rate), noise(|p| p.p50_ms), noise(|p| p.p99_ms));
        let all = std::iter::once((&a.all, &b.all));
        let each = a.targets.iter().filter_map(|row| {
            let other = b.targets.iter().find(|other| other.name == row.name)?;
            Some((row, other))
        });
        for (a, b) in all.chain(each) {
            let name = &a.name;
            rows.push(row(format!("{name}: rate"), (a.rate, b.rate), "/s", rate, true));
            rows.push(row(format!("{name}: p50"), (a.p50_ms, b.p50_ms), "ms", p50, false));
            rows.push(row(format!("{name}: p99"), (a.p99_ms, b.p99_ms), "ms", p99, false));
            let errors = (a.error_percent, b.error_percent);
            // Of what is mostly 0 there is no share: a tenth of a percent is as good as none.
            let verdict = match errors.1 - errors.0 {
                more if more > 0.1 => Verdict::Worse,
                more if more < -0.1 => Verdict::Better,
                _ => Verdict::Same,
            };
            rows.push(Row {
                what: format!("{name}: errors"),
                a: errors.0,
                b: errors.1,
                unit: "%",
                band_percent: 0.0,
                verdict,
            });
        }
        let memory = |it: &Outcome| {
            let most = it.nodes.iter().map(|node| node.memory_most).max().unwrap_or_default();
            most as f64 / f64::from(1 << 20)
        };
        let both = (memory(a), memory(b));
        rows.push(row("memory of a node".to_owned(), both, "MiB", band_percent, false));
        Ok(Self(rows))
    }

    /// Whether nothing is worse.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.0.iter().all(|row| row.verdict != Verdict::Worse)
    }
}

fn names(it: &Outcome) -> String {
    let names: Vec<&str> = it.phases.iter().map(|phase| phase.name.as_str()).collect();
    names.join(", ")
}

fn row(
    what: String,
    (a, b): (f64, f64),
    unit: &'static str,
    band_percent: f64,
    more_is_better: bool,
) -> Row {
    let change = 100.0 * (b - a) / a.abs().max(f64::MIN_POSITIVE);
    let verdict = if (b - a).abs() < f64::EPSILON || change.abs() <= band_percent {
        Verdict::Same
    } else if (change > 0.0) == more_is_better {
        Verdict::Better
    } else {
        Verdict::Worse
    };
    Row { what, a, b, unit, band_percent, verdict }
}

/// By how many percent of the middle half of the parts of a run differ: the distance of their quartiles
/// from each other.
fn spread(of: impl Iterator<Item = f64>) -> f64 {
    let all: Vec<f64> = of.collect();
    let length = all.len().div_ceil(PARTS).max(1);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let mut parts: Vec<f64> = all.chunks(length).map(mean).collect();
    parts.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = (parts.len() as f64 * share) as usize;
        parts.get(place.min(parts.len().saturating_sub(1))).copied().unwrap_or_default()
    };
    let middle = at(0.5);
    if middle <= 0.0 { 0.0 } else { 100.0 * (at(0.75) - at(0.25)) / middle }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table
            .load_style(UTF8_BORDERS_ONLY)
            .set_header(["figure", "A", "B", "unit", "change", "noise", "verdict"]);
        for row in &self.0 {
            let change = if row.a.abs() < f64::EPSILON {
                "-".to_owned()
            } else {
                format!("{:+.1} %", 100.0 * (row.b - row.a) / row.a)
            };
            let verdict = match row.verdict {
                Verdict::Same => "same",
                Verdict::Better => "better",
                Verdict::Worse => "WORSE",
            };
            table.add_row([
                row.what.clone(),
                format!("{:.2}", row.a),
                format!("{:.2}", row.b),
                row.unit.to_owned(),
                change,
                format!("{:.1} %", row.band_percent),
                verdict.to_owned(),
            ]);
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_within_the_band_is_the_same_whichever_way() {
        let verdict =
            |b, more_is_better| row("x".to_owned(), (100.0, b), "", 10.0, more_is_better).verdict;
        assert_eq!([verdict(91.0, true), verdict(109.0, true)], [Verdict::Same; 2]);
        assert_eq!([verdict(80.0, true), verdict(120.0, true)], [Verdict::Worse, Verdict::Better]);
        assert_eq!(
            [verdict(80.0, false), verdict(120.0, false)],
            [Verdict::Better, Verdict::Worse]
        );
    }

    #[test]
    fn a_figure_that_goes_up_and_down_within_a_run_has_a_wide_band() {
        assert!(spread((0..80).map(|_| 5.0)) < 1e-9);
        let restless = spread((0..80).map(|n| if n % 20 < 10 { 5.0 } else { 15.0 }));
        assert!(restless > 50.0, "{restless}");
    }
}
