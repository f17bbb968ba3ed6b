//! What a person sees of the demo: acts, lines with the time they were said at, and on a terminal
//! one moving line at the bottom.
//!
//! Colour and movement only on a terminal; elsewhere the same words as plain lines.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::UTF8_BORDERS_ONLY};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use odeum_proto::NodeId;

use super::{DemoError, fleet::Reachable, report::Summary, traffic::SESSION};

/// How often the moving line moves by itself.
const TICK: Duration = Duration::from_millis(100);

const TITLE: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green)));
const BAD: Style = Style::new().bold().fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red)));

/// Where the story goes.
enum Voice {
    /// To a terminal, with a moving line.
    Live(ProgressBar),
    /// To a file or a pipe.
    Lines,
    /// Nowhere: one of many runs.
    Silent,
}

/// The telling of one demo.
pub(super) struct Story {
    voice: Voice,
    colour: bool,
    started: Instant,
    act: &'static str,
}

impl Story {
    /// A story told on stdout.
    pub(super) fn aloud() -> Self {
        let stdout = io::stdout();
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        if !stdout.is_terminal() || dumb {
            return Self { voice: Voice::Lines, ..Self::silent() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        // A template that does not parse leaves the default one, which shows the same.
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        let colour = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        Self { voice: Voice::Live(bar), colour, ..Self::silent() }
    }

    /// A story that is not told.
    pub(super) fn silent() -> Self {
        Self { voice: Voice::Silent, colour: false, started: Instant::now(), act: "preparation" }
    }

    /// Time since its beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A heading before the first act.
    pub(super) fn open(&self, title: &str) {
        self.line(&self.paint(TITLE, title));
    }

    /// The next act begins.
    pub(super) fn act(&mut self, number: usize, title: &'static str) {
        self.act = title;
        self.line("");
        self.line(&self.paint(TITLE, format!("{number}. {title}")));
    }

    /// Something happened.
    pub(super) fn say(&self, text: impl Display) {
        let at = format!("{:>6.2} s", self.elapsed().as_secs_f64());
        self.line(&format!("{}  {}", self.paint(FAINT, at), one_line(&text.to_string())));
    }

    /// Something is happening: the moving line, nothing elsewhere.
    pub(super) fn progress(&self, text: impl Display) {
        if let Voice::Live(bar) = &self.voice {
            bar.set_message(one_line(&text.to_string()));
        }
    }

    /// The summary at the end.
    pub(super) fn summary(&self, summary: &Summary) {
        self.quiet();
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY).set_header(["what", "result", "wanted"]);
        table.add_rows(summary.rows());
        self.line("");
        for line in table.lines() {
            self.line(&line);
        }
        let (style, word) = if summary.is_good() { (GOOD, "passed") } else { (BAD, "failed") };
        self.line(&format!("{}: {}", self.paint(style, word), summary.in_short()));
    }

    /// A line as it is.
    pub(super) fn line(&self, text: &str) {
        match &self.voice {
            // A bar prints nothing for an empty text.
            Voice::Live(bar) if bar.is_finished() => to_stdout(text),
            Voice::Live(bar) if text.is_empty() => bar.println(" "),
            Voice::Live(bar) => bar.println(text),
            Voice::Lines => to_stdout(text),
            Voice::Silent => {}
        }
    }

    /// Takes the moving line away.
    pub(super) fn quiet(&self) {
        if let Voice::Live(bar) = &self.voice {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
    }

    /// The cluster goes on: how to reach it and how to end it.
    pub(super) fn reachable(&self, nodes: &[(NodeId, Reachable)], folder: &Path) {
        self.line("\nThe cluster goes on running. Its nodes:");
        for (id, node) in nodes {
            self.line(&format!("  {id}  process {}  http://{}", node.pid, node.api));
        }
        let Some((_, first)) = nodes.first() else { return };
        let pids: Vec<_> = nodes.iter().map(|(_, node)| node.pid.to_string()).collect();
        self.line("Try:");
        self.line(&format!("  export ODEUM_API=http://{}", first.api));
        self.line("  odeum get nodes");
        self.line("  odeum get actors --tree");
        self.line(&format!("  odeum call counter \"add 1\" --session {SESSION}"));
        self.line("To end it:");
        self.line(&format!("  kill {}; rm -r {}", pids.join(" "), folder.display()));
    }

    /// The folder of a demo that failed was to be kept.
    pub(super) fn kept(&self, folder: &Path) {
        self.line(&format!(
            "The nodes are stopped; their data and logs are in {}",
            folder.display()
        ));
    }

    /// It was asked to end early.
    pub(super) fn interrupted(&self) {
        self.quiet();
        self.line("interrupted; stopping the nodes and removing their data");
    }

    /// It ended early: what failed, in which act, and the last words of the node at fault.
    pub(super) fn failed(&self, error: &DemoError, log: Option<(PathBuf, Vec<String>)>) {
        self.quiet();
        let stderr = io::stderr();
        let style = if stderr.is_terminal() { BAD } else { Style::new() };
        let mut text = format!("{style}failed{style:#} in {:?}: {error}\n", self.act);
        if let Some((path, lines)) = log {
            text.push_str(&format!("the last lines of {}:\n", path.display()));
            for line in lines {
                text.push_str(&format!("  | {}\n", one_line(&line)));
            }
        }
        // With stderr closed there is nobody left to tell.
        let _ = stderr.lock().write_all(text.as_bytes());
    }

    fn paint(&self, style: Style, text: impl Display) -> String {
        if self.colour { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}

/// `text` without line breaks and control characters: what a guest or a log says must not steer
/// the terminal.
fn one_line(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Prints a line. A reader that has gone away, such as `head`, is no reason to leave a cluster
/// behind: the demo goes on to its end.
pub(super) fn to_stdout(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
