//! What people read first: the verdict, what must hold, what was found wrong, and what broke.

use std::fmt::Write as _;
use std::time::Duration;

use humantime::format_duration;

use super::words::{count, millis, number};
use super::{badge, row, table};
use crate::scenario::junit::escape;
use crate::scenario::outcome::{BudgetRow, CheckRow, FaultMark, Outcome};

pub(super) fn head(it: &Outcome) -> String {
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
         <p class=\"lead\">{}</p>\n<div class=\"figures\">{}</div>\n",
        escape(&it.scenario),
        escape(&it.about),
        escape(&it.began),
        it.cluster.nodes.len(),
        escape(&it.load),
        escape(&lead(it)),
        figures.concat(),
    )
}

/// What a run came to, in a sentence.
fn lead(it: &Outcome) -> String {
    let checks = it.checks.iter().filter(|of| of.found > 0 || !of.looked_at.is_empty());
    let checks = checks.map(|of| (of.check.name().to_owned(), of.found == 0));
    let all: Vec<(String, bool)> =
        it.budgets.iter().map(|of| (of.what.clone(), of.pass)).chain(checks).collect();
    let broken: Vec<&str> =
        all.iter().filter(|(_, holds)| !holds).map(|(what, _)| what.as_str()).collect();
    let happened = || it.faults.iter().filter(|mark| mark.not_possible.is_none());
    let through = match happened().count() {
        0 => String::new(),
        1 => ", with one fault".to_owned(),
        faults => format!(", through {faults} faults"),
    };
    let whole = happened().filter_map(|mark| mark.whole_s).reduce(f64::max);
    let whole = whole.map_or(String::new(), |most| {
        format!(" The cluster was whole again at most {most:.1} s after a fault.")
    });
    let count = all.len();
    match broken.as_slice() {
        [] => format!("All {count} conditions hold{through}.{whole}"),
        broken => {
            let (some, which) = (broken.len(), broken.join(", "));
            format!("{some} of {count} conditions do not hold{through}: {which}.{whole}")
        }
    }
}

pub(super) fn verdicts(it: &Outcome) -> String {
    let budget = |of: &BudgetRow| {
        let sign = if of.is_least { "\u{2265}" } else { "\u{2264}" };
        let figure = |value: f64| match of.unit.as_str() {
            "ms" => millis(value),
            unit => format!("{} {}", number(value), escape(unit)),
        };
        let bound = format!("{sign} {}", figure(of.bound));
        row("", &[escape(&of.what), bound, figure(of.value), badge(of.pass)])
    };
    let check = |of: &CheckRow| {
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
        let what =
            format!("{} <span class=\"quiet\">{}</span>", of.check.name(), of.check.promise());
        row("", &[what, "none".to_owned(), looked, verdict])
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
    format!(
        "<section class=\"verdicts\"><h2>Verdicts</h2>\n{limit}{}{lost}</section>\n",
        table(&head, rows)
    )
}

pub(super) fn found(it: &Outcome) -> String {
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

pub(super) fn faults(it: &Outcome) -> String {
    if it.faults.is_empty() {
        return String::new();
    }
    let mut number_of = 0;
    let one = |mark: &FaultMark| {
        let seconds = |of: Option<f64>| of.map_or("\u{2013}".to_owned(), |of| format!("{of:.1} s"));
        let name = escape(&mark.name);
        if let Some(reason) = &mark.not_possible {
            let why = format!("{name}<br>not possible here: {}", escape(reason));
            let none = || "\u{2013}".to_owned();
            return row("quiet", &[none(), seconds(Some(mark.begins_s)), why, none(), none()]);
        }
        number_of += 1;
        let lasted = mark.ends_s.map(|ends| ends - mark.begins_s);
        let begins = seconds(Some(mark.begins_s));
        row("", &[number_of.to_string(), begins, name, seconds(lasted), seconds(mark.whole_s)])
    };
    let rows: Vec<String> = it.faults.iter().map(one).collect();
    let head = ["", "at", "fault", "lasted", "whole again after"];
    format!(
        "<section><h2>Faults</h2>\n<div class=\"faults\">{}</div></section>\n",
        table(&head, rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::outcome::Machine;
    use crate::scenario::protocol::Check;

    fn outcome() -> Outcome {
        let budget = |what: &str, pass| BudgetRow {
            what: what.to_owned(),
            bound: 10.0,
            is_least: false,
            value: 2.0,
            unit: "%".to_owned(),
            pass,
        };
        let check =
            |check, looked_at: &str| CheckRow { check, looked_at: looked_at.into(), found: 0 };
        let fault = |name: &str, whole_s, reason: Option<&str>| FaultMark {
            name: name.to_owned(),
            begins_s: 104.0,
            ends_s: reason.is_none().then_some(110.0),
            whole_s,
            not_possible: reason.map(str::to_owned),
        };
        Outcome {
            machine: Machine { cpus: 2, ..Machine::default() },
            budgets: vec![budget("errors", true), budget("rate", true)],
            checks: vec![check(Check::Lost, "9 answers"), check(Check::Watch, "")],
            faults: vec![
                fault("kill -9 of n1", Some(2.14), None),
                fault("n2 <cut> off", Some(0.3), None),
                fault("late packets", None, Some("no netem")),
            ],
            pass: true,
            ..Outcome::default()
        }
    }

    #[test]
    fn the_lead_counts_what_holds_and_what_happened() {
        let mut outcome = outcome();
        assert_eq!(
            lead(&outcome),
            "All 3 conditions hold, through 2 faults. The cluster was whole again at most 2.1 s after a \
             fault."
        );
        outcome.budgets[1].pass = false;
        outcome.checks[0].found = 2;
        outcome.faults.clear();
        assert_eq!(lead(&outcome), "2 of 3 conditions do not hold: rate, lost.");
    }

    #[test]
    fn a_fault_that_did_not_come_says_why_and_has_no_number() {
        let text = faults(&outcome());
        assert!(text.contains("late packets<br>not possible here: no netem"), "{text}");
        assert!(text.contains("<td>2</td><td>104.0 s</td><td>n2 &lt;cut&gt; off</td>"), "{text}");
        assert!(!text.contains("<td>3</td>"), "{text}");
    }
}
