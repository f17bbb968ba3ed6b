//! By how much the memory of a process grows while it does the same all the time: from the second fifth of
//! that time, when it has what it keeps, to the last one, by the medians of both, which what comes and goes
//! does not move.
//!
//! Pure. It keeps eight bytes of each look in these two fifths.

/// Parts of the time.
const PARTS: f64 = 5.0;

/// Looks at the memory of a process, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    second: Vec<u64>,
    last: Vec<u64>,
}

impl Growth {
    /// Takes a look, after that share of the time: 0 at its beginning, 1 at its end. Later ones, of what
    /// goes on after it, do not count.
    pub(crate) fn take(&mut self, share: f64, bytes: u64) {
        let part = share * PARTS;
        if (1.0..2.0).contains(&part) {
            self.second.push(bytes);
        } else if (PARTS - 1.0..PARTS).contains(&part) {
            self.last.push(bytes);
        }
    }

    /// By how many bytes it has grown; `None` when nobody has looked in one of the two.
    pub(crate) fn bytes(&self) -> Option<u64> {
        Some(median(&self.last)?.saturating_sub(median(&self.second)?))
    }
}

/// The middle value; the upper of two.
fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of so many looks at even times, of which `bytes` says what each saw.
    fn growth(looks: u32, bytes: impl Fn(u32) -> u64) -> Option<u64> {
        let mut growth = Growth::default();
        for look in 0..looks {
            growth.take(f64::from(look) / f64::from(looks), bytes(look));
        }
        growth.bytes()
    }

    #[test]
    fn what_is_taken_at_the_beginning_is_no_growth() {
        assert_eq!(growth(100, |look| if look < 20 { u64::from(look) } else { 50 }), Some(0));
    }

    #[test]
    fn what_leaks_all_the_time_is_found() {
        // From the middle of the second fifth to that of the last: three fifths of the time.
        assert_eq!(growth(100, |look| 1_000 + 10 * u64::from(look)), Some(600));
    }

    #[test]
    fn what_comes_and_goes_is_no_growth() {
        assert_eq!(growth(100, |look| if look % 5 == 4 { 900 } else { 50 }), Some(0));
        assert_eq!(growth(100, |look| 1_000 - u64::from(look)), Some(0));
    }

    #[test]
    fn nobody_knows_of_what_was_not_looked_at() {
        assert_eq!(growth(2, |_| 1), None);
        let mut growth = Growth::default();
        growth.take(0.3, 1);
        growth.take(1.2, 9);
        assert_eq!(growth.bytes(), None);
    }
}
