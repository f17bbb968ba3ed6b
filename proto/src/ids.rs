//! Names of things. Each is a newtype with `Display` and `FromStr`, so that one cannot be taken
//! for another and what is printed can be typed back.
//!
//! Names are validated where they enter, decoding included: a value of these types is valid.

mod replica;

use std::{borrow::Borrow, fmt, marker::PhantomData, str::FromStr, sync::Arc, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};
use uuid::Uuid;

use crate::limits;

pub use replica::{Recipient, ReplicaId};

/// A name that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("a {what} cannot be empty")]
    Empty {
        /// What the name was for.
        what: &'static str,
    },
    /// More bytes than the bound.
    #[error("a {what} has at most {limit} bytes, this one has {got}")]
    TooLong {
        /// What the name was for.
        what: &'static str,
        /// The bound in bytes.
        limit: usize,
        /// The length in bytes.
        got: usize,
    },
    /// A character outside the alphabet.
    #[error("{character:?} cannot be in a {what}: {allowed}")]
    Character {
        /// What the name was for.
        what: &'static str,
        /// The first character at fault.
        character: char,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// Not of the form that `Display` prints.
    #[error("{given:?} is no {what}: expected {form}")]
    Form {
        /// What was wanted.
        what: &'static str,
        /// What was given.
        given: Box<str>,
        /// The form, in words.
        form: &'static str,
    },
}

const LABEL: &str = "lower-case letters, digits and inner hyphens are allowed";
const PRINTABLE: &str = "printable ASCII without spaces is allowed";

fn check_length(what: &'static str, text: &str, limit: usize) -> Result<(), IdError> {
    match text.len() {
        0 => Err(IdError::Empty { what }),
        got if got > limit => Err(IdError::TooLong { what, limit, got }),
        _ => Ok(()),
    }
}

fn check_label(what: &'static str, text: &str) -> Result<(), IdError> {
    check_length(what, text, limits::NAME_BYTES)?;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let at_fault = text.chars().find(|&c| !inner(c));
    let hyphen_at_an_end = (text.starts_with('-') || text.ends_with('-')).then_some('-');
    match at_fault.or(hyphen_at_an_end) {
        Some(character) => Err(IdError::Character { what, character, allowed: LABEL }),
        None => Ok(()),
    }
}

fn check_printable(what: &'static str, text: &str, limit: usize) -> Result<(), IdError> {
    check_length(what, text, limit)?;
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        Some(character) => Err(IdError::Character { what, character, allowed: PRINTABLE }),
        None => Ok(()),
    }
}

/// A text newtype: cheap to clone, validated on every way in.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let check: fn(&'static str, &str) -> Result<(), IdError> = $check;
                check($what, text)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Text(PhantomData))
            }
        }
    };
}

/// Reads a name from the text where it stands: there are some in each message, so that a copy of each
/// on the way would be felt.
struct Text<T>(PhantomData<T>);

impl<T: FromStr<Err = IdError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

text_id! {
    /// One member of a cluster, for as long as its data folder lives. It is a DNS label and is in
    /// the node's certificate. Never reused for another data folder: Raft counts its votes by it.
    NodeId, "node id", check_label
}

text_id! {
    /// A plain name chosen by a user, such as a firmware's: a DNS label.
    Name, "name", check_label
}

text_id! {
    /// A registered sort of entity: how it is made, frozen and thawed.
    EntityKind, "entity kind", check_label
}

text_id! {
    /// An entity's name among its kind, chosen by whoever talks to it first. It may have `/` in
    /// it; of `kind/key` the first one separates.
    EntityKey, "entity key", |what, text| check_printable(what, text, limits::KEY_BYTES)
}

text_id! {
    /// A word about a node that its operator chose: the key or the value of a label, a zone.
    Label, "label", |what, text| check_printable(what, text, limits::LABEL_BYTES)
}

text_id! {
    /// One request of one caller, the idempotency key: a retry carries the id of the first try.
    RequestId, "request id", |what, text| check_printable(what, text, limits::REQUEST_ID_BYTES)
}

text_id! {
    /// A session: replicated state with typed variables. A firmware's sessions are
    /// `<firmware>/<name>` (of a further replica `<firmware>.<number>/<name>`), those of another entity `<kind>:<length of key>:<key>/<name>`, so that
    /// no two entities ever write the same one.
    SessionId, "session id", |what, text| {
        check_printable(what, text, limits::SESSION_ID_BYTES)
    }
}

/// So that a table by name can be asked by a text that may be one, such as an entity's key.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// So that a range of sessions can be named by what their ids begin with.
impl Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<Name> for EntityKey {
    /// Every name is a key: shorter, and of fewer characters.
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

text_id! {
    /// What messages are published under, such as `room/42`.
    TopicName, "topic name", |what, text| check_printable(what, text, limits::KEY_BYTES)
}

text_id! {
    /// Who needs a blob, as `<word>/<name>`: it is kept until the last of its owners has let go.
    BlobOwner, "blob owner", |what, text| check_printable(what, text, limits::OWNER_BYTES)
}

impl BlobOwner {
    /// The firmware called `name`, which owns its package.
    #[must_use]
    pub fn package(name: &Name) -> Self {
        Self(format!("package/{name}").into())
    }

    /// The entity `entity`, which owns its latest checkpoint.
    #[must_use]
    pub fn checkpoint(entity: &EntityId) -> Self {
        Self(format!("checkpoint/{entity}").into())
    }
}

impl EntityKind {
    /// The kind of everything that a firmware package runs as.
    pub const FIRMWARE: &'static str = "firmware";
}

impl RequestId {
    /// A new id that no other request has.
    #[must_use]
    pub fn random() -> Self {
        let mut text = Uuid::encode_buffer();
        Self(Arc::from(&*Uuid::new_v4().hyphenated().encode_lower(&mut text)))
    }
}

impl SessionId {
    /// The session called `name` of the entity called `owner`.
    ///
    /// # Errors
    /// [`IdError`] when the name is empty, too long or not printable ASCII.
    pub fn owned_by(owner: &EntityId, name: &str) -> Result<Self, IdError> {
        check_printable("session name", name, limits::KEY_BYTES)?;
        if owner.is_firmware() {
            return format!("{}/{name}", owner.key()).parse();
        }
        format!("{}/{name}", Self::owner_text(owner)).parse()
    }

    /// What the ids of the sessions of `owner` begin with, before a `/`.
    #[must_use]
    pub fn owner_text(owner: &EntityId) -> String {
        let (kind, key) = (owner.kind(), owner.key());
        if owner.is_firmware() {
            return key.to_string();
        }
        // No firmware has a colon in its name. The length tells where the key ends, since both the
        // key and the name may have `/` in them.
        format!("{kind}:{}:{key}", key.as_str().len())
    }

    /// What stands for its owner: the text before the first `/` that is not in the owner's key,
    /// or the whole id of a session that nobody owns.
    #[must_use]
    pub fn owner(&self) -> &str {
        let keyed = || {
            let (kind, rest) = self.0.split_once(':')?;
            let (length, key) = rest.split_once(':')?;
            let end = kind.len() + length.len() + 2 + length.parse::<usize>().ok()?;
            let owned = !kind.contains('/') && !length.is_empty() && key.len() > 1;
            (owned && self.0.as_bytes().get(end) == Some(&b'/')).then(|| self.0.get(..end))?
        };
        let firmware = || self.0.split_once('/').map(|(owner, _)| owner);
        keyed().or_else(firmware).unwrap_or(&self.0)
    }
}

/// A number newtype that only counts upward.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

counter! {
    /// How often a node has started on its data folder. Kept on disk, so that no clock decides
    /// which of two lives of a node is the later one.
    Incarnation
}

counter! {
    /// The fencing token of an activation. It grows with every placement of its entity; the store
    /// refuses what carries an older one.
    Epoch
}

counter! {
    /// A point in the history of the store: the log index of a change. In a group that a backup was
    /// brought into, that and a large number, so that it is above all that the backup has.
    Revision
}

counter! {
    /// A moment in the life of a Raft group, in milliseconds for which it had a leader. Kept in its
    /// log, so that all replicas agree on it and no clock that jumps changes it: it stands still
    /// while there is no leader, and never goes back.
    LogTime
}

impl LogTime {
    /// This time and `duration`, which is rounded up to a millisecond: what is due then is never
    /// due early.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = duration.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(millis).unwrap_or(u64::MAX)))
    }
}

/// A Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GroupId {
    /// Nodes, placement, specs, and in a cluster without data groups the sessions too.
    Control,
    /// Sessions, by hash of their ids.
    Data(u16),
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.pad("control"),
            Self::Data(n) => f.pad(&format!("data-{n}")),
        }
    }
}

impl FromStr for GroupId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let data = || text.strip_prefix("data-").and_then(|n| n.parse().ok()).map(Self::Data);
        (text == "control").then_some(Self::Control).or_else(data).ok_or_else(|| IdError::Form {
            what: "group",
            given: text.into(),
            form: "`control` or `data-N`",
        })
    }
}

/// A movable unit with a cluster-wide name, active on exactly one node at a time. Printed as
/// `kind/key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityId {
    kind: EntityKind,
    key: EntityKey,
}

impl EntityId {
    /// The entity of `kind` called `key`.
    #[must_use]
    pub fn new(kind: EntityKind, key: EntityKey) -> Self {
        Self { kind, key }
    }

    /// The entity that is the firmware called `name`.
    #[must_use]
    pub fn firmware(name: Name) -> Self {
        Self { kind: EntityKind(EntityKind::FIRMWARE.into()), key: name.into() }
    }

    /// Its registered sort.
    #[must_use]
    pub fn kind(&self) -> &EntityKind {
        &self.kind
    }

    /// Its name among its kind.
    #[must_use]
    pub fn key(&self) -> &EntityKey {
        &self.key
    }

    /// Whether it is what a firmware package runs as.
    #[must_use]
    pub fn is_firmware(&self) -> bool {
        self.kind.as_str() == EntityKind::FIRMWARE
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EntityId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (kind, key) = text.split_once('/').ok_or_else(|| IdError::Form {
            what: "entity",
            given: text.into(),
            form: "`kind/key`",
        })?;
        Ok(Self { kind: kind.parse()?, key: key.parse()? })
    }
}

/// A random 128-bit identity.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new one that no other has.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

random_id! {
    /// A cluster, from the first start of its first node on.
    ClusterId
}

random_id! {
    /// A data folder. A node that comes back with its id and another disk has lost its votes and
    /// its log, and is refused.
    DiskId
}

random_id! {
    /// A backup of a cluster, from the moment it was begun: what restores it finds by this name
    /// what an earlier try has done.
    BackupId
}

/// The blake3 hash of some bytes, their name in caches and logs. Printed as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of all that was given to `hasher`.
    #[must_use]
    pub fn of_hasher(hasher: &blake3::Hasher) -> Self {
        Self(*hasher.finalize().as_bytes())
    }

    /// The digest of all that `from` gives, read piece by piece: of a file too large for memory.
    ///
    /// # Errors
    /// What `from` fails with.
    pub fn of_reader(from: impl std::io::Read) -> std::io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(from)?;
        Ok(Self(*hasher.finalize().as_bytes()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|_| IdError::Form {
            what: "digest",
            given: text.into(),
            form: "64 hex digits",
        })
    }
}

#[cfg(test)]
mod tests;
