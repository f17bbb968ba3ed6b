//! What `vs all` came to, and `BENCHMARKS.md`, which tells it.

use std::fmt::Write as _;

use odeum_runtime::config::ByteSize;
use serde::Serialize;

use crate::report::{Line, Sheet, Verdict};
use crate::scenario::outcome::Machine;

/// What all comparisons and measurements came to.
#[derive(Debug, Clone, Serialize)]
pub struct Benchmarks {
    /// When they began, as RFC 3339 has it.
    pub began: String,
    /// The command that was given.
    pub command: String,
    /// Ours: package, commit, and how it was built.
    pub version: String,
    /// What they ran on.
    pub machine: Machine,
    /// Each of them.
    pub sections: Vec<Section>,
}

/// What one command came to.
#[derive(Debug, Clone, Serialize)]
pub struct Section {
    /// What it is called: the command's words.
    pub name: String,
    /// What is measured, in a sentence.
    pub about: String,
    /// The command that measures it again.
    pub command: String,
    /// Whom it is beside, with the version.
    pub peer: Option<String>,
    /// How long it took, in words.
    pub took: String,
    /// What came of it.
    pub result: Measured,
}

/// What came of a command.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measured {
    /// A table.
    Table(Sheet),
    /// It was left out, because of this.
    Skipped(String),
    /// It failed, with this error.
    Failed(String),
}

impl Section {
    fn lines(&self) -> &[Line] {
        match &self.result {
            Measured::Table(sheet) => &sheet.lines,
            Measured::Skipped(_) | Measured::Failed(_) => &[],
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.lines().iter().filter(|line| line.verdict == verdict).count()
    }
}

impl Benchmarks {
    fn count(&self, verdict: Verdict) -> usize {
        self.sections.iter().map(|it| it.count(verdict)).sum()
    }

    /// Whether a row misses its target.
    #[must_use]
    pub fn misses(&self) -> bool {
        self.count(Verdict::Missed) > 0
    }

    /// Whether a part failed.
    #[must_use]
    pub fn fails(&self) -> bool {
        self.sections.iter().any(|it| matches!(it.result, Measured::Failed(_)))
    }

    /// The summary in one sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        let (met, missed) = (self.count(Verdict::Pass), self.count(Verdict::Missed));
        let mut text = format!("{met} of {} targets are met", met + missed);
        let of =
            |is: fn(&Measured) -> bool| self.sections.iter().filter(|it| is(&it.result)).count();
        let skipped = of(|it| matches!(it, Measured::Skipped(_)));
        let failed = of(|it| matches!(it, Measured::Failed(_)));
        for (count, what) in [(skipped, "left out"), (failed, "failed")] {
            if count > 0 {
                // A string takes everything, here and below.
                let _ = write!(text, "; {count} of {} parts {what}", self.sections.len());
            }
        }
        text
    }

    /// The file.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# Benchmarks\n\n**{}.**\n\n", self.summary());
        if self.version.contains("without optimisation") {
            text.push_str("**This build is not optimised: its figures say nothing.**\n\n");
        }
        text.push_str("| | targets | met | missed |\n|---|---:|---:|---|\n");
        self.sections.iter().for_each(|section| text.push_str(&overview(section)));
        let Machine { cpu, cpus, memory_bytes, kernel } = &self.machine;
        let memory = ByteSize(*memory_bytes).rounded();
        let _ = writeln!(
            text,
            "\nWritten by `{}`.\n\n| | |\n|---|---|\n| began | {} |\n| machine | {}, {cpus} CPUs, {memory}, \
             Linux {} |\n| Odeum | {} |",
            self.command,
            self.began,
            cell(cpu),
            cell(kernel),
            cell(&self.version),
        );
        text.push_str(
            "\nEvery row is the median of rounds in which ours and theirs are measured in turn; the ratio is \
             ours divided by theirs, round by round. A target \u{2264} is for what should be small, \u{2265} \
             for what should be large. Rows without a target are for information. Memory, CPUs and the disk \
             are shared by both sides, and by whatever makes the load.\n",
        );
        self.sections.iter().for_each(|section| text.push_str(&section_of(section)));
        text
    }
}

/// A line of the summary.
fn overview(it: &Section) -> String {
    let name = format!("[{}](#{})", it.name, anchor(&it.name));
    match &it.result {
        Measured::Skipped(why) => format!("| {name} | | | left out: {} |\n", cell(why)),
        Measured::Failed(_) => format!("| {name} | | | **failed** |\n"),
        Measured::Table(sheet) => {
            let missed = sheet.lines.iter().filter(|line| line.verdict == Verdict::Missed);
            let missed: Vec<String> = missed
                .map(|Line { cells: [row, .., ratio, target], .. }| {
                    format!("{} ({ratio}, target {target})", cell(row))
                })
                .collect();
            let (met, all) = (it.count(Verdict::Pass), it.count(Verdict::Pass) + missed.len());
            if all == 0 {
                return format!("| {name} | none | | |\n");
            }
            format!("| {name} | {all} | {met} | {} |\n", missed.join("; "))
        }
    }
}

/// A section.
fn section_of(it: &Section) -> String {
    let mut text = format!("\n## {}\n\n{}\n\n```sh\n{}\n```\n\n", it.name, it.about, it.command);
    let sheet = match &it.result {
        Measured::Skipped(why) => return text + &format!("Left out: {why}.\n"),
        Measured::Failed(error) => {
            return text + &format!("**Failed** after {}:\n\n```text\n{}\n```\n", it.took, error);
        }
        Measured::Table(sheet) => sheet,
    };
    if let Some(peer) = &it.peer {
        let _ = writeln!(text, "* beside {peer}");
    }
    sheet.conditions.iter().for_each(|line| {
        let _ = writeln!(text, "* {line}");
    });
    let _ = writeln!(text, "* took {}\n", it.took);
    let _ = writeln!(
        text,
        "| row | ours | {} | unit | ratio | target | verdict |\n|---|---:|---:|---|---:|---:|---|",
        cell(&sheet.peer)
    );
    for Line { cells, verdict } in &sheet.lines {
        let verdict = match verdict {
            Verdict::Missed => "**missed**".to_owned(),
            other => other.to_string(),
        };
        let cells: Vec<String> = cells.iter().map(|text| cell(text)).chain([verdict]).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// A text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

/// Where a heading is, as GitHub and others have it.
fn anchor(name: &str) -> String {
    let kept = name.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Report, Row, Target};

    fn section(name: &str, result: Measured) -> Section {
        Section {
            name: name.to_owned(),
            about: "What it is.".to_owned(),
            command: format!("odeum-loadtest {name} --rounds 5"),
            peer: Some("X 1.2".to_owned()),
            took: "3m".to_owned(),
            result,
        }
    }

    fn table(rows: Vec<Row>) -> Measured {
        let conditions = vec!["2 CPUs".to_owned()];
        Measured::Table(Sheet::from(&Report { peer: "X", conditions, rows }))
    }

    fn benchmarks(sections: Vec<Section>) -> Benchmarks {
        Benchmarks {
            began: "2026-11-27T12:00:00Z".to_owned(),
            command: "odeum-loadtest vs all".to_owned(),
            version: "0.1.0, commit 0123456789ab, release build".to_owned(),
            machine: Machine {
                cpu: "A CPU".to_owned(),
                cpus: 2,
                memory_bytes: 8 << 30,
                kernel: "6.7".to_owned(),
            },
            sections,
        }
    }

    #[test]
    fn the_file_has_machine_versions_commands_and_each_row_with_its_target() {
        let rows = vec![
            Row::new("tell", "/s", Target::AtLeast(2.0), &[(300.0, 100.0)]),
            Row::new("ask, p50 | p99", "ms", Target::AtMost(1.0), &[(3.0, 2.0)]),
            Row::new("bulk", "MB/s", Target::None, &[(1.0, 2.0)]),
        ];
        let all = benchmarks(vec![section("vs x_y", table(rows))]);
        let text = all.markdown();
        for expected in [
            "**1 of 2 targets are met.**",
            "| [vs x_y](#vs-x_y) | 2 | 1 | ask, p50 \\| p99 (1.50, target \u{2264} 1.00) |",
            "A CPU, 2 CPUs, 8.0 GiB, Linux 6.7",
            "0.1.0, commit 0123456789ab, release build",
            "2026-11-27T12:00:00Z",
            "```sh\nodeum-loadtest vs x_y --rounds 5\n```",
            "* beside X 1.2\n* 2 CPUs\n* took 3m\n",
            "| row | ours | X | unit | ratio | target | verdict |",
            "| tell | 300.0 | 100.0 | /s | 3.00 | \u{2265} 2.00 | pass |",
            "| ask, p50 \\| p99 | 3.0 | 2.0 | ms | 1.50 | \u{2264} 1.00 | **missed** |",
            "| bulk | 1.0 | 2.0 | MB/s | 0.50 | - | - |",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
        assert!(all.misses() && !all.fails());
        assert!(!text.contains("not optimised"));
    }

    #[test]
    fn what_is_left_out_or_fails_is_told_and_the_rest_is_there() {
        let row = Row::new("tell", "/s", Target::AtLeast(2.0), &[(300.0, 100.0)]);
        let all = benchmarks(vec![
            section("vs a", Measured::Skipped("A is not installed".to_owned())),
            section("vs b", Measured::Failed("node n1\nended early".to_owned())),
            section("vs c", table(vec![row])),
        ]);
        assert_eq!(
            all.summary(),
            "1 of 1 targets are met; 1 of 3 parts left out; 1 of 3 parts failed"
        );
        assert!(all.fails() && !all.misses());
        let text = all.markdown();
        assert!(text.contains("| [vs a](#vs-a) | | | left out: A is not installed |"), "{text}");
        assert!(
            text.contains("**Failed** after 3m:\n\n```text\nnode n1\nended early\n```"),
            "{text}"
        );
        assert!(text.contains("| tell | 300.0 |"), "{text}");
    }

    #[test]
    fn figures_of_a_build_without_optimisation_say_so() {
        let version = "0.1.0, built without optimisation".to_owned();
        let text = Benchmarks { version, ..benchmarks(Vec::new()) }.markdown();
        assert!(text.contains("not optimised"), "{text}");
    }

    #[test]
    fn every_line_of_a_table_has_as_many_cells_as_its_head() {
        let rows = vec![Row::new("a|b", "", Target::None, &[(1.0, 0.0)])];
        let text = benchmarks(vec![section("vs x", table(rows))]).markdown();
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let table: Vec<usize> = text
            .lines()
            .skip_while(|line| !line.starts_with("| row"))
            .take_while(|line| line.starts_with('|'))
            .map(cells)
            .collect();
        assert_eq!(table, [8, 8, 8]);
    }
}
