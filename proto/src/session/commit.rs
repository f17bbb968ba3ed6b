//! The effect of one message to an entity, or of several.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{EntityId, Epoch, RequestId, SessionId};

/// One change to a session, in bytes: variables of other types are written as [`Value::plain`](super::Value::plain)
/// says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write {
    /// Sets a variable.
    Set {
        /// Its name.
        key: String,
        /// Its new value.
        #[serde(with = "crate::codec::bytes")]
        value: Vec<u8>,
    },
    /// Removes a variable; removing what is not there is no error.
    Delete {
        /// Its name.
        key: String,
    },
}

/// Everything one message to an entity changed, applied whole or not at all, once per request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Whose activation this is.
    pub entity: EntityId,
    /// Its fencing token: refused unless it is the current one.
    pub epoch: Epoch,
    /// The request this is the effect of.
    pub request: RequestId,
    /// The session that is changed.
    pub session: SessionId,
    /// The changes, in order.
    pub writes: Vec<Write>,
    /// The reply, remembered for retries of the request.
    #[serde(with = "crate::codec::bytes")]
    pub reply: Vec<u8>,
    /// Requests that were carried out before and whose effects are among the changes, oldest first:
    /// each is remembered as `request` is.
    pub carried: Vec<Carried>,
}

/// A request that was carried out, as a [`Commit`] tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Which.
    pub request: RequestId,
    /// Its reply; `None` when that is larger than
    /// [`REMEMBERED_REPLY_BYTES`](crate::limits::REMEMBERED_REPLY_BYTES).
    pub reply: Option<Bytes>,
}

impl Carried {
    /// What it adds to the bytes of a commit.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.request.as_str().len() + self.reply.as_ref().map_or(0, Bytes::len) + 16
    }
}
