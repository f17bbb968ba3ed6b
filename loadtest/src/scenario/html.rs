//! The report for people: one file with everything in it, that opens without a network and can be printed.

use std::fmt::Write as _;
use std::time::Duration;

use humantime::format_duration;
use odeum_runtime::config::ByteSize;

use super::junit::escape;
use super::outcome::{BudgetRow, FaultMark, Outcome, TargetRow};

mod chart;

use self::chart::{Band, Chart, Scale, Series};

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
        head(outcome),
        verdicts(outcome),
        found(outcome),
        in_time(outcome),
        faults(outcome),
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

fn head(it: &Outcome) -> String {
    let (class, verdict) = if it.pass { ("pass", "PASS") } else { ("fail", "BREACHED") };
    let time = format_duration(Duration::from_secs_f64(it.seconds));
    let figure = |value: String, what: &str| {
        format!("<div class=\"figure\"><b>{value}</b><span>{what}</span></div>")
    };
    let figures = [
        figure(count(it.all.answered), "requests answered"),
        figure(format!("{}/s", number(it.all.rate)), "on average"),
        figure(millis(it.all.p50_ms), "median"),
        figure(millis(it.all.p99_ms), "99 of 100 within"),
        figure(format!("{} %", number(it.all.error_percent)), "errors"),
        figure(millis(it.longest_outage_ms), "longest time without an answer"),
    ];
    format!(
        "<header><div><h1>{}</h1><p>{}</p><p class=\"quiet\">{} \u{00b7} {time} \u{00b7} {} nodes \
         \u{00b7} {} loop</p></div><div class=\"verdict {class}\">{verdict}</div></header>\n\
         <div class=\"figures\">{}</div>\n",
        escape(&it.scenario),
        escape(&it.about),
        escape(&it.began),
        it.cluster.nodes.len(),
        escape(&it.load),
        figures.concat(),
    )
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

fn verdicts(it: &Outcome) -> String {
    let budget = |of: &BudgetRow| {
        let sign = if of.is_least { "\u{2265}" } else { "\u{2264}" };
        let unit = escape(&of.unit);
        row(
            "",
            &[
                escape(&of.what),
                format!("{sign} {} {unit}", number(of.bound)),
                format!("{} {unit}", number(of.value)),
                badge(of.pass),
            ],
        )
    };
    let check = |of: &super::outcome::CheckRow| {
        let is_nothing = of.looked_at.is_empty() && of.found == 0;
        let looked = if of.looked_at.is_empty() {
            "nothing to look at".to_owned()
        } else {
            format!("{} found in {}", of.found, escape(&of.looked_at))
        };
        let verdict = if is_nothing {
            "<span class=\"quiet\">\u{2013}</span>".to_owned()
        } else {
            badge(of.found == 0)
        };
        row("", &[of.check.name().to_owned(), "none".to_owned(), looked, verdict])
    };
    let rows = it.budgets.iter().map(budget).chain(it.checks.iter().map(check));
    let lost = match it.lost_with_a_node {
        0 => String::new(),
        lost => format!(
            "<p class=\"quiet\">{lost} messages that were told without waiting for an answer were lost \
             with a node or a link; nothing is promised of those.</p>\n"
        ),
    };
    let limit = it.generators.bottleneck.as_ref().map_or(String::new(), |why| {
        format!("<p class=\"warning\">The generator is a limit: {}.</p>\n", escape(why))
    });
    let head = ["what must hold", "bound", "is", ""];
    format!("<section><h2>Verdicts</h2>\n{limit}{}{lost}</section>\n", table(&head, rows))
}

fn found(it: &Outcome) -> String {
    if it.found.is_empty() {
        return String::new();
    }
    let mut list = String::new();
    for found in &it.found {
        let account = match found.account.as_str() {
            "" => String::new(),
            account => format!("<pre>{}</pre>", escape(account)),
        };
        // A string takes everything.
        let _ = writeln!(
            list,
            "<li><b>{}</b>: {}{account}</li>",
            found.check.name(),
            escape(&found.title)
        );
    }
    format!("<section class=\"found\"><h2>Found wrong</h2>\n<ol>{list}</ol></section>\n")
}

fn bands(it: &Outcome) -> Vec<Band> {
    let happened = it.faults.iter().filter(|mark| mark.not_possible.is_none());
    let bands = happened.enumerate().map(|(at, mark)| Band {
        from: mark.begins_s,
        to: mark.ends_s.unwrap_or(mark.begins_s) + mark.whole_s.unwrap_or_default(),
        name: (at + 1).to_string(),
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

fn faults(it: &Outcome) -> String {
    if it.faults.is_empty() {
        return String::new();
    }
    let mut number_of = 0;
    let one = |mark: &FaultMark| {
        let seconds = |of: Option<f64>| of.map_or("\u{2013}".to_owned(), |of| format!("{of:.1} s"));
        let name = escape(&mark.name);
        if let Some(reason) = &mark.not_possible {
            let why = format!("not possible here: {}", escape(reason));
            return row(
                "quiet",
                &["\u{2013}".to_owned(), seconds(Some(mark.begins_s)), name, why, String::new()],
            );
        }
        number_of += 1;
        let lasted = mark.ends_s.map(|ends| ends - mark.begins_s);
        let begins = seconds(Some(mark.begins_s));
        row("", &[number_of.to_string(), begins, name, seconds(lasted), seconds(mark.whole_s)])
    };
    let rows: Vec<String> = it.faults.iter().map(one).collect();
    let head = ["", "at", "fault", "lasted", "whole again after"];
    format!("<section><h2>Faults</h2>\n{}</section>\n", table(&head, rows))
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
                 latest); the busiest took {:.0} % of a CPU and {} of memory",
                generators.processes,
                micros(generators.late_p50_us),
                micros(generators.late_p99_us),
                micros(generators.late_max_us),
                generators.busiest_percent,
                ByteSize(generators.memory_bytes).rounded()
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

/// With as many digits as mean something.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        of if of >= 100.0 || of.fract() == 0.0 => 0,
        of if of >= 10.0 => 1,
        of if of >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    match text.split_once('.') {
        None => grouped(&text),
        Some(_) => text,
    }
}

fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// Thousands apart, by a space that does not break.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push('\u{202f}');
        }
        text.push(c);
    }
    text
}

fn millis(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{} s", number(value / 1_000.0))
    } else {
        format!("{} ms", number(value))
    }
}

fn micros(value: u64) -> String {
    if value >= 1_000 { millis(value as f64 / 1_000.0) } else { format!("{value} \u{b5}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_mean_something() {
        let texts = [12_345.6, 99.94, 3.456, 0.01234, 5.0].map(number);
        assert_eq!(texts, ["12\u{202f}346", "99.9", "3.46", "0.012", "5"]);
        assert_eq!([micros(12), micros(1_234)], ["12 \u{b5}s", "1.23 ms"]);
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
