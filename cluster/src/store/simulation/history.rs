//! What clients asked and were told, and whether all of that can be true of one store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use odeum_proto::session::{Change, Value, What};

/// A variable that clients write.
pub(super) type Name = (&'static str, &'static str);

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// Write a value that nobody else writes, if the variable has a version.
    Write { name: Name, value: i64, expected: Option<u64> },
    /// Read a variable.
    Read { name: Name },
    /// Make a request of an entity, which writes to a session of its own.
    Once { request: String },
}

/// What was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The version that was written.
    Written(u64),
    /// Version and value.
    Read(Option<(u64, i64)>),
    /// The request was made.
    Made,
    /// Nothing was changed.
    Refused,
    /// Nothing.
    Unknown,
}

/// A request and its answer.
#[derive(Debug, Clone)]
pub(super) struct Event {
    #[expect(dead_code, reason = "says in the message of a failure where it was")]
    pub(super) node: usize,
    pub(super) op: Op,
    pub(super) began: u64,
    pub(super) ended: u64,
    pub(super) answer: Answer,
}

/// The writes to each variable, by version, as the store remembers them.
pub(super) struct Written(BTreeMap<(String, String), Vec<(u64, i64)>>);

impl Written {
    pub(super) fn of<'a>(changes: impl Iterator<Item = &'a Arc<Change>>) -> Self {
        let mut written: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for change in changes {
            if let What::Set { key, value, version } = &change.what {
                let name = (change.session.as_str().to_owned(), String::from(&**key));
                // Requests of entities write no numbers, each one value.
                let value = if let Value::Integer(value) = value { *value } else { 0 };
                written.entry(name).or_default().push((*version, value));
            }
        }
        Self(written)
    }

    fn of_name(&self, (session, key): Name) -> &[(u64, i64)] {
        let name = (session.to_owned(), key.to_owned());
        self.0.get(&name).map_or(&[], Vec::as_slice)
    }

    fn value(&self, name: Name, version: u64) -> Option<i64> {
        let written = self.of_name(name).iter();
        written.filter(|(at, _)| *at == version).map(|(_, value)| *value).next()
    }
}

type Checked = Result<(), String>;

/// Everything that must be true of a history.
pub(super) fn check(events: &[Event], written: &Written) -> Checked {
    versions_grow_by_one(written)?;
    what_was_acknowledged_is_there(events, written)?;
    what_was_refused_is_not_there(events, written)?;
    no_value_was_written_twice(written)?;
    the_counters_are_exact(written)?;
    what_was_read_was_written(events, written)?;
    nothing_was_read_or_written_behind_the_past(events)
}

fn versions_grow_by_one(written: &Written) -> Checked {
    for (name, versions) in &written.0 {
        let wrong = versions.iter().zip(1..).find(|((version, _), wanted)| version != wanted);
        if let Some(((version, _), wanted)) = wrong {
            return Err(format!("{name:?} has version {version} where {wanted} must come"));
        }
    }
    Ok(())
}

fn what_was_acknowledged_is_there(events: &[Event], written: &Written) -> Checked {
    for event in events {
        let lost = match (&event.op, &event.answer) {
            (Op::Write { name, value, expected }, Answer::Written(version)) => {
                written.value(*name, *version) != Some(*value)
                    || expected.is_some_and(|expected| expected + 1 != *version)
            }
            (Op::Once { request }, Answer::Made) => {
                let name = (format!("firmware/{request}"), "count".to_owned());
                !written.0.contains_key(&name)
            }
            _ => false,
        };
        if lost {
            return Err(format!("acknowledged and lost: {event:?}"));
        }
    }
    Ok(())
}

fn what_was_refused_is_not_there(events: &[Event], written: &Written) -> Checked {
    for event in events {
        if let (Op::Write { name, value, .. }, Answer::Refused) = (&event.op, &event.answer)
            && written.of_name(*name).iter().any(|(_, there)| there == value)
        {
            return Err(format!("refused and made: {event:?}"));
        }
    }
    Ok(())
}

fn no_value_was_written_twice(written: &Written) -> Checked {
    for (name, versions) in &written.0 {
        let mut values = BTreeSet::new();
        let moved = name.0 == BANK;
        if let Some(twice) = versions.iter().find(|(_, value)| !moved && !values.insert(*value)) {
            return Err(format!("{name:?} was given its value twice: {twice:?}"));
        }
    }
    Ok(())
}

/// Each was made with 0 and raised by one by whoever had read it.
fn the_counters_are_exact(written: &Written) -> Checked {
    for (name, versions) in written.0.iter().filter(|(name, _)| name.1 == COUNTER) {
        let wrong = versions.iter().find(|(version, value)| *value + 1 != *version as i64);
        if let Some(wrong) = wrong {
            return Err(format!("{name:?} counted wrong: {wrong:?}"));
        }
    }
    Ok(())
}

fn what_was_read_was_written(events: &[Event], written: &Written) -> Checked {
    for event in events {
        if let (Op::Read { name }, Answer::Read(Some((version, value)))) =
            (&event.op, &event.answer)
            && written.value(*name, *version) != Some(*value)
        {
            return Err(format!("read what was not written: {event:?}"));
        }
    }
    Ok(())
}

/// Whoever asked after somebody had been told of a version is told of that or a later one: of a
/// register whose versions are known, that is linearizability.
fn nothing_was_read_or_written_behind_the_past(events: &[Event]) -> Checked {
    let told = |event: &Event| match (&event.op, &event.answer) {
        (Op::Write { name, .. }, Answer::Written(version)) => Some((*name, *version)),
        (Op::Read { name }, Answer::Read(read)) => {
            Some((*name, read.map_or(0, |(version, _)| version)))
        }
        _ => None,
    };
    let mut moments: Vec<(u64, bool, &Event)> = Vec::new();
    for event in events {
        moments.push((event.began, false, event));
        moments.push((event.ended, true, event));
    }
    moments.sort_by_key(|(at, ..)| *at);
    let mut latest: BTreeMap<Name, u64> = BTreeMap::new();
    let mut floor: BTreeMap<u64, u64> = BTreeMap::new();
    for (_, ended, event) in moments {
        let Some((name, version)) = told(event) else { continue };
        let known = latest.entry(name).or_default();
        if !ended {
            floor.insert(event.began, *known);
            continue;
        }
        let floor = floor[&event.began];
        let writes = matches!(event.op, Op::Write { .. });
        if version < floor || (writes && version == floor) {
            return Err(format!("version {floor} was known before: {event:?}"));
        }
        *known = version.max(*known);
    }
    Ok(())
}

/// The variable that is raised by one.
pub(super) const COUNTER: &str = "n";

/// The session whose variables money moves between.
pub(super) const BANK: &str = "bank";

/// What is in [`BANK`] in all.
pub(super) const MONEY: i64 = 100;

/// Between any two entries of the log nothing is missing from the bank.
pub(super) fn money_moves_whole<'a>(changes: impl Iterator<Item = &'a Arc<Change>>) -> Checked {
    let mut accounts: BTreeMap<&str, i64> = BTreeMap::new();
    let mut last = None;
    let whole = |accounts: &BTreeMap<&str, i64>| {
        accounts.len() < 2 || accounts.values().sum::<i64>() == MONEY
    };
    for change in changes.filter(|change| change.session.as_str() == BANK) {
        if last != Some(change.revision) && !whole(&accounts) {
            return Err(format!("before revision {}: {accounts:?}", change.revision));
        }
        last = Some(change.revision);
        if let What::Set { key, value: Value::Integer(value), .. } = &change.what {
            accounts.insert(key, *value);
        }
    }
    if whole(&accounts) { Ok(()) } else { Err(format!("at the end: {accounts:?}")) }
}
