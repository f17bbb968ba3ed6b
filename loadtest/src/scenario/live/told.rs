//! The outcome of a run, as the command line prints it.

use std::fmt;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use humantime::format_duration;
use odeum_runtime::config::ByteSize;

use crate::scenario::outcome::{BudgetRow, FaultMark, Outcome, TargetRow};

/// An outcome as tables.
pub(super) struct Told<'a>(pub(super) &'a Outcome);

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    table
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self.0;
        let time = format_duration(Duration::from_secs_f64(it.seconds));
        let Outcome { scenario, cluster, seed, load, .. } = it;
        let nodes = cluster.nodes.len();
        writeln!(
            f,
            "\n{scenario}: {time} on {nodes} nodes ({}), seed {seed}, {load} loop",
            cluster.place
        )?;
        targets(it, f)?;
        faults(it, f)?;
        verdicts(it, f)?;
        generators(it, f)?;
        write!(f, "{}", if it.pass { "PASS" } else { "BREACHED" })
    }
}

fn targets(it: &Outcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut targets = table([
        "target",
        "sent",
        "answers/s",
        "errors",
        "dropped",
        "late",
        "retried",
        "p50",
        "p99",
        "p99.9",
        "max",
    ]);
    for row in it.targets.iter().chain([&it.all]) {
        targets.add_row(row_of(row));
    }
    writeln!(f, "{targets}")?;
    for row in it.targets.iter().filter(|row| !row.errors.is_empty()) {
        let errors: Vec<_> = row.errors.iter().map(|(why, n)| format!("{n} {why}")).collect();
        writeln!(f, "errors of {}: {}", row.name, errors.join(", "))?;
    }
    Ok(())
}

fn faults(it: &Outcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !it.faults.is_empty() {
        let mut faults = table(["at", "fault", "lasted", "whole after"]);
        for mark in &it.faults {
            faults.add_row(fault(mark));
        }
        writeln!(f, "{faults}")?;
    }
    for mark in &it.faults {
        if let Some(reason) = &mark.not_possible {
            writeln!(f, "not possible here: {}: {reason}", mark.name)?;
        }
    }
    Ok(())
}

fn verdicts(it: &Outcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut verdicts = table(["what must hold", "bound", "is", "verdict"]);
    for row in &it.budgets {
        verdicts.add_row(budget(row));
    }
    for row in &it.checks {
        let verdict = match (row.found, row.looked_at.is_empty()) {
            (0, true) => "-".to_owned(),
            (0, false) => "pass".to_owned(),
            (found, _) => format!("{found} FOUND"),
        };
        let looked = if row.looked_at.is_empty() { "-" } else { &row.looked_at };
        verdicts.add_row([row.check.name(), "none", looked, &verdict]);
    }
    writeln!(f, "{verdicts}")?;
    for found in &it.found {
        writeln!(f, "FOUND: {}", found.title)?;
    }
    Ok(())
}

fn generators(it: &Outcome, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let generators = &it.generators;
    let grown = generators
        .memory_growth_bytes
        .map_or(String::new(), |bytes| format!(", memory grown by {}", ByteSize(bytes).rounded()));
    writeln!(
        f,
        "{} generators: sends late by p50 {} µs, p99 {} µs, max {} µs; busiest {:.0} % of a CPU{}",
        generators.processes,
        generators.late_p50_us,
        generators.late_p99_us,
        generators.late_max_us,
        generators.busiest_percent,
        grown
    )?;
    if let Some(bottleneck) = &generators.bottleneck {
        writeln!(f, "THE GENERATOR IS A LIMIT: {bottleneck}")?;
    }
    if it.lost_with_a_node > 0 {
        let lost = it.lost_with_a_node;
        writeln!(f, "{lost} messages that were told were lost with a node or a link, as may be")?;
    }
    Ok(())
}

fn row_of(row: &TargetRow) -> [String; 11] {
    let millis = |of: f64| format!("{of:.2} ms");
    [
        if row.sort.is_empty() || row.sort == row.name {
            row.name.clone()
        } else {
            format!("{} ({})", row.name, row.sort)
        },
        row.sent.to_string(),
        format!("{:.1}", row.rate),
        format!("{:.3} %", row.error_percent),
        row.dropped.to_string(),
        row.late.to_string(),
        row.retried.to_string(),
        millis(row.p50_ms),
        millis(row.p99_ms),
        millis(row.p999_ms),
        millis(row.max_ms),
    ]
}

fn fault(mark: &FaultMark) -> [String; 4] {
    let seconds = |of: Option<f64>| of.map_or("-".to_owned(), |of| format!("{of:.1} s"));
    let lasted = match mark.not_possible {
        Some(_) => "not possible".to_owned(),
        None => seconds(mark.ends_s.map(|ends| ends - mark.begins_s)),
    };
    let at = format!("{:.1} s", mark.begins_s);
    [at, mark.name.clone(), lasted, seconds(mark.whole_s)]
}

fn budget(row: &BudgetRow) -> [String; 4] {
    let sign = if row.is_least { "\u{2265}" } else { "\u{2264}" };
    let verdict = if row.pass { "pass" } else { "BREACHED" };
    let value = |value: f64| match row.unit.as_str() {
        "ms" if value >= 10_000.0 => format!("{:.2} s", value / 1_000.0),
        unit => format!("{value:.2} {unit}"),
    };
    let bound = format!("{sign} {}", value(row.bound));
    [row.what.clone(), bound, value(row.value), verdict.to_owned()]
}
