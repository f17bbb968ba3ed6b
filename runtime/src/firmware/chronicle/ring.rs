//! The last lines of one firmware, bounded in lines and bytes. Pure.

use std::collections::VecDeque;

use odeum_proto::chronicle::{ANSWER_BYTES, ANSWER_LINES, Begin, Line, Lines};

use super::LogBounds;

/// Numbered lines, of which the oldest make room.
#[derive(Debug)]
pub(super) struct Ring {
    id: u64,
    bounds: LogBounds,
    lines: VecDeque<Line>,
    /// Of their texts.
    bytes: usize,
    /// The number of the last line there ever was.
    last: u64,
}

impl Ring {
    pub(super) fn new(id: u64, bounds: LogBounds) -> Self {
        Self { id, bounds, lines: VecDeque::new(), bytes: 0, last: 0 }
    }

    /// One more line, which gets the next number.
    pub(super) fn push(&mut self, mut line: Line) {
        self.last += 1;
        line.number = self.last;
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > self.bounds.lines.max(1)
            || (self.bytes > self.bounds.bytes && self.lines.len() > 1)
        {
            if let Some(gone) = self.lines.pop_front() {
                self.bytes -= gone.text.len();
            }
        }
    }

    /// The first of the lines that are asked for, as many as an answer has room for.
    pub(super) fn read(&self, begin: Begin, now_ms: u64) -> Lines {
        let behind = match begin {
            Begin::Last { lines, within_ms } => {
                let oldest = within_ms.map_or(0, |within| now_ms.saturating_sub(within));
                let lines = usize::try_from(lines).unwrap_or(usize::MAX);
                let recent = self.lines.iter().rev().take(lines);
                let recent = recent.take_while(|line| line.at_ms >= oldest).count();
                // Numbers have no gaps.
                self.last - recent as u64
            }
            Begin::Behind { ring, number, .. } if ring == self.id => number.min(self.last),
            Begin::Behind { epoch, .. } => {
                let before = self.lines.iter().rev().find(|line| line.epoch <= epoch);
                before.map_or_else(|| self.first() - 1, |line| line.number)
            }
        };
        let missed = (self.first() - 1).saturating_sub(behind);
        let missed = if matches!(begin, Begin::Last { .. }) { 0 } else { missed };
        let (mut lines, mut bytes) = (Vec::new(), 0);
        for line in self.lines.iter().filter(|line| line.number > behind) {
            bytes += line.text.len();
            if lines.len() >= ANSWER_LINES || (bytes > ANSWER_BYTES && !lines.is_empty()) {
                break;
            }
            lines.push(line.clone());
        }
        let number = lines.last().map_or(behind.max(self.first() - 1), |line| line.number);
        Lines { ring: self.id, number, missed, lines }
    }

    /// The number of the first line that is still there, or of the next one.
    fn first(&self) -> u64 {
        self.lines.front().map_or(self.last + 1, |line| line.number)
    }
}

#[cfg(test)]
mod tests {
    use odeum_proto::{
        Epoch,
        chronicle::{Level, Stream},
    };
    use proptest::prelude::*;

    use super::*;

    fn line(at_ms: u64, epoch: u64, text: &str) -> Line {
        let (level, stream) = (Level::Info, Stream::Log);
        Line { number: 0, at_ms, epoch: Epoch(epoch), level, stream, text: text.to_owned() }
    }

    fn ring(lines: usize, bytes: usize) -> Ring {
        Ring::new(7, LogBounds { lines, bytes })
    }

    fn behind(ring: u64, number: u64, epoch: u64) -> Begin {
        Begin::Behind { ring, number, epoch: Epoch(epoch) }
    }

    fn numbers(lines: &Lines) -> Vec<u64> {
        lines.lines.iter().map(|line| line.number).collect()
    }

    #[test]
    fn the_last_lines_are_kept_and_those_that_went_are_counted() {
        let mut ring = ring(3, 1_000);
        for at in 1..=5 {
            ring.push(line(at, 1, "x"));
        }
        let all = ring.read(behind(7, 0, 0), 9);
        assert_eq!((numbers(&all), all.missed, all.number), (vec![3, 4, 5], 2, 5));
        let rest = ring.read(behind(7, 4, 0), 9);
        assert_eq!((numbers(&rest), rest.missed), (vec![5], 0));
        let none = ring.read(behind(7, 5, 0), 9);
        assert_eq!((numbers(&none), none.number), (vec![], 5));
    }

    #[test]
    fn bytes_are_bounded_and_a_line_that_has_more_stays_alone() {
        let mut ring = ring(100, 10);
        for text in ["1234", "5678", "90"] {
            ring.push(line(1, 1, text));
        }
        assert_eq!(numbers(&ring.read(behind(7, 0, 0), 9)), [1, 2, 3]);
        ring.push(line(1, 1, "a"));
        assert_eq!(numbers(&ring.read(behind(7, 0, 0), 9)), [2, 3, 4]);
        ring.push(line(1, 1, "more than ten bytes"));
        assert_eq!(numbers(&ring.read(behind(7, 0, 0), 9)), [5]);
    }

    #[test]
    fn the_last_are_told_by_number_and_by_age() {
        let mut ring = ring(100, 1_000);
        for at in 1..=10 {
            ring.push(line(at * 1_000, 1, "x"));
        }
        let last = |lines, within_ms| numbers(&ring.read(Begin::Last { lines, within_ms }, 10_000));
        assert_eq!(last(2, None), [9, 10]);
        assert_eq!(last(100, Some(3_000)), [7, 8, 9, 10]);
        assert_eq!(last(1, Some(3_000)), [10]);
        let none = ring.read(Begin::Last { lines: 0, within_ms: None }, 10_000);
        assert_eq!((numbers(&none), none.number, none.missed), (vec![], 10, 0));
    }

    #[test]
    fn who_knows_another_ring_gets_the_lines_of_later_activations() {
        let mut ring = ring(100, 1_000);
        for epoch in [3, 3, 8, 9] {
            ring.push(line(1, epoch, "x"));
        }
        assert_eq!(numbers(&ring.read(behind(99, 1_000, 3), 9)), [3, 4]);
        assert_eq!(numbers(&ring.read(behind(99, 1_000, 2), 9)), [1, 2, 3, 4]);
        assert_eq!(numbers(&ring.read(behind(0, 0, 9), 9)), [0; 0]);
    }

    #[test]
    fn an_answer_is_bounded_and_says_where_to_read_on() {
        let mut ring = ring(1_000, usize::MAX);
        let text = "x".repeat(ANSWER_BYTES / 3);
        for _ in 0..7 {
            ring.push(line(1, 1, &text));
        }
        let (mut seen, mut number) = (Vec::new(), 0);
        loop {
            let lines = ring.read(behind(7, number, 0), 9);
            if lines.lines.is_empty() {
                break;
            }
            assert!(lines.lines.len() <= 3);
            seen.extend(numbers(&lines));
            number = lines.number;
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn a_reader_sees_each_line_once_or_is_told_that_it_missed_it(
            turns in prop::collection::vec((0_u8..20, any::<bool>()), 1..50),
        ) {
            let mut ring = ring(8, 64);
            let (mut number, mut seen, mut missed) = (0, 0, 0);
            for (lines, reads) in turns {
                for _ in 0..lines {
                    ring.push(line(1, 1, "0123456789"));
                }
                if reads {
                    let got = ring.read(behind(7, number, 0), 1);
                    seen += got.lines.len() as u64;
                    missed += got.missed;
                    number = got.number;
                    prop_assert_eq!(seen + missed, number);
                }
            }
        }
    }
}
