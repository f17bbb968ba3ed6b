//! What a run shows while it goes on: a picture where the output is a terminal, lines elsewhere; and its
//! verdict at the end.
#![expect(clippy::print_stdout, reason = "this is what the command line prints")]

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IsTerminal as _, Stdout, stdout};
use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};

use super::collect::{Collected, Point};
use super::lasts;
use super::outcome::{FaultMark, Outcome};
use super::protocol::Found;
use super::schedule::Segment;
use super::spec::{Phase, Scenario};

mod picture;
mod told;

use self::picture::picture;
use self::told::Told;

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

/// Prints what a run came to.
pub(crate) fn conclude(outcome: &Outcome, report: &Path) {
    println!("{}", Told(outcome));
    println!("report: {}", report.display());
}
