//! The errors of calls that more than one place of this module gives.

use std::time::Duration;

use odeum_proto::{EntityId, call::CallError, limits};

use crate::transport::lane::BodyError;

/// What cannot be sent.
pub(super) fn body_error(entity: &EntityId, error: &BodyError) -> CallError {
    match error {
        BodyError::TooLarge { got } => {
            CallError::TooLarge { got: *got, limit: limits::MESSAGE_BYTES }
        }
        BodyError::Encode(error) => {
            CallError::Refused { entity: entity.clone(), reason: error.to_string().into() }
        }
    }
}

/// No answer came in time.
pub(super) fn too_late(entity: &EntityId, after: Duration) -> CallError {
    CallError::DeadlineExceeded { entity: entity.clone(), after }
}

/// It cannot be reached now.
pub(super) fn unavailable(entity: &EntityId, reason: &str) -> CallError {
    CallError::Unavailable { entity: entity.clone(), reason: reason.into() }
}
