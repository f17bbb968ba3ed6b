//! Which pages of a memory have changed since they were sent.

use std::ops::Range;

use super::written::Written;

/// A page as it is compared and sent, in bytes: as the processor's, so that what was never used
/// stays unused.
pub(super) const PAGE: usize = 4 << 10;

/// How much of a memory is looked at at a time, in bytes: less than a millisecond, in which its guest
/// handles nothing.
pub(super) const SLICE: usize = 1 << 20;

/// What was sent of a memory.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// How much of each slice, in bytes from the slice's beginning.
    sent: Vec<usize>,
    means: Means,
}

/// How it is known what has changed since.
#[derive(Debug, Default)]
enum Means {
    /// Nothing is known of it.
    #[default]
    None,
    /// The kernel notes what is written to.
    Noted(Written),
    /// What was sent is kept as it was, and compared.
    Compared(Vec<u8>),
}

/// What has changed in a range of a memory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Pages with their bytes in `data`: the first one and how many.
    pub(super) full: Vec<(u32, u32)>,
    /// Pages that are zero: the first one and how many.
    pub(super) zero: Vec<(u32, u32)>,
    /// The bytes of the full ones.
    pub(super) data: Vec<u8>,
}

impl Copying {
    /// One that asks nothing of the kernel.
    #[cfg(test)]
    pub(super) fn comparing() -> Self {
        Self { sent: Vec::new(), means: Means::Compared(Vec::new()) }
    }

    /// The slices of a memory of so many bytes.
    pub(super) fn slices(length: usize) -> usize {
        length.div_ceil(SLICE)
    }

    /// What has changed in a slice of `memory` since that was sent, which it is now. When it is the
    /// `last` time that all slices are asked for, the memory must not change any more.
    pub(super) fn changed(&mut self, memory: &[u8], slice: usize, last: bool) -> Changed {
        self.prepare(memory, last);
        if self.sent.len() <= slice {
            self.sent.resize(slice + 1, 0);
        }
        let begin = slice * SLICE;
        let end = memory.len().min(begin + SLICE);
        // A page that has grown is a new one.
        let sent = begin + self.sent[slice] / PAGE * PAGE;
        let (known, new) = (begin..sent, sent..end);
        self.sent[slice] = end - begin;
        let mut changed = Changed::default();
        // With room for what says which pages they are.
        changed.data.reserve(new.len() + PAGE);
        match &mut self.means {
            Means::None => changed.add(memory, known),
            Means::Noted(written) => match written.take(known.clone()) {
                Ok(runs) => runs.into_iter().for_each(|run| changed.add(memory, run)),
                // More than has changed does no harm.
                Err(_) => changed.add(memory, known),
            },
            Means::Compared(kept) => {
                for page in pages(known) {
                    if kept[page.clone()] != memory[page.clone()] {
                        changed.add(memory, page);
                    }
                }
            }
        }
        changed.add(memory, new);
        if let (Means::Compared(kept), false) = (&mut self.means, last) {
            changed.keep(memory, kept);
        }
        changed
    }

    /// Sees to it that what changes from now on is known, before anything is read.
    fn prepare(&mut self, memory: &[u8], last: bool) {
        let is_known = match &mut self.means {
            Means::None => last,
            Means::Noted(it) => it.is_of(memory) && (last || it.watch_all(memory).is_ok()),
            Means::Compared(kept) => {
                if !last && kept.len() < memory.len() {
                    kept.resize(memory.len(), 0);
                }
                true
            }
        };
        if !is_known {
            // All of it is sent again, if any of it was.
            self.sent.clear();
            let noted = match self.means {
                Means::None => Written::watch(memory).ok().map(Means::Noted),
                Means::Noted(_) | Means::Compared(_) => None,
            };
            self.means = match noted {
                _ if last => Means::None,
                Some(noted) => noted,
                // Of zeros that are not written to the system makes no memory.
                None => Means::Compared(vec![0; memory.len()]),
            };
        }
    }
}

impl Changed {
    /// Adds pages.
    fn add(&mut self, memory: &[u8], range: Range<usize>) {
        for page in pages(range) {
            // At most 2^20 of them: a memory has 4 GiB.
            let number = u32::try_from(page.start / PAGE).unwrap_or(u32::MAX);
            let bytes = &memory[page];
            if is_zero(bytes) {
                extend(&mut self.zero, number);
            } else {
                extend(&mut self.full, number);
                self.data.extend_from_slice(bytes);
            }
        }
    }

    /// Has `kept` be as the memory is in these pages.
    fn keep(&self, memory: &[u8], kept: &mut [u8]) {
        let range = |(first, count): (u32, u32)| {
            let begin = first as usize * PAGE;
            begin..memory.len().min(begin + count as usize * PAGE)
        };
        for run in self.full.iter().copied().map(range) {
            kept[run.clone()].copy_from_slice(&memory[run]);
        }
        for page in self.zero.iter().copied().map(range).flat_map(pages) {
            if !is_zero(&kept[page.clone()]) {
                kept[page].fill(0);
            }
        }
    }
}

/// The pages of a range that begins with one.
fn pages(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    range.clone().step_by(PAGE).map(move |start| start..range.end.min(start + PAGE))
}

/// Adds a page to the last run, or begins another one.
fn extend(runs: &mut Vec<(u32, u32)>, page: u32) {
    match runs.last_mut() {
        Some((first, count)) if *first + *count == page => *count += 1,
        _ => runs.push((page, 1)),
    }
}

/// Whether all bytes are zero.
pub(super) fn is_zero(page: &[u8]) -> bool {
    static ZERO: [u8; PAGE] = [0; PAGE];
    ZERO.get(..page.len()).is_some_and(|zero| zero == page)
}
