//! A supervision tree as data and as text.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::mailbox::Phase;

/// What a member of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It has children.
    Supervisor,
    /// It handles messages.
    Actor,
}

/// A member of a supervision tree with all below it, as it was when asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tree {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Where it is in its life.
    pub state: Phase,
    /// How often it was started again.
    pub restarts: u64,
    /// How many messages wait for it.
    pub mailbox: usize,
    /// How many messages it has handled, over all its incarnations.
    pub handled: u64,
    /// How long it was at work, over all its incarnations.
    pub busy: Duration,
    /// Its children, in start order.
    pub children: Vec<Self>,
}

impl Tree {
    /// The member of that name, if there is one, in depth-first order.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Self> {
        if &*self.name == name {
            return Some(self);
        }
        self.children.iter().find_map(|child| child.find(name))
    }

    fn draw(&self, f: &mut fmt::Formatter<'_>, first: &str, rest: &str) -> fmt::Result {
        let state = match self.state {
            Phase::Down => "down",
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
        };
        write!(f, "{first}{} ({state}", self.name)?;
        if self.restarts > 0 {
            write!(f, ", {} restarts", self.restarts)?;
        }
        if self.mailbox > 0 {
            write!(f, ", {} waiting", self.mailbox)?;
        }
        f.write_str(")")?;
        for (index, child) in self.children.iter().enumerate() {
            let last = index + 1 == self.children.len();
            let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            writeln!(f)?;
            child.draw(f, &format!("{rest}{branch}"), &format!("{rest}{below}"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.draw(f, "", "")
    }
}
