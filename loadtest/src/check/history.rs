//! What was done with one variable, when, and what it came to; and whether that can be.

use std::fmt::Write as _;

use serde::Serialize;

use super::findings::Finding;
use super::linear::{Checker, Fault};
use super::operation::{Answer, Op};
use super::register::Register;

/// Operations before and after the one that cannot be that are shown with it.
const SHOWN: usize = 30;

/// One operation. Times are microseconds since the scenario began.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Entry {
    /// Who called it.
    pub(crate) client: u8,
    /// The place of the node that was asked last.
    pub(crate) node: usize,
    /// What was done.
    pub(crate) op: Op,
    /// Before it was asked for.
    pub(crate) called: u64,
    /// After the answer had come; none while nobody knows what it came to.
    pub(crate) returned: Option<u64>,
    /// The answer.
    pub(crate) answer: Option<Answer>,
}

impl Entry {
    fn line(&self) -> String {
        let seconds = |micros: u64| micros as f64 / 1e6;
        let answer = self.answer.as_ref().map_or("nobody knows".to_owned(), ToString::to_string);
        let returned = self.returned.map_or("..".to_owned(), |at| format!("{:.6}", seconds(at)));
        let Self { client, node, op, called, .. } = self;
        format!(
            "{:12.6} {returned:>12} client {client:2} at n{}: {op} -> {answer}",
            seconds(*called),
            node + 1
        )
    }
}

/// Follows the operations from a variable that was never written on. With the checker a history
/// can be gone on with.
///
/// # Errors
/// What cannot be.
pub(crate) fn check(entries: &[Entry]) -> Result<Checker<Register>, Fault<Register>> {
    let mut moments: Vec<(u64, Moment)> = Vec::with_capacity(2 * entries.len());
    for (id, entry) in (0..).zip(entries) {
        moments.push((entry.called, Moment::Call(id, entry)));
        moments.extend(entry.returned.map(|at| (at, Moment::Return(id))));
    }
    // Calls come before returns of the same microsecond: they may have overlapped.
    moments.sort_by_key(|(at, moment)| (*at, matches!(moment, Moment::Return(_))));
    let mut checker = Checker::new(Register::default());
    for (_, moment) in moments {
        match moment {
            Moment::Call(id, entry) => checker.call(id, entry.op, entry.answer.clone()),
            Moment::Return(id) => checker.returns(id)?,
        }
    }
    Ok(checker)
}

enum Moment<'a> {
    Call(u32, &'a Entry),
    Return(u32),
}

/// Says what is wrong with the history of a variable, so that a person can see it.
pub(crate) fn account(name: &str, entries: Vec<Entry>, fault: &Fault<Register>) -> Finding {
    let (id, what) = match fault {
        Fault::Impossible { id, states } => {
            let mut states: Vec<_> = states.iter().map(ToString::to_string).collect();
            states.sort();
            states.dedup();
            (
                *id,
                format!("no order explains it: before it returned there could be only {states:?}"),
            )
        }
        Fault::Undecided { id } => (*id, "there are too many orders to try".to_owned()),
    };
    let mut order: Vec<(usize, &Entry)> = entries.iter().enumerate().collect();
    order.sort_by_key(|(_, entry)| entry.called);
    let at = order.iter().position(|(n, _)| *n == id as usize).unwrap_or_default();
    let shown = at.saturating_sub(SHOWN)..order.len().min(at + SHOWN);
    let offender = order.get(at).map_or_else(String::new, |(_, entry)| entry.line());
    let mut account = format!("variable of {name}: {what}\n      called     returned\n");
    for (n, entry) in order.get(shown).unwrap_or_default() {
        let mark = if *n == id as usize { ">>" } else { "  " };
        // A string takes everything.
        let _ = writeln!(account, "{mark}{}", entry.line());
    }
    let title = format!("{name} is not linearizable: {}: {what}", offender.trim());
    Finding { title, account, history: Some((name.to_owned(), entries)) }
}

#[cfg(test)]
mod tests;
