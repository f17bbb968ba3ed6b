//! What the watchers were told, and whether it is what happened: every watcher is told every
//! change once, in order, without a gap; every acknowledged change is among them as it was
//! acknowledged; nothing is among them twice, nor anything that was refused or never asked for.
//!
//! Pure. Watchers go from node to node meanwhile, naming the revision that they have seen.

use std::collections::{HashMap, HashSet};

use super::wire::{GROUPS, Seen, What};
use super::{counter, scene};
use crate::check::findings::Finding;
use crate::check::operation::At;

/// Watchers of each group.
pub(super) const WATCHERS: usize = 3;

/// What was acknowledged to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// Where in history.
    pub(super) at: At,
    /// The session.
    pub(super) session: String,
    /// What.
    pub(super) what: What,
}

/// All that was told, and all that was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Streams {
    groups: Vec<Group>,
    acknowledged: Vec<Acknowledged>,
    /// Values that were refused: nobody may ever see them.
    refused: HashSet<i64>,
    /// Which change wrote a value into a variable.
    written: HashMap<i64, At>,
    /// What each counter was at last.
    counters: HashMap<String, i64>,
}

/// One group of sessions.
#[derive(Debug, Default)]
struct Group {
    /// As the watcher that was first told it.
    changes: Vec<Seen>,
    /// How many of them each watcher was told.
    told: [usize; WATCHERS],
}

impl Streams {
    /// Nothing was told yet.
    pub(super) fn new() -> Self {
        Self { groups: (0..GROUPS).map(|_| Group::default()).collect(), ..Self::default() }
    }

    /// A watcher was told changes of a group. `unwritten` is a value that nobody has written yet,
    /// as all above it. Gives those that nobody was told before.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn told(
        &mut self,
        watcher: usize,
        group: u16,
        changes: Vec<Seen>,
        unwritten: i64,
    ) -> Result<Vec<Seen>, Finding> {
        let mut new = Vec::new();
        for change in changes {
            let Some(of) = self.groups.get_mut(usize::from(group)) else { continue };
            let Some(place) = of.told.get_mut(watcher) else { continue };
            *place += 1;
            match of.changes.get(*place - 1) {
                Some(first) if *first == change => continue,
                Some(first) => {
                    return Err(Finding::new(format!(
                        "watcher {watcher} of data-{group} was told {change:?} where another was \
                         told {first:?}"
                    )));
                }
                None => {}
            }
            let last = of.changes.last();
            if last.is_some_and(|last| at(last) >= at(&change)) {
                return Err(Finding::new(format!(
                    "watcher {watcher} of data-{group} was told {change:?} after {last:?}"
                )));
            }
            of.changes.push(change.clone());
            self.takes_effect(At { group, revision: change.revision }, &change, unwritten)?;
            new.push(change);
        }
        Ok(new)
    }

    /// A change was seen for the first time.
    fn takes_effect(&mut self, at: At, change: &Seen, unwritten: i64) -> Result<(), Finding> {
        let What::Set { value, .. } = change.what else { return Ok(()) };
        if change.session.starts_with(counter::PREFIX) {
            let before = self.counters.insert(change.session.clone(), value).unwrap_or_default();
            if value != before + 1 {
                return Err(Finding::new(format!(
                    "{} went from {before} to {value} at {at:?}: an update is lost or made twice",
                    change.session
                )));
            }
        } else if change.session.starts_with(scene::VARIABLE) {
            if value >= unwritten {
                return Err(Finding::new(format!("nobody ever wrote {change:?}")));
            }
            if self.refused.contains(&value) {
                return Err(Finding::new(format!("it was refused and has happened: {change:?}")));
            }
            if let Some(earlier) = self.written.insert(value, at) {
                return Err(Finding::new(format!(
                    "{value} was written to {} twice, at {earlier:?} and at {at:?}",
                    change.session
                )));
            }
        }
        Ok(())
    }

    /// A client was told that it has changed something.
    pub(super) fn acknowledged(&mut self, acknowledged: Acknowledged) {
        self.acknowledged.push(acknowledged);
    }

    /// A client was told that a value was not and will not be written.
    ///
    /// # Errors
    /// If it was.
    pub(super) fn refused(&mut self, value: i64) -> Result<(), Finding> {
        self.refused.insert(value);
        match self.written.get(&value) {
            Some(at) => Err(Finding::new(format!("{value} was refused and was written at {at:?}"))),
            None => Ok(()),
        }
    }

    /// How many changes were told, and to how many watchers.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.groups.iter().map(|group| group.changes.len()).sum(), WATCHERS)
    }

    /// The first watcher that lacks something that was acknowledged or that others were told.
    pub(super) fn behind(&self) -> Option<String> {
        (0_u16..).zip(&self.groups).find_map(|(group, of)| {
            let of_group = self.acknowledged.iter().filter(|each| each.at.group == group);
            let newest = of_group.map(|each| each.at.revision).max().unwrap_or_default();
            (0..WATCHERS).zip(of.told).find_map(|(watcher, told)| {
                let seen = told.checked_sub(1).and_then(|last| of.changes.get(last));
                let seen = seen.map_or(0, |change| change.revision);
                (told < of.changes.len() || seen < newest).then(|| {
                    format!(
                        "watcher {watcher} of data-{group} was told everything to revision {seen}; \
                         {newest} was acknowledged"
                    )
                })
            })
        })
    }

    /// Whether all that was acknowledged was told. For when nobody is [`behind`](Self::behind).
    ///
    /// # Errors
    /// The first change that was not.
    pub(super) fn all_there(&self) -> Result<(), Finding> {
        let happened: HashMap<At, &Seen> = (0_u16..)
            .zip(&self.groups)
            .flat_map(|(group, of)| of.changes.iter().map(move |change| (group, change)))
            .map(|(group, change)| (At { group, revision: change.revision }, change))
            .collect();
        let lost = self.acknowledged.iter().find(|each| {
            let change = happened.get(&each.at);
            change.is_none_or(|change| change.session != each.session || change.what != each.what)
        });
        lost.map_or(Ok(()), |lost| {
            let instead = happened.get(&lost.at);
            Err(Finding::new(format!("{lost:?} was acknowledged; watchers were told {instead:?}")))
        })
    }

    /// What each counter was at last.
    pub(super) fn counter(&self, session: &str) -> i64 {
        self.counters.get(session).copied().unwrap_or_default()
    }
}

fn at(change: &Seen) -> (u64, u32) {
    (change.revision, change.index)
}

#[cfg(test)]
mod tests;
