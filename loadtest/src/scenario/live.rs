//! What a run shows while it goes on: a picture where the output is a terminal, lines elsewhere; and its
//! verdict at the end.
#![expect(clippy::print_stdout, reason = "this is what the command line prints")]

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal as _, Stdout, stdout};
use std::path::Path;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use humantime::format_duration;
use odeum_runtime::config::ByteSize;
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table as Grid};

use super::collect::{Collected, Point};
use super::lasts;
use super::measure::Counts;
use super::outcome::{BudgetRow, FaultMark, Outcome, TargetRow};
use super::protocol::Found;
use super::schedule::Segment;
use super::spec::{Phase, Scenario};

/// Lines of a whole run, about, where there is no picture.
const LINES: u32 = 30;

/// What was said last, below the picture.
const SAID: usize = 6;

/// What there is to show.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) elapsed: Duration,
    pub(crate) collected: &'a Collected,
    pub(crate) faults: &'a [FaultMark],
    pub(crate) found: &'a [Found],
    /// Memory of the largest node.
    pub(crate) memory: u64,
}

impl View<'_> {
    fn phase(&self) -> Option<&Phase> {
        let segments = Segment::all(&self.scenario.phases);
        let place = segments.iter().position(|segment| self.elapsed < segment.ends())?;
        self.scenario.phases.get(place)
    }

    fn total(&self) -> Duration {
        lasts(self.scenario)
    }
}

/// Shows a run.
pub(crate) struct Live {
    terminal: Option<Terminal<CrosstermBackend<Stdout>>>,
    is_quiet: bool,
    /// How often a line is printed, and when the next one is.
    every: Duration,
    next: Duration,
    said: VecDeque<String>,
    /// Faults that were told to have begun and to be over.
    told: (usize, usize),
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("said", &self.said).finish_non_exhaustive()
    }
}

impl Live {
    /// Begins to show a run.
    pub(crate) fn start(scenario: &Scenario, plain: bool) -> anyhow::Result<Self> {
        let every = (lasts(scenario) / LINES).max(Duration::from_secs(1));
        let mut live = Self::quiet();
        (live.is_quiet, live.every) = (false, every);
        live.say(&format!("{}, --seed {}: {}", scenario.name, scenario.seed(), scenario.about));
        if !plain && stdout().is_terminal() {
            // Not in raw mode: Ctrl-C ends the run, as everywhere.
            execute!(stdout(), EnterAlternateScreen, Hide)?;
            live.terminal = Some(Terminal::new(CrosstermBackend::new(stdout()))?);
        }
        Ok(live)
    }

    /// Shows nothing.
    pub(crate) fn quiet() -> Self {
        Self {
            terminal: None,
            is_quiet: true,
            every: Duration::MAX,
            next: Duration::ZERO,
            said: VecDeque::new(),
            told: (0, 0),
        }
    }

    /// Says something once.
    pub(crate) fn say(&mut self, line: &str) {
        match &self.terminal {
            None if self.is_quiet => {}
            None => println!("{line}"),
            Some(_) => {
                self.said.push_back(line.to_owned());
                if self.said.len() > SAID {
                    self.said.pop_front();
                }
            }
        }
    }

    /// Shows how it goes.
    pub(crate) fn draw(&mut self, view: &View<'_>) {
        self.tell_faults(view);
        match &mut self.terminal {
            Some(terminal) => {
                let said = &self.said;
                // A terminal that cannot be drawn to shows what it can.
                let _ = terminal.draw(|frame| picture(frame, view, said));
            }
            None => self.line(view),
        }
    }

    /// Says which faults have begun and are over since the last time.
    fn tell_faults(&mut self, view: &View<'_>) {
        let now = view.elapsed.as_secs_f64();
        let begun: Vec<&FaultMark> = view.faults.iter().filter(|it| it.begins_s <= now).collect();
        let mut lines = Vec::new();
        for mark in begun.iter().skip(self.told.0) {
            lines.push(match &mark.not_possible {
                Some(reason) => format!("{:7.1} s  not possible: {}: {reason}", now, mark.name),
                None => format!("{:7.1} s  {}", mark.begins_s, mark.name),
            });
        }
        let over: Vec<&&FaultMark> = begun.iter().filter(|it| it.whole_s.is_some()).collect();
        for mark in over.iter().skip(self.told.1) {
            let whole = mark.whole_s.unwrap_or_default();
            let at = mark.ends_s.unwrap_or_default() + whole;
            lines.push(format!(
                "{at:7.1} s  whole again, {whole:.1} s after the end of: {}",
                mark.name
            ));
        }
        self.told = (begun.len(), over.len());
        lines.iter().for_each(|line| self.say(line));
    }

    fn line(&mut self, view: &View<'_>) {
        if self.is_quiet || view.elapsed < self.next || view.elapsed > view.total() {
            return;
        }
        self.next = view.elapsed + self.every;
        let Some(point) = view.collected.latest(2).first().copied() else { return };
        let phase = view.phase().map(ToString::to_string).unwrap_or_default();
        let Point { rate, errors, p50_ms, p99_ms, .. } = point;
        let line = format!(
            "{:7.1} s  {rate:8.1}/s  p50 {p50_ms:8.2} ms  p99 {p99_ms:8.2} ms  errors {errors:.1}/s  \
             {phase}",
            view.elapsed.as_secs_f64(),
        );
        self.say(&line);
    }

    /// Gives the terminal back.
    pub(crate) fn end(&mut self) {
        if self.terminal.take().is_some() {
            // What cannot be given back is given back by the shell.
            let _ = leave();
            self.said.iter().for_each(|line| println!("{line}"));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.end();
    }
}

fn leave() -> io::Result<()> {
    execute!(stdout(), LeaveAlternateScreen, Show)
}

/// Draws everything.
fn picture(frame: &mut ratatui::Frame<'_>, view: &View<'_>, said: &VecDeque<String>) {
    let targets = u16::try_from(view.scenario.targets.len()).unwrap_or(8);
    let [head, lines, table, faults, last] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(7),
        Constraint::Length(targets + 4),
        Constraint::Length(7),
        Constraint::Length(u16::try_from(SAID).unwrap_or(6) + 2),
    ])
    .areas(frame.area());
    let total = view.total().as_secs_f64();
    let share = (view.elapsed.as_secs_f64() / total).clamp(0.0, 1.0);
    let phase = view.phase().map_or_else(|| "answers".to_owned(), ToString::to_string);
    let gauge = Gauge::default()
        .block(Block::bordered().title(format!(" {} ", view.scenario.name).bold()))
        .gauge_style(Style::new().fg(Color::Blue))
        .ratio(share)
        .label(format!(
            "{:.0} of {total:.0} s   {phase}   largest node {}",
            view.elapsed.as_secs_f64(),
            ByteSize(view.memory).rounded()
        ));
    frame.render_widget(gauge, head);
    curves(frame, view, lines);
    frame.render_widget(grid(view), table);
    let marks = view.faults.iter().rev().filter(|it| it.begins_s <= view.elapsed.as_secs_f64());
    let marks = marks.take(5).map(|mark| {
        let state = match (&mark.not_possible, mark.ends_s, mark.whole_s) {
            (Some(reason), ..) => format!("not possible: {reason}").dim(),
            (None, None, _) => "goes on".to_owned().red(),
            (None, Some(_), None) => "is over".to_owned().yellow(),
            (None, Some(_), Some(whole)) => format!("whole after {whole:.1} s").green(),
        };
        let name = format!("{:7.1} s  {}  ", mark.begins_s, mark.name);
        Line::from_iter([name.into(), state])
    });
    let block = Block::bordered().title(" faults ");
    frame.render_widget(Paragraph::new(marks.collect::<Vec<_>>()).block(block), faults);
    let found = match view.found.len() {
        0 => " nothing found wrong ".to_owned().green(),
        count => format!(" {count} FOUND WRONG ").red().bold(),
    };
    let said: Vec<Line<'_>> = said.iter().map(|line| Line::from(line.as_str())).collect();
    frame.render_widget(Paragraph::new(said).block(Block::bordered().title(found)), last);
}

/// The rate and the p99 of the latest time.
fn curves(frame: &mut ratatui::Frame<'_>, view: &View<'_>, area: Rect) {
    let [rates, times] = Layout::horizontal([Constraint::Fill(1); 2]).areas(area);
    let most = usize::from(rates.width.saturating_sub(2)).max(1);
    let points = view.collected.latest(most);
    // The last second is not over.
    let points = points.get(..points.len().saturating_sub(1)).unwrap_or_default();
    let last = points.last().copied().unwrap_or_default();
    let curve = |title: String, color: Color, of: fn(&Point) -> f64| {
        Sparkline::default()
            .block(Block::bordered().title(title))
            .style(Style::new().fg(color))
            .data(points.iter().map(|point| of(point).max(0.0) as u64).collect::<Vec<_>>())
    };
    let rate = format!(" {:.0} answers/s, {:.1} errors/s ", last.rate, last.errors);
    frame.render_widget(curve(rate, Color::Green, |point| point.rate), rates);
    let p99 = format!(" p99 {:.2} ms, p50 {:.2} ms ", last.p99_ms, last.p50_ms);
    // In microseconds, so that there is something to see below a millisecond.
    frame.render_widget(curve(p99, Color::Yellow, |point| point.p99_ms * 1e3), times);
}

fn grid(view: &View<'_>) -> Grid<'static> {
    let seconds = view.elapsed.as_secs_f64().max(0.001);
    let all = view.collected.whole.all();
    let each = view.scenario.targets.keys().zip(&view.collected.whole.targets);
    let rows = each
        .map(|(name, counts)| (name.clone(), counts))
        .chain(std::iter::once(("all".to_owned(), &all)))
        .map(|(name, counts)| Row::new(cells(name, counts, seconds)));
    let header = ["target", "sent", "answers/s", "errors", "dropped", "late", "p50", "p99", "max"];
    let widths = [Constraint::Fill(2)].into_iter().chain([Constraint::Fill(1); 8]);
    Grid::new(rows.collect::<Vec<_>>(), widths)
        .header(Row::new(header).bold())
        .block(Block::bordered().title(" targets "))
}

fn cells(name: String, counts: &Counts, seconds: f64) -> [String; 9] {
    let millis = |micros: u64| format!("{:.2} ms", micros as f64 / 1_000.0);
    [
        name,
        counts.sent.to_string(),
        format!("{:.1}", counts.answered as f64 / seconds),
        format!("{:.2} %", counts.error_percent()),
        counts.dropped.to_string(),
        counts.late.to_string(),
        millis(counts.times.percentile(50.0)),
        millis(counts.times.percentile(99.0)),
        millis(counts.times.longest()),
    ]
}

/// Prints what a run came to.
pub(crate) fn conclude(outcome: &Outcome, report: &Path) {
    println!("{}", Told(outcome));
    println!("report: {}", report.display());
}

/// An outcome as tables.
struct Told<'a>(&'a Outcome);

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(header);
    table
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let it = self.0;
        let time = format_duration(Duration::from_secs_f64(it.seconds));
        writeln!(
            f,
            "\n{}: {time} on {} nodes ({}), seed {}, {} loop",
            it.scenario,
            it.cluster.nodes.len(),
            it.cluster.place,
            it.seed,
            it.load
        )?;
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
        let generators = &it.generators;
        writeln!(
            f,
            "{} generators: sends late by p50 {} µs, p99 {} µs, max {} µs; busiest {:.0} % of a CPU",
            generators.processes,
            generators.late_p50_us,
            generators.late_p99_us,
            generators.late_max_us,
            generators.busiest_percent
        )?;
        if let Some(bottleneck) = &generators.bottleneck {
            writeln!(f, "THE GENERATOR IS A LIMIT: {bottleneck}")?;
        }
        if it.lost_with_a_node > 0 {
            let lost = it.lost_with_a_node;
            writeln!(
                f,
                "{lost} messages that were told were lost with a node or a link, as may be"
            )?;
        }
        write!(f, "{}", if it.pass { "PASS" } else { "BREACHED" })
    }
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

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::scenario::library;
    use crate::scenario::measure::Second;
    use crate::scenario::read::parse;

    #[test]
    fn the_picture_shows_targets_rates_faults_and_what_was_found() {
        let scenario = parse("chaos", library::text("chaos").unwrap()).unwrap();
        let mut collected = Collected::new(180, scenario.targets.len());
        for number in 0..40 {
            let mut second = Second::of(scenario.targets.len());
            let calls = &mut second.targets[1];
            (calls.sent, calls.answered) = (77, 77);
            (0..77).for_each(|n| calls.times.record(1_000 + 10 * n));
            collected.take(number, &second);
        }
        let mark = FaultMark {
            name: "kill -9 of n2".to_owned(),
            begins_s: 15.0,
            ends_s: Some(20.0),
            whole_s: Some(1.5),
            not_possible: None,
        };
        let view = View {
            scenario: &scenario,
            elapsed: Duration::from_secs(40),
            collected: &collected,
            faults: &[mark],
            found: &[],
            memory: 200 << 20,
        };
        let mut terminal = Terminal::new(TestBackend::new(120, 45)).unwrap();
        let said = VecDeque::from(["starting 3 nodes".to_owned()]);
        terminal.draw(|frame| picture(frame, &view, &said)).unwrap();
        let text = terminal.backend().to_string();
        for expected in [
            "hold 150/s for 2m 50s",
            "77 answers/s",
            "calls",
            "3080",
            "kill -9 of n2  whole after 1.5 s",
            "nothing found wrong",
            "starting 3 nodes",
            "largest node 200.0 MiB",
        ] {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
    }
}
