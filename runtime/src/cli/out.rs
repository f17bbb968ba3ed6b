//! The one place that prints: results to stdout, complaints and notes to stderr.

use std::{
    fmt::Display,
    io::{self, ErrorKind, IsTerminal, Write},
};

use anstyle::{AnsiColor, Style};
use comfy_table::{Table, presets::NOTHING};
use serde::Serialize;

use super::error::CliError;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns, for people
    Table,
    /// JSON, for machines
    Json,
}

/// Where a command prints to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    format: OutputFormat,
}

impl Out {
    pub(crate) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// Prints `value` as JSON, or in the words that `text` finds for it.
    pub(crate) fn result<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        match self.format {
            OutputFormat::Json => print(serde_json::to_string_pretty(value)?.as_bytes()),
            OutputFormat::Table => print(text(value).as_bytes()),
        }
    }

    /// Prints `value` as JSON, or `bytes` as they are.
    pub(crate) fn reply<T: Serialize>(self, value: &T, bytes: &[u8]) -> Result<(), CliError> {
        match self.format {
            OutputFormat::Json => print(serde_json::to_string_pretty(value)?.as_bytes()),
            OutputFormat::Table => print(bytes),
        }
    }

    /// Prints one of many values: as a line of JSON, or as a text, if it has one for people. Whether
    /// anybody still reads.
    pub(crate) fn line<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> Option<String>,
    ) -> Result<bool, CliError> {
        let line = match self.format {
            OutputFormat::Json => serde_json::to_string(value)?,
            OutputFormat::Table => match text(value) {
                Some(text) => text.lines().map(single_line).collect::<Vec<_>>().join("\n"),
                None => return Ok(true),
            },
        };
        print_to(line.as_bytes())
    }

    /// Prints a text that is only for people.
    pub(crate) fn text(self, text: &str) -> Result<(), CliError> {
        print(text.as_bytes())
    }

    /// Whether people read the result.
    pub(crate) fn is_table(self) -> bool {
        self.format == OutputFormat::Table
    }

    /// A remark for people, on stderr, so that it never gets into a pipe.
    pub(crate) fn note(self, text: &str) {
        if self.is_table() {
            to_stderr(&single_line(text));
        }
    }

    /// What went wrong, on one line of stderr.
    pub(crate) fn complain(self, error: &CliError) {
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let style = if io::stderr().is_terminal() { red } else { Style::new() };
        to_stderr(&format!("{style}error:{style:#} {}", single_line(&error.to_string())));
    }
}

/// Columns under a heading, without lines or colours. A cell that is `None` shows as a dash.
pub(crate) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [Option<String>; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heading);
    for row in rows {
        table.add_row(row.map(|cell| cell.map_or_else(|| "-".to_owned(), |c| single_line(&c))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// A filled cell.
pub(crate) fn cell(value: impl Display) -> Option<String> {
    Some(value.to_string())
}

/// `text` without line breaks and control characters: what comes from a node may be a guest's own
/// words, and must neither break a table nor steer a terminal.
pub(crate) fn single_line(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim_end().chars().map(plain).collect()
}

/// Writes to stdout and ends a text by a newline. Bytes that are no text stay as they are.
fn print(bytes: &[u8]) -> Result<(), CliError> {
    print_to(bytes).map(drop)
}

/// As [`print`]; whether anybody reads it.
fn print_to(bytes: &[u8]) -> Result<bool, CliError> {
    let mut stdout = io::stdout().lock();
    let newline: &[u8] =
        if bytes.ends_with(b"\n") || std::str::from_utf8(bytes).is_err() { b"" } else { b"\n" };
    let written = stdout
        .write_all(bytes)
        .and_then(|()| stdout.write_all(newline))
        .and_then(|()| stdout.flush());
    match written {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

fn to_stderr(line: &str) {
    // With stderr closed there is nobody left to tell.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_aligned_columns_without_trailing_spaces() {
        let rows = [[cell("n1"), cell("alive")], [cell("longer-name"), None]];
        let table = table(["ID", "STATE"], rows);
        assert_eq!(table, "ID           STATE\nn1           alive\nlonger-name  -");
    }

    #[test]
    fn what_a_guest_says_cannot_break_the_table_or_steer_the_terminal() {
        let table = table(["ERROR"], [[cell("trap\n\x1b[2Jat 0x41")]]);
        assert_eq!(table, "ERROR\ntrap  [2Jat 0x41");
    }
}
