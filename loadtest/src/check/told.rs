//! What a watch told, and whether it is what was acknowledged: every change once, in order, and none that
//! was refused or never asked for.
//!
//! Each value is written once. Pure; memory is bounded by what is under way.

use std::collections::{BTreeSet, HashMap};

/// Values of which is remembered that they were refused, or that nobody knows; the latest ones.
const REMEMBERED: usize = 100_000;

/// A change of a variable, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The group of sessions that has the order.
    pub(crate) group: String,
    /// Its place in that order.
    pub(crate) revision: u64,
    /// Its place among those of that revision.
    pub(crate) index: u32,
    /// The session.
    pub(crate) session: String,
    /// The version of the variable.
    pub(crate) version: u64,
    /// Its value.
    pub(crate) value: i64,
}

/// A write that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    /// The session.
    pub(crate) session: String,
    /// The version of the variable.
    pub(crate) version: u64,
    /// Its place in the order of its group.
    pub(crate) revision: u64,
}

impl Acknowledged {
    fn is(&self, change: &Change) -> bool {
        (&self.session, self.version, self.revision)
            == (&change.session, change.version, change.revision)
    }
}

/// What was told, and what was acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Up to where each group was told.
    last: HashMap<String, (u64, u32)>,
    /// Told, and not acknowledged so far.
    told: HashMap<i64, Change>,
    /// Acknowledged, and not told so far.
    acknowledged: HashMap<i64, Acknowledged>,
    refused: BTreeSet<i64>,
    unknown: BTreeSet<i64>,
    count: u64,
    lapses: u64,
}

impl Told {
    /// A change was told.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn told(&mut self, change: Change) -> Result<(), String> {
        let at = (change.revision, change.index);
        let last = self.last.insert(change.group.clone(), at);
        if let Some(last) = last
            && at <= last
        {
            return Err(format!("a watch told {change:?} after revision {last:?} of that group"));
        }
        self.count += 1;
        if self.refused.contains(&change.value) {
            return Err(format!("a write that was refused was told: {change:?}"));
        }
        if self.unknown.remove(&change.value) {
            return Ok(());
        }
        match self.acknowledged.remove(&change.value) {
            Some(acknowledged) if acknowledged.is(&change) => Ok(()),
            Some(acknowledged) => {
                Err(format!("{acknowledged:?} was acknowledged, and a watch told {change:?}"))
            }
            None => {
                self.told.insert(change.value, change);
                Ok(())
            }
        }
    }

    /// A write was acknowledged.
    ///
    /// # Errors
    /// If it was told otherwise.
    pub(crate) fn acknowledged(
        &mut self,
        value: i64,
        acknowledged: Acknowledged,
    ) -> Result<(), String> {
        match self.told.remove(&value) {
            Some(change) if acknowledged.is(&change) => Ok(()),
            Some(change) => {
                Err(format!("a watch told {change:?}, and {acknowledged:?} was acknowledged"))
            }
            None => {
                self.acknowledged.insert(value, acknowledged);
                Ok(())
            }
        }
    }

    /// A write was refused, and is never made.
    ///
    /// # Errors
    /// If it was told.
    pub(crate) fn refused(&mut self, value: i64) -> Result<(), String> {
        if let Some(change) = self.told.remove(&value) {
            return Err(format!("a watch told {change:?}, and the write was refused"));
        }
        remember(&mut self.refused, value);
        Ok(())
    }

    /// Nobody knows what came of a write.
    pub(crate) fn unknown(&mut self, value: i64) {
        if self.told.remove(&value).is_none() {
            remember(&mut self.unknown, value);
        }
    }

    /// The watch was away for so long that changes are not kept any more: what was acknowledged before
    /// cannot be held against it.
    pub(crate) fn lapsed(&mut self) {
        self.lapses += 1;
        self.acknowledged.clear();
        self.told.clear();
    }

    /// How many changes were told, and how often some were not kept.
    pub(crate) fn count(&self) -> (u64, u64) {
        (self.count, self.lapses)
    }

    /// One that was acknowledged and has not been told.
    pub(crate) fn missing(&self) -> Option<&Acknowledged> {
        self.acknowledged.values().min_by_key(|it| it.revision)
    }
}

/// Values grow, so that the first one is the oldest.
fn remember(values: &mut BTreeSet<i64>, value: i64) {
    values.insert(value);
    if values.len() > REMEMBERED {
        values.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, value: i64) -> Change {
        let session = format!("s{}", value % 2);
        Change { group: "data-0".into(), revision, index: 0, session, version: revision, value }
    }

    fn acknowledged(revision: u64, value: i64) -> Acknowledged {
        Acknowledged { session: format!("s{}", value % 2), version: revision, revision }
    }

    #[test]
    fn what_is_acknowledged_before_or_after_it_was_told_is_the_same() {
        let mut told = Told::default();
        told.acknowledged(1, acknowledged(5, 1)).unwrap();
        assert!(told.missing().is_some());
        told.told(change(5, 1)).unwrap();
        told.told(change(6, 2)).unwrap();
        told.acknowledged(2, acknowledged(6, 2)).unwrap();
        assert!(told.missing().is_none() && told.told.is_empty() && told.count() == (2, 0));
    }

    #[test]
    fn a_change_that_is_told_again_or_late_is_found() {
        let mut told = Told::default();
        told.told(change(5, 1)).unwrap();
        assert!(told.told(change(5, 1)).is_err());
        assert!(told.told(change(4, 3)).is_err());
        let other = Change { group: "data-1".into(), ..change(1, 4) };
        assert_eq!(told.told(other), Ok(()));
    }

    #[test]
    fn a_change_that_was_refused_is_found_whichever_comes_first() {
        let mut told = Told::default();
        told.refused(1).unwrap();
        assert!(told.told(change(5, 1)).is_err());
        told.told(change(6, 2)).unwrap();
        assert!(told.refused(2).is_err());
    }

    #[test]
    fn a_change_that_differs_from_what_was_acknowledged_is_found() {
        let mut told = Told::default();
        told.acknowledged(1, acknowledged(5, 1)).unwrap();
        assert!(told.told(change(6, 1)).is_err());
    }

    #[test]
    fn a_write_of_unknown_outcome_may_be_told_or_not() {
        let mut told = Told::default();
        told.unknown(1);
        told.told(change(5, 1)).unwrap();
        told.told(change(6, 2)).unwrap();
        told.unknown(2);
        told.unknown(3);
        assert!(told.missing().is_none() && told.told.is_empty());
    }
}
