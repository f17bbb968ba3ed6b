//! The picture of a run that goes on.

use std::collections::VecDeque;

use odeum_runtime::config::ByteSize;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::Line;
use ratatui::widgets::{Block, Gauge, Paragraph, Row, Sparkline, Table as Grid};

use super::{SAID, View};
use crate::scenario::collect::Point;
use crate::scenario::measure::Counts;

/// Draws everything.
pub(super) fn picture(frame: &mut ratatui::Frame<'_>, view: &View<'_>, said: &VecDeque<String>) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::scenario::collect::Collected;
    use crate::scenario::library;
    use crate::scenario::measure::Second;
    use crate::scenario::outcome::FaultMark;
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
