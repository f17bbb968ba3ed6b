//! What a guest writes to its standard output and error, as lines of the node's log.
//!
//! Bounded in every direction: a line is cut, the lines and bytes of a second are counted and the
//! rest of them is dropped, and how many were is said. A guest that floods its output costs the node
//! a bounded amount of log and no memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use odeum_proto::chronicle;

use super::{
    chronicle::GuestLog,
    effect::{self, LOG_LINE_BYTES, emit_from},
};

/// Lines of one second. Enough for a program that reports its progress, a thousandth of what a loop
/// would write.
const LINES: u32 = 256;

/// The time in which lines and bytes are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Cuts bytes into lines.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a line whose end has not come, at most [`LOG_LINE_BYTES`].
    partial: Vec<u8>,
}

impl Lines {
    /// Gives `line` each line that `bytes` end, without its end. What is longer than
    /// [`LOG_LINE_BYTES`] is cut there.
    fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end]);
            line(self.partial.strip_suffix(b"\r").unwrap_or(&self.partial));
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// What was written without an end.
    fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            line(&self.partial);
            self.partial.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LOG_LINE_BYTES.saturating_sub(self.partial.len());
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// What may be logged in a second, and what was.
#[derive(Debug)]
struct Budget {
    allowed_bytes: u64,
    /// When the present window began; `None` before the first line.
    began: Option<Instant>,
    lines: u32,
    bytes: u64,
    dropped: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is logged, after it is said that so many were dropped.
    Log {
        dropped: u64,
    },
    Drop,
}

impl Budget {
    fn new(allowed_bytes: u64) -> Self {
        Self { allowed_bytes, began: None, lines: 0, bytes: 0, dropped: 0 }
    }

    fn judge(&mut self, len: usize, now: Instant) -> Verdict {
        if self.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            (self.began, self.lines, self.bytes) = (Some(now), 0, 0);
        }
        self.lines = self.lines.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len as u64);
        if self.lines > LINES || self.bytes > self.allowed_bytes {
            self.dropped += 1;
            return Verdict::Drop;
        }
        Verdict::Log { dropped: std::mem::take(&mut self.dropped) }
    }
}

/// Both outputs of one instance, which share one budget. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Output {
    log: GuestLog,
    budget: Arc<Mutex<Budget>>,
}

impl Output {
    /// `allowed_bytes` of a second are logged.
    pub(super) fn new(log: GuestLog, allowed_bytes: u64) -> Self {
        Self { log, budget: Arc::new(Mutex::new(Budget::new(allowed_bytes))) }
    }

    fn line(&self, stream: Stream, line: &[u8]) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        match budget.judge(line.len(), Instant::now()) {
            Verdict::Drop => {}
            Verdict::Log { dropped } => {
                self.say_dropped(dropped);
                emit_from(&self.log, stream.into(), line);
            }
        }
    }

    fn say_dropped(&self, dropped: u64) {
        if dropped > 0 {
            tracing::warn!(firmware = %self.log.firmware(), dropped, "guest log lines dropped");
            effect::say_dropped(&self.log, dropped);
        }
    }
}

/// One of a guest's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl From<Stream> for chronicle::Stream {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// What takes the bytes of one output. Its end ends the last line.
#[derive(Debug)]
pub(super) struct Sink {
    output: Output,
    stream: Stream,
    lines: Lines,
}

impl Sink {
    pub(super) fn new(output: Output, stream: Stream) -> Self {
        Self { output, stream, lines: Lines::default() }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        let (output, stream) = (&self.output, self.stream);
        self.lines.feed(bytes, |line| output.line(stream, line));
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let (output, stream) = (&self.output, self.stream);
        self.lines.finish(|line| output.line(stream, line));
        let mut budget = self.output.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut budget.dropped);
        self.output.say_dropped(dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, |line| all.push(line.to_vec()));
        }
        lines.finish(|line| all.push(line.to_vec()));
        all
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let whole = lines_of(&[b"one\r\ntwo\n\nthree"]);
        assert_eq!(whole, [&b"one"[..], b"two", b"", b"three"]);
        let bytes: Vec<&[u8]> = b"one\r\ntwo\n\nthree".chunks(1).collect();
        assert_eq!(lines_of(&bytes), whole);
    }

    #[test]
    fn a_line_without_end_is_cut_and_costs_no_memory() {
        let mut lines = Lines::default();
        for _ in 0..10_000 {
            lines.feed(&[b'x'; 1_000], |_| panic!("no line has ended"));
        }
        assert!(lines.partial.capacity() <= 2 * LOG_LINE_BYTES);
        lines.feed(b"\nnext\n", |line| assert!([LOG_LINE_BYTES, 4].contains(&line.len())));
    }

    #[test]
    fn the_lines_of_a_second_are_bounded_and_the_next_second_says_how_many_were_dropped() {
        let (mut budget, start) = (Budget::new(1 << 20), Instant::now());
        for _ in 0..LINES {
            assert_eq!(budget.judge(1, start), Verdict::Log { dropped: 0 });
        }
        for _ in 0..7 {
            assert_eq!(budget.judge(1, start), Verdict::Drop);
        }
        assert_eq!(budget.judge(1, start + WINDOW), Verdict::Log { dropped: 7 });
    }

    #[test]
    fn the_bytes_of_a_second_are_bounded() {
        let (mut budget, start) = (Budget::new(10), Instant::now());
        assert_eq!(budget.judge(10, start), Verdict::Log { dropped: 0 });
        assert_eq!(budget.judge(1, start), Verdict::Drop);
        assert_eq!(budget.judge(10, start + WINDOW), Verdict::Log { dropped: 1 });
    }
}
