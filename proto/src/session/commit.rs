//! The effect of one message to an entity.

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
}
