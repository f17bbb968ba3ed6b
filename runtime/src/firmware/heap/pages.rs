//! Which pages of a memory have changed since they were sent.

use std::ops::Range;

/// A page as it is compared and sent, in bytes: as the processor's, so that what was never used
/// stays unused.
pub(super) const PAGE: usize = 4 << 10;

/// How much of a memory is looked at at a time, in bytes: about a millisecond, in which its guest
/// handles nothing.
pub(super) const SLICE: usize = 1 << 20;

/// What was sent of a memory.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// As it was when it was sent. What was not sent yet is not in it.
    sent: Vec<u8>,
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
    /// What has changed in `range` of `memory`, which is noted as sent. Ranges are asked for in
    /// order from the first byte, and begin at pages.
    pub(super) fn changed(&mut self, memory: &[u8], range: Range<usize>) -> Changed {
        let mut changed = Changed::default();
        let known = self.sent.len();
        if range.end > known {
            // What is zero stays memory that the system has not given yet.
            self.sent.resize(range.end, 0);
        }
        for start in range.clone().step_by(PAGE) {
            let end = range.end.min(start + PAGE);
            let page = &memory[start..end];
            let sent = &mut self.sent[start..end];
            let was_sent = end <= known;
            if was_sent && *sent == *page {
                continue;
            }
            // At most 2^20 of them: a memory has 4 GiB.
            let number = u32::try_from(start / PAGE).unwrap_or(u32::MAX);
            if is_zero(page) {
                extend(&mut changed.zero, number);
                if was_sent {
                    sent.fill(0);
                }
            } else {
                extend(&mut changed.full, number);
                changed.data.extend_from_slice(page);
                sent.copy_from_slice(page);
            }
        }
        changed
    }
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
