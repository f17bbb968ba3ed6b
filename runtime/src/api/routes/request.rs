//! What the requests about sessions have in common: how their parts are read, and their outcomes.

use std::{fmt::Display, str::FromStr};

use axum::{
    extract::rejection::BytesRejection,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use bytes::Bytes;
use odeum_proto::{
    RequestId, SessionId,
    session::{DataOutcome, Done, Glob},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::api::{
    node::Sight,
    problem::Problem,
    types::{
        Changed, DEFAULT_PAGE, LEADER_HEARD_HEADER, MAX_PAGE, OperationResult, REQUEST_HEADER,
        REVISION_HEADER, Reading, Written,
    },
};

/// A malformed request.
pub(super) fn bad(reason: impl Display) -> Problem {
    Problem::BadRequest { reason: reason.to_string().into() }
}

/// What a read may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    #[serde(default)]
    pub(super) consistency: Reading,
}

/// The text of a header.
pub(super) fn header<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> Result<Option<&'a str>, Problem> {
    let text = headers.get(name).map(HeaderValue::to_str);
    text.transpose().map_err(|_| bad_header(name, &"it is not ASCII"))
}

/// The value of a header.
pub(super) fn parsed<T: FromStr<Err: Display>>(
    name: &'static str,
    text: &str,
) -> Result<T, Problem> {
    text.parse().map_err(|error| bad_header(name, &error))
}

pub(super) fn bad_header(name: &'static str, reason: &dyn Display) -> Problem {
    bad(format_args!("header {name}: {reason}"))
}

/// The idempotency key, if there is one.
pub(super) fn request(headers: &HeaderMap) -> Result<Option<RequestId>, Problem> {
    header(headers, REQUEST_HEADER)?.map(|text| parsed(REQUEST_HEADER, text)).transpose()
}

/// The bytes of a body of at most `limit` bytes.
pub(super) fn body(
    body: Result<Bytes, BytesRejection>,
    what: &'static str,
    limit: usize,
) -> Result<Bytes, Problem> {
    body.map_err(|error| Problem::of_body(&error, what, limit))
}

/// What the JSON of a body says.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Err(bad("the body is empty: JSON is expected"));
    }
    serde_json::from_slice(body).map_err(|error| bad(format_args!("the body: {error}")))
}

/// How many items a page has.
pub(super) fn page_limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        limit => Err(bad(format_args!("a page has 1 to {MAX_PAGE} items, not {limit}"))),
    }
}

/// What is to be selected; everything, unless it is said.
pub(super) fn glob(matching: Option<Glob>) -> Glob {
    matching.unwrap_or_else(Glob::all)
}

/// Headers that say how fresh an answer is.
pub(super) fn freshness(sight: &Sight) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(REVISION_HEADER), HeaderValue::from(sight.at.0));
    if let Some(heard) = sight.leader_heard {
        let ms = u64::try_from(heard.as_millis()).unwrap_or(u64::MAX);
        headers.insert(HeaderName::from_static(LEADER_HEARD_HEADER), HeaderValue::from(ms));
    }
    headers
}

/// There is no such session.
pub(super) fn no_session(id: &SessionId) -> Problem {
    Problem::NotFound { what: format!("session {id}").into() }
}

/// What a write of a variable came to.
pub(super) fn written(outcome: DataOutcome) -> Result<Written, Problem> {
    match outcome {
        DataOutcome::Operated {
            revision,
            done: Done::Registered { version, .. } | Done::Written { version },
        } => Ok(Written { version, revision }),
        other => Err(unexpected(&other)),
    }
}

/// What a change without a result came to.
pub(super) fn changed(outcome: DataOutcome) -> Result<Changed, Problem> {
    match outcome {
        DataOutcome::Applied { revision }
        | DataOutcome::Operated { revision, done: Done::Stored } => Ok(Changed { revision }),
        other => Err(unexpected(&other)),
    }
}

/// What the removal of `what` came to: it must have been there.
pub(super) fn removed(
    outcome: DataOutcome,
    what: impl FnOnce() -> String,
) -> Result<StatusCode, Problem> {
    match outcome {
        DataOutcome::Deleted { existed: true, .. }
        | DataOutcome::Operated { done: Done::Removed { existed: true }, .. } => {
            Ok(StatusCode::NO_CONTENT)
        }
        DataOutcome::Deleted { .. } | DataOutcome::Operated { done: Done::Removed { .. }, .. } => {
            Err(Problem::NotFound { what: what().into() })
        }
        other => Err(unexpected(&other)),
    }
}

/// What one of several operations came to.
pub(super) fn result(done: Done) -> OperationResult {
    match done {
        Done::Registered { version, changed } => OperationResult {
            version: Some(version),
            changed: Some(changed),
            ..OperationResult::default()
        },
        Done::Written { version } => {
            OperationResult { version: Some(version), ..OperationResult::default() }
        }
        Done::Removed { existed } => {
            OperationResult { existed: Some(existed), ..OperationResult::default() }
        }
        Done::Stored => OperationResult::default(),
    }
}

/// The store answered something else than was asked: a defect.
pub(super) fn unexpected(outcome: &DataOutcome) -> Problem {
    Problem::Internal { reason: format!("{outcome:?} to another request").into() }
}

/// A version in the form of an entity tag, and back.
pub(super) fn tag(version: u64) -> String {
    format!("\"{version}\"")
}

/// The version that a conditional request expects, by its query or its headers; 0 for none.
pub(super) fn expected(query: Option<u64>, headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let is = header(headers, "if-match")?.map(|text| {
        let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        digits.unwrap_or(text).parse::<u64>().map_err(|_| {
            bad_header("if-match", &format_args!("{text} is no version such as \"3\""))
        })
    });
    let none = header(headers, "if-none-match")?.map(|text| match text {
        "*" => Ok(0),
        _ => Err(bad_header("if-none-match", &"only * is understood: it must not be there")),
    });
    let mut given = [query.map(Ok), is, none].into_iter().flatten();
    let Some(first) = given.next().transpose()? else { return Ok(None) };
    for other in given {
        let other = other?;
        if other != first {
            return Err(bad(format_args!("two versions are expected, {first} and {other}")));
        }
    }
    Ok(Some(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        [(HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect()
    }

    #[test]
    fn the_expected_version_comes_from_the_query_or_a_header() {
        assert_eq!(expected(None, &HeaderMap::new()), Ok(None));
        assert_eq!(expected(Some(3), &HeaderMap::new()), Ok(Some(3)));
        assert_eq!(expected(None, &headers("if-match", "\"3\"")), Ok(Some(3)));
        assert_eq!(expected(Some(3), &headers("if-match", "3")), Ok(Some(3)));
        assert_eq!(expected(None, &headers("if-none-match", "*")), Ok(Some(0)));
    }

    #[test]
    fn what_contradicts_itself_or_is_no_version_is_refused() {
        for (query, name, value) in [
            (Some(4), "if-match", "\"3\""),
            (None, "if-match", "W/\"3\""),
            (None, "if-match", "*"),
            (None, "if-none-match", "\"3\""),
        ] {
            let problem = expected(query, &headers(name, value)).expect_err(value);
            assert!(matches!(problem, Problem::BadRequest { .. }), "{problem:?}");
        }
    }
}
