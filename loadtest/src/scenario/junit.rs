//! A report as JUnit's XML, which build servers read: one case for each budget and each check.
//!
//! Written by hand: the crate `quick-junit` brings chrono and an XML parser for these two elements.

use std::fmt::Write as _;

use super::outcome::Outcome;

/// The report.
#[must_use]
pub(crate) fn report(outcome: &Outcome) -> String {
    let suite = escape(&outcome.scenario);
    let mut cases = String::new();
    let (mut count, mut failures, mut skipped) = (0, 0, 0);
    let mut case = |class: &str, name: &str, failure: Option<String>, is_skipped: bool| {
        count += 1;
        let inner = match failure {
            Some(text) => {
                failures += 1;
                let first = text.lines().next().unwrap_or_default();
                format!("<failure message=\"{}\">{}</failure>", escape(first), escape(&text))
            }
            None if is_skipped => {
                skipped += 1;
                "<skipped/>".to_owned()
            }
            None => String::new(),
        };
        // A string takes everything.
        let _ = writeln!(
            cases,
            "    <testcase classname=\"{suite}.{class}\" name=\"{}\">{inner}</testcase>",
            escape(name)
        );
    };
    for row in &outcome.budgets {
        let sign = if row.is_least { "at least" } else { "at most" };
        let failure = || {
            let unit = &row.unit;
            format!("{}: {:.3} {unit}, {sign} {:.3} {unit}", row.what, row.value, row.bound)
        };
        case("budget", &row.what, (!row.pass).then(failure), false);
    }
    for row in &outcome.checks {
        let of = outcome.found.iter().filter(|found| found.check == row.check);
        let texts: Vec<String> =
            of.map(|found| format!("{}\n{}", found.title, found.account)).collect();
        let failure = (!texts.is_empty()).then(|| texts.join("\n"));
        case("check", row.check.name(), failure, row.looked_at.is_empty());
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{suite}\" \
         tests=\"{count}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" \
         time=\"{:.3}\" timestamp=\"{}\">\n{cases}  </testsuite>\n</testsuites>\n",
        outcome.seconds,
        escape(outcome.began.split('.').next().unwrap_or_default()),
    )
}

/// Text as an XML document can have it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            // XML has no way to say them.
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_reserves_is_escaped() {
        assert_eq!(escape("a<b> & \"c\"\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}");
    }
}
