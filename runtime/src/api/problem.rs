//! What the API answers when it cannot answer as wished: a status and an error in JSON.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::{BytesRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use humantime::format_duration;
use odeum_proto::{
    call::CallError,
    session::{Quota, SessionRefusal},
    store::Refusal,
};

use super::types::ErrorBody;

/// Seconds after which a retryable request is worth another try: an election or a restart of an
/// instance is over by then.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// A request that was not carried out as wished.
///
/// | status | when |
/// |---|---|
/// | 400 | the request itself is malformed: a name, a query, a header, JSON |
/// | 404 | nothing has that name, or no such path |
/// | 405 | the path knows no such method |
/// | 409 | it contradicts what is there; a reply that is known to have been too large to keep |
/// | 412 | the variable has another version than expected |
/// | 413 | a message, package, variable or batch larger than the bound |
/// | 422 | the package is no valid firmware, the backup damaged; the firmware refused the message; a value that its variable does not allow |
/// | 429 | too much at once; with `Retry-After` |
/// | 500 | a defect of the node |
/// | 502 | the firmware trapped or exceeded a limit on this message |
/// | 503 | not now: starting, restarting, unreachable, no majority; with `Retry-After` |
/// | 504 | the deadline passed; whether there was an effect is unknown |
/// | 507 | the store has no room for more; with `Retry-After` |
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The request is malformed. Correct it.
    #[error("{reason}")]
    BadRequest {
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// Nothing has that name.
    #[error("there is no {what}")]
    NotFound {
        /// What was asked for.
        what: Box<str>,
    },
    /// The path knows other methods only.
    #[error("{path} does not know {method}")]
    WrongMethod {
        /// The path.
        path: Box<str>,
        /// The method.
        method: Box<str>,
    },
    /// The request contradicts what is there.
    #[error("{reason}")]
    Conflict {
        /// What it contradicts.
        reason: Box<str>,
    },
    /// More bytes than the bound. Send less.
    #[error("{what} may have at most {limit} bytes")]
    TooLarge {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The package cannot be run. Build it anew.
    #[error("{reason}")]
    BadPackage {
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// This node does not take the package. The message says what its signer or operator can do.
    #[error("{reason}")]
    Untrusted {
        /// Why not.
        reason: Box<str>,
    },
    /// The JSON is no value, or no definition, of the type. Correct it.
    #[error("{reason}")]
    BadValue {
        /// Which variable of which session, and what is wrong.
        reason: Box<str>,
    },
    /// The bytes are no whole backup of this version. Send another one.
    #[error("{reason}")]
    BadBackup {
        /// What is wrong, and where.
        reason: Box<str>,
    },
    /// Too many requests at once. Slow down and retry.
    #[error("{limit} requests are under way, the limit of this node")]
    Overloaded {
        /// The bound.
        limit: usize,
    },
    /// Not now. Retry after a moment.
    #[error("{reason}")]
    Unavailable {
        /// Why not now.
        reason: Box<str>,
    },
    /// The store has no majority. Retry when enough nodes are back.
    #[error("{reason}")]
    NoQuorum {
        /// What the store said.
        reason: Box<str>,
    },
    /// Time is over. Whether there was an effect is unknown.
    #[error("not done within {}", format_duration(*.after))]
    Deadline {
        /// The time that was given.
        after: Duration,
    },
    /// The node cannot do what it should. Its log says more.
    #[error("{reason}")]
    Internal {
        /// What went wrong.
        reason: Box<str>,
    },
    /// The store did not change a session, as all its replicas agree.
    #[error(transparent)]
    Session(#[from] Box<SessionRefusal>),
    /// A call has no reply.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Problem {
    /// The status, the fixed word for machines, and whether the same request may succeed later.
    fn parts(&self) -> (StatusCode, &'static str, bool) {
        match self {
            Self::BadRequest { .. } => (StatusCode::BAD_REQUEST, "bad-request", false),
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found", false),
            Self::WrongMethod { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", false)
            }
            Self::Conflict { .. } => (StatusCode::CONFLICT, "conflict", false),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", false),
            Self::BadPackage { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad-package", false),
            Self::Untrusted { .. } => (StatusCode::FORBIDDEN, "untrusted-package", false),
            Self::BadValue { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad-value", false),
            Self::BadBackup { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad-backup", false),
            Self::Overloaded { .. } => (StatusCode::TOO_MANY_REQUESTS, "overloaded", true),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", true),
            Self::NoQuorum { .. } => (StatusCode::SERVICE_UNAVAILABLE, "no-quorum", true),
            Self::Deadline { .. } => (StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", false),
            Self::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "internal", false),
            Self::Session(refusal) => {
                let (status, code) = session_status(refusal);
                (status, code, refusal.is_retryable())
            }
            Self::Call(error) => (call_status(error), error.code(), error.is_retryable()),
        }
    }
}

/// The status and the fixed word of a refusal.
fn session_status(refusal: &SessionRefusal) -> (StatusCode, &'static str) {
    use SessionRefusal as R;
    match refusal {
        R::UnknownSession { .. } => (StatusCode::NOT_FOUND, "unknown-session"),
        R::UnknownVariable { .. } => (StatusCode::NOT_FOUND, "unknown-variable"),
        R::SessionDiffers { .. } => (StatusCode::CONFLICT, "session-differs"),
        R::DefinitionDiffers { .. } => (StatusCode::CONFLICT, "definition-differs"),
        R::RequestReused { .. } => (StatusCode::CONFLICT, "request-reused"),
        R::VersionConflict { .. } => (StatusCode::PRECONDITION_FAILED, "version-conflict"),
        R::NoTtl { .. } => (StatusCode::BAD_REQUEST, "bad-ttl"),
        R::Name { .. } => (StatusCode::BAD_REQUEST, "bad-name"),
        R::TypeMismatch { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "type-mismatch"),
        R::Value { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad-value"),
        R::Violated { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "constraint-violated"),
        R::Definition { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bad-definition"),
        R::TooMuch { quota, .. } => (quota_status(*quota), "quota-exceeded"),
        R::Operation { refusal, .. } => session_status(refusal),
        R::Restoring { .. } => (StatusCode::SERVICE_UNAVAILABLE, "restoring"),
        R::NotEmpty { .. } => (StatusCode::CONFLICT, "not-empty"),
        R::StaleEpoch { .. }
        | R::OtherBackup { .. }
        | R::ImportOrder { .. }
        | R::ImportRow { .. }
        | R::ImportDivision { .. }
        | R::OldIncarnation { .. }
        | R::Acknowledged { .. }
        | R::CompactsFuture { .. } => (StatusCode::CONFLICT, "conflict"),
    }
}

fn quota_status(quota: Quota) -> StatusCode {
    match quota {
        // There is room again when others have gone.
        Quota::Sessions | Quota::GroupBytes | Quota::Entities | Quota::Clients => {
            StatusCode::INSUFFICIENT_STORAGE
        }
        Quota::Outstanding => StatusCode::TOO_MANY_REQUESTS,
        Quota::KeyBytes | Quota::TtlSeconds => StatusCode::BAD_REQUEST,
        Quota::VariableBytes
        | Quota::ProgramBytes
        | Quota::MetadataBytes
        | Quota::Operations
        | Quota::CommandBytes
        | Quota::Writes
        | Quota::ReplyBytes => StatusCode::PAYLOAD_TOO_LARGE,
        Quota::VariablesPerSession
        | Quota::ProgramsPerSession
        | Quota::MetadataEntries
        | Quota::Revisions
        | Quota::Epochs
        | Quota::Requests => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

fn call_status(error: &CallError) -> StatusCode {
    match error {
        CallError::NotFound { .. } => StatusCode::NOT_FOUND,
        CallError::NotHere { .. }
        | CallError::Moved { .. }
        | CallError::Unavailable { .. }
        | CallError::Unreachable { .. }
        | CallError::NoQuorum { .. } => StatusCode::SERVICE_UNAVAILABLE,
        CallError::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
        CallError::DeadlineExceeded { .. } => StatusCode::GATEWAY_TIMEOUT,
        CallError::Failed { .. } | CallError::Trapped { .. } | CallError::LimitExceeded { .. } => {
            StatusCode::BAD_GATEWAY
        }
        CallError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        CallError::ReplyForgotten { .. } => StatusCode::CONFLICT,
        CallError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, ..) = self.parts();
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self, "request failed");
        }
        let body = self.body();
        let retryable = body.retryable;
        let mut answer = (status, Json(body)).into_response();
        if retryable {
            answer.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        answer
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest { reason: rejection.body_text().into() }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest { reason: rejection.body_text().into() }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownFirmware { name } => {
                Self::NotFound { what: format!("firmware {name}").into() }
            }
            refusal @ Refusal::Restoring { .. } => {
                Self::Unavailable { reason: refusal.to_string().into() }
            }
            refusal => Self::Conflict { reason: refusal.to_string().into() },
        }
    }
}

impl From<SessionRefusal> for Problem {
    fn from(refusal: SessionRefusal) -> Self {
        Self::Session(Box::new(refusal))
    }
}

impl Problem {
    /// As JSON has it.
    pub(super) fn body(&self) -> ErrorBody {
        let (_, code, retryable) = self.parts();
        ErrorBody { error: code.to_owned(), message: self.to_string(), retryable }
    }

    /// What a body that could not be read comes to.
    pub(super) fn of_body(rejection: &BytesRejection, what: &'static str, limit: usize) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::TooLarge { what, limit };
        }
        Self::BadRequest { reason: rejection.body_text().into() }
    }
}
