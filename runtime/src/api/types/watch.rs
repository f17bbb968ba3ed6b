//! What a watch tells, line by line, and where it begins.

use std::{collections::BTreeMap, fmt, str::FromStr};

use odeum_proto::{
    GroupId, IdError, Revision, SessionId,
    session::{Change, Ended, ValueType, What},
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Session, session::readable, text};
use crate::config::HumanDuration;

/// One line of `GET /v1/sessions/{id}/watch` and `GET /v1/watch`.
///
/// Each group of sessions has revisions of its own. Everything up to the revision of a `changes`
/// or a `progress` line has been told then, and a watch that begins after it goes on from there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum WatchLine {
    /// All that one change of the store did to what is watched.
    Changes {
        /// The group.
        #[serde(with = "text")]
        group: GroupId,
        /// The change.
        revision: Revision,
        /// What it did, in order.
        changes: Vec<WatchChange>,
    },
    /// The changes from where the watch stood are not kept any more. What is watched follows, one
    /// `session` line each, then a `progress` line; what does not follow is not there.
    State {
        /// The group.
        #[serde(with = "text")]
        group: GroupId,
        /// As of when.
        revision: Revision,
        /// How many sessions follow.
        sessions: usize,
    },
    /// A session as it is at the revision of the `state` line before it.
    Session {
        /// The group.
        #[serde(with = "text")]
        group: GroupId,
        /// As of when.
        revision: Revision,
        /// The session.
        session: Session,
    },
    /// Nothing else has changed up to here. Comes first, and every few seconds.
    Progress {
        /// The group.
        #[serde(with = "text")]
        group: GroupId,
        /// Up to where.
        revision: Revision,
    },
    /// The watch ends here and goes on at another node, or later.
    End {
        /// Why.
        reason: String,
    },
}

impl WatchLine {
    /// Its name, as in its JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Changes { .. } => "changes",
            Self::State { .. } => "state",
            Self::Session { .. } => "session",
            Self::Progress { .. } => "progress",
            Self::End { .. } => "end",
        }
    }

    /// Up to where everything has been told with this line.
    #[must_use]
    pub const fn told(&self) -> Option<(GroupId, Revision)> {
        match self {
            Self::Changes { group, revision, .. } | Self::Progress { group, revision } => {
                Some((*group, *revision))
            }
            Self::State { .. } | Self::Session { .. } | Self::End { .. } => None,
        }
    }
}

/// One change to a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WatchChange {
    /// Its place among the changes of its revision, from 0; those of other sessions count too.
    pub index: u32,
    /// The session.
    pub session: SessionId,
    /// What happened.
    #[serde(flatten)]
    pub what: WatchWhat,
}

/// What happened to a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum WatchWhat {
    /// It was created.
    Created,
    /// It was deleted.
    Deleted,
    /// Its time to live was over.
    Expired,
    /// Its time to live is another one.
    Ttl {
        /// The new one; `None` for ever.
        ttl: Option<HumanDuration>,
    },
    /// A variable was made or written.
    Set {
        /// Its name.
        key: String,
        /// Its type.
        #[serde(rename = "type", with = "text")]
        kind: ValueType,
        /// Its value.
        value: Json,
        /// Bytes as a text, where they are one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// Its version.
        version: u64,
    },
    /// A variable has another definition; its value is the same.
    Defined {
        /// Its name.
        key: String,
    },
    /// A variable was removed.
    Removed {
        /// Its name.
        key: String,
    },
    /// An entry of the metadata was set or removed.
    Metadata {
        /// Its name.
        key: String,
        /// What it says; `None` when it was removed.
        value: Option<String>,
    },
    /// A program was stored.
    ProgramPut {
        /// Its name.
        name: String,
    },
    /// A program was removed.
    ProgramDeleted {
        /// Its name.
        name: String,
    },
}

impl From<&Change> for WatchChange {
    fn from(change: &Change) -> Self {
        let what = match &change.what {
            What::Created => WatchWhat::Created,
            What::Deleted(Ended::Deleted) => WatchWhat::Deleted,
            What::Deleted(Ended::Expired) => WatchWhat::Expired,
            What::Ttl(ttl) => WatchWhat::Ttl { ttl: ttl.map(HumanDuration) },
            What::Set { key, value, version } => WatchWhat::Set {
                key: key.to_string(),
                kind: value.kind(),
                value: value.to_json(),
                text: readable(value),
                version: *version,
            },
            What::Defined { key } => WatchWhat::Defined { key: key.to_string() },
            What::Removed { key } => WatchWhat::Removed { key: key.to_string() },
            What::Noted { key, value } => WatchWhat::Metadata {
                key: key.to_string(),
                value: value.as_ref().map(ToString::to_string),
            },
            What::ProgramPut { name } => WatchWhat::ProgramPut { name: name.to_string() },
            What::ProgramDeleted { name } => WatchWhat::ProgramDeleted { name: name.to_string() },
        };
        Self { index: change.index, session: change.session.clone(), what }
    }
}

/// After which revision a watch begins: `17` for the one group of a session, `data-0:17,data-1:4`
/// for several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum After {
    /// After this revision of the session's group.
    Revision(Revision),
    /// After these revisions. A group that is not named is watched from now on.
    Groups(BTreeMap<GroupId, Revision>),
}

impl After {
    /// Where the watch of `group` begins, if that is said. `only` when there is no other group.
    #[must_use]
    pub fn of(&self, group: GroupId, only: bool) -> Option<Revision> {
        match self {
            Self::Revision(revision) => only.then_some(*revision),
            Self::Groups(groups) => groups.get(&group).copied(),
        }
    }

    /// Takes in what a line told.
    pub fn advance(&mut self, line: &WatchLine) {
        let Some((group, revision)) = line.told() else { return };
        match self {
            Self::Revision(told) => *told = revision,
            Self::Groups(groups) => {
                groups.insert(group, revision);
            }
        }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = match self {
            Self::Revision(revision) => return revision.fmt(f),
            Self::Groups(groups) => groups,
        };
        for (at, (group, revision)) in groups.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{group}:{revision}")?;
        }
        Ok(())
    }
}

impl FromStr for After {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Form {
            what: "revision to watch after",
            given: text.into(),
            form: "a number, or GROUP:NUMBER[,GROUP:NUMBER…]",
        };
        if let Ok(revision) = text.parse::<u64>() {
            return Ok(Self::Revision(Revision(revision)));
        }
        let one = |part: &str| {
            let (group, revision) = part.split_once(':')?;
            Some((group.parse().ok()?, Revision(revision.parse().ok()?)))
        };
        let groups = text.split(',').map(one).collect::<Option<BTreeMap<_, _>>>();
        groups.map(Self::Groups).ok_or_else(bad)
    }
}

impl TryFrom<String> for After {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<After> for String {
    fn from(after: After) -> Self {
        after.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_watch_begins_is_read_as_it_is_printed() {
        for text in ["0", "17", "data-0:17", "control:3,data-0:17,data-1:4"] {
            let after: After = text.parse().expect("valid");
            assert_eq!(after.to_string(), text);
        }
        for bad in ["", "-1", "data-0", "data-0:x", "data-0:1,", "data-0:1;data-1:2"] {
            let text = bad.parse::<After>().expect_err(bad).to_string();
            assert!(text.contains("GROUP:NUMBER"), "{text}");
        }
    }

    #[test]
    fn only_whole_revisions_move_the_place_to_go_on_from() {
        let (group, revision) = (GroupId::Data(1), Revision(9));
        let mut after = After::Groups([(group, Revision(3))].into());
        after.advance(&WatchLine::State { group, revision, sessions: 1 });
        assert_eq!(after.to_string(), "data-1:3");
        after.advance(&WatchLine::Progress { group, revision });
        assert_eq!(after.to_string(), "data-1:9");
        assert_eq!(after.of(group, false), Some(revision));
        assert_eq!(After::Revision(revision).of(group, false), None);
    }
}
