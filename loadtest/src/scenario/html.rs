//! The report for people: one file with everything in it, that opens without a network and can be printed.

use odeum_runtime::config::ByteSize;

use super::junit::escape;
use super::outcome::{GeneratorFacts, Outcome, TargetRow};

mod chart;
mod verdict;
mod words;

use self::chart::{Band, Chart, Scale, Series};
use self::words::{count, micros, millis, number};

/// How it looks. Colours are told apart also in grey, and by the dashes of lines.
const STYLE: &str = include_str!("html/style.css");

/// Colours of curves: of Okabe and Ito, which all eyes tell apart.
const COLORS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// The report.
#[must_use]
pub(crate) fn report(outcome: &Outcome) -> String {
    let title = format!("{} \u{2013} load test", escape(&outcome.scenario));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    for part in [
        verdict::head(outcome),
        verdict::verdicts(outcome),
        verdict::found(outcome),
        in_time(outcome),
        verdict::faults(outcome),
        targets(outcome),
        curves(outcome),
        nodes(outcome),
        classes(outcome),
        how(outcome),
    ] {
        page.push_str(&part);
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn table(head: &[&str], rows: impl IntoIterator<Item = String>) -> String {
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    let rows: String = rows.into_iter().collect();
    format!("<table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table>\n")
}

fn row(class: &str, cells: &[String]) -> String {
    let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    format!("<tr class=\"{class}\">{cells}</tr>\n")
}

fn badge(pass: bool) -> String {
    let (class, text) = if pass { ("pass", "pass") } else { ("fail", "breached") };
    format!("<span class=\"badge {class}\">{text}</span>")
}

fn bands(it: &Outcome) -> Vec<Band> {
    let happened = it.faults.iter().filter(|mark| mark.not_possible.is_none());
    let bands = happened.enumerate().map(|(at, mark)| Band {
        from: mark.begins_s,
        to: mark.ends_s.unwrap_or(mark.begins_s) + mark.whole_s.unwrap_or_default(),
        name: (at + 1).to_string(),
        what: mark.name.clone(),
    });
    bands.collect()
}

fn in_time(it: &Outcome) -> String {
    let line = |name: &str, color: usize, of: fn(&super::collect::Point) -> f64, is_there: bool| {
        let points = it.timeline.iter().filter(|point| !is_there || of(point) > 0.0);
        Series {
            name: name.to_owned(),
            color: COLORS.get(color).copied().unwrap_or("#000"),
            points: points.map(|point| (point.at_s + point.width_s / 2.0, of(point))).collect(),
        }
    };
    let chart = |title: &str, unit: &'static str, scale: Scale, series: Vec<Series>| {
        Chart {
            title: title.to_owned(),
            unit,
            scale,
            width_s: it.seconds,
            series,
            bands: bands(it),
            marks: it.phases.iter().skip(1).map(|phase| phase.begins_s).collect(),
        }
        .svg()
    };
    let latency = vec![
        line("p50", 0, |point| point.p50_ms, true),
        line("p99", 1, |point| point.p99_ms, true),
        line("longest", 6, |point| point.max_ms, true),
    ];
    let rates = vec![
        line("answers", 2, |point| point.rate, false),
        line("errors", 1, |point| point.errors, false),
    ];
    let memory =
        vec![line("largest node", 3, |point| point.memory_bytes as f64 / f64::from(1 << 20), true)];
    let phases: Vec<String> = it
        .phases
        .iter()
        .map(|phase| format!("{} s: {}", number(phase.begins_s), escape(&phase.name)))
        .collect();
    format!(
        "<section><h2>In time</h2>\n<p class=\"quiet\">Times count from when a request was to be sent. \
         Grey bands are faults, by their numbers below, until the cluster was whole again; dotted lines \
         are phases: {}.</p>\n{}{}{}</section>\n",
        phases.join("; "),
        chart("Latency", "ms", Scale::Log, latency),
        chart("Requests", "/s", Scale::Linear, rates),
        chart("Memory", "MiB", Scale::Linear, memory),
    )
}

fn targets(it: &Outcome) -> String {
    let one = |of: &TargetRow| {
        let class = if of.sort.is_empty() { "sum" } else { "" };
        row(
            class,
            &[
                escape(&of.name),
                escape(&of.sort),
                count(of.sent),
                number(of.rate),
                format!("{} %", number(of.error_percent)),
                count(of.dropped),
                count(of.late),
                count(of.retried),
                millis(of.p50_ms),
                millis(of.p90_ms),
                millis(of.p99_ms),
                millis(of.p999_ms),
                millis(of.max_ms),
                ByteSize(of.bytes).rounded(),
            ],
        )
    };
    let rows = it.targets.iter().chain([&it.all]).map(one);
    let errors: String = it
        .targets
        .iter()
        .filter(|of| !of.errors.is_empty())
        .map(|of| {
            let all: Vec<String> =
                of.errors.iter().map(|(why, n)| format!("{} {}", count(*n), escape(why))).collect();
            format!("<p class=\"quiet\">Errors of {}: {}.</p>\n", escape(&of.name), all.join(", "))
        })
        .collect();
    let head = [
        "target",
        "",
        "sent",
        "answers/s",
        "errors",
        "dropped",
        "late",
        "retried",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "sent bytes",
    ];
    let table = table(&head, rows);
    format!("<section><h2>Targets</h2>\n<div class=\"numbers\">{table}</div>{errors}</section>\n")
}

fn curves(it: &Outcome) -> String {
    let all = std::iter::once(&it.all).chain(it.targets.iter().filter(|_| it.targets.len() > 1));
    let series = all.zip(COLORS.iter().rev().cycle()).filter(|(of, _)| of.answered > 0);
    let series = series.map(|(of, color)| Series {
        name: of.name.clone(),
        color,
        points: of.curve.iter().map(|(percentile, value)| (*percentile, *value)).collect(),
    });
    let svg = chart::percentiles(series.collect());
    format!(
        "<section><h2>Percentiles</h2>\n<p class=\"quiet\">How long so many of a hundred took at \
         most. The axis gives the last ones as much room as all the others.</p>\n{svg}</section>\n"
    )
}

fn nodes(it: &Outcome) -> String {
    let bytes = |of: u64| ByteSize(of).rounded();
    let files = |of: u64| if of == 0 { "\u{2013}".to_owned() } else { count(of) };
    let rows = it.nodes.iter().map(|node| {
        row(
            "",
            &[
                escape(&node.name),
                bytes(node.memory_before),
                bytes(node.memory_most),
                bytes(node.memory_after),
                files(node.files_before),
                files(node.files_after),
                format!("{:.0} %", node.cpu_percent),
                count(node.starts as u64),
            ],
        )
    });
    let head =
        ["node", "memory before", "at most", "after", "files before", "after", "CPU", "starts"];
    format!(
        "<section><h2>Nodes</h2>\n<div class=\"numbers\">{}</div></section>\n",
        table(&head, rows)
    )
}

fn classes(it: &Outcome) -> String {
    if it.classes.is_empty() {
        return String::new();
    }
    let rows = it.classes.iter().map(|(class, (sent, received))| {
        let bytes = |of: u64| ByteSize(of).rounded();
        row("", &[escape(class), bytes(*sent), bytes(*received)])
    });
    let table = table(&["class", "sent", "received"], rows);
    format!(
        "<section><h2>Between nodes</h2>\n<p class=\"quiet\">Bytes by class, of the connections that \
         were there at the end.</p>\n<div class=\"numbers narrow\">{table}</div></section>\n"
    )
}

/// By how much the memory of generators has grown, if anybody has looked.
fn grown(generators: &GeneratorFacts) -> String {
    generators.memory_growth_bytes.map_or(String::new(), |bytes| {
        format!(", and none grew by more than {}", ByteSize(bytes).rounded())
    })
}

fn how(it: &Outcome) -> String {
    let machine = &it.machine;
    let generators = &it.generators;
    let facts = [
        ("command", format!("<code>{}</code>", escape(&it.command))),
        ("seed", it.seed.to_string()),
        ("version", escape(&it.version)),
        (
            "machine",
            format!(
                "{}, {} CPUs, {}, Linux {}",
                escape(&machine.cpu),
                machine.cpus,
                ByteSize(machine.memory_bytes).rounded(),
                escape(&machine.kernel)
            ),
        ),
        (
            "cluster",
            format!("{} ({})", escape(&it.cluster.place), escape(&it.cluster.nodes.join(", "))),
        ),
        (
            "generators",
            format!(
                "{} processes; sends were late by {} (half of them at most), {} (99 of 100), {} (the \
                 latest); the busiest took {:.0} % of a CPU and {} of memory{}",
                generators.processes,
                micros(generators.late_p50_us),
                micros(generators.late_p99_us),
                micros(generators.late_max_us),
                generators.busiest_percent,
                ByteSize(generators.memory_bytes).rounded(),
                grown(generators)
            ),
        ),
    ];
    let rows = facts.map(|(name, fact)| format!("<dt>{name}</dt><dd>{fact}</dd>\n"));
    let closed = if it.load == "open" {
        ""
    } else {
        "<p class=\"warning\">In a closed loop clients send when they were answered: what they would have \
         sent while they waited is in no figure (coordinated omission).</p>\n"
    };
    format!("<section><h2>How it was measured</h2>\n{closed}<dl>{}</dl></section>\n", rows.concat())
}
