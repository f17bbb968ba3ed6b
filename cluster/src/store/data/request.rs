//! The answers that a session remembers, by idempotency key.
//!
//! Bounded twice: an answer is forgotten after [`limits::REQUEST_WINDOW`] of log time, and the
//! oldest one when there are more than [`limits::REQUESTS_PER_SESSION`]. They end with the
//! session: a request that comes again after that is a new one. A refused request is not
//! remembered; it changed nothing and may be tried again under its key.

use std::collections::VecDeque;

use odeum_proto::session::{DataAction, DataOutcome};
use odeum_proto::{Digest, LogTime, RequestId, codec, limits};
use serde::{Deserialize, Serialize};

/// What an answer costs in a snapshot beside its key and outcome: a hash, a time, a length.
const ANSWER_OVERHEAD: u64 = 48;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Answers {
    oldest_first: VecDeque<Answer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) request: RequestId,
    at: LogTime,
    /// Of the action, so that another one under the same key is found out.
    pub(super) action: Digest,
    pub(super) outcome: DataOutcome,
}

/// What `action` is known by.
pub(super) fn digest(action: &DataAction) -> Digest {
    // Encoding fails for types that cannot be written, which this one can.
    Digest::of(&codec::encode(action).unwrap_or_default())
}

/// What remembering an answer counts, at least, before its outcome is known.
pub(super) fn least_bytes(request: &RequestId, action: &DataAction) -> u64 {
    const PER_OPERATION: usize = 12;
    let operations = match action {
        DataAction::Batch { operations, .. } => operations.len(),
        DataAction::Transaction { then, otherwise, .. } => then.len().max(otherwise.len()),
        _ => 0,
    };
    let outcome = DataOutcome::Replayed { reply: None }.weight() + operations * PER_OPERATION;
    (request.as_str().len() + outcome) as u64 + ANSWER_OVERHEAD
}

/// What remembering an answer counts.
pub(super) fn answer_bytes(request: &RequestId, outcome: &DataOutcome) -> u64 {
    (request.as_str().len() + outcome.weight()) as u64 + ANSWER_OVERHEAD
}

impl Answers {
    /// The answer to `request`, unless it is too old at `now`.
    pub(super) fn get(&self, request: &RequestId, now: LogTime) -> Option<&Answer> {
        let answer = self.oldest_first.iter().rev().find(|answer| answer.request == *request)?;
        (!answer.is_over(now)).then_some(answer)
    }

    /// Remembers an answer; those that are too old or too many leave. Says by how many counted
    /// bytes they grew.
    pub(super) fn remember(
        &mut self,
        request: &RequestId,
        action: Digest,
        outcome: DataOutcome,
        now: LogTime,
    ) -> i64 {
        let mut grown = 0_i64;
        while self.oldest_first.front().is_some_and(|answer| answer.is_over(now))
            || self.oldest_first.len() >= limits::REQUESTS_PER_SESSION
        {
            let gone = self.oldest_first.pop_front();
            grown = grown.saturating_sub_unsigned(gone.map_or(0, |answer| answer.bytes()));
        }
        let answer = Answer { request: request.clone(), at: now, action, outcome };
        grown = grown.saturating_add_unsigned(answer.bytes());
        self.oldest_first.push_back(answer);
        grown
    }

    /// All of them, oldest first, each with its time.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Answer, LogTime)> {
        self.oldest_first.iter().map(|answer| (answer, answer.at))
    }

    /// Takes one back that is later than those that are there.
    pub(super) fn import(
        &mut self,
        request: RequestId,
        at: LogTime,
        action: Digest,
        outcome: DataOutcome,
    ) {
        self.oldest_first.push_back(Answer { request, at, action, outcome });
    }

    /// Makes them younger by `took` milliseconds, in which nobody could ask for them.
    pub(super) fn rejuvenate(&mut self, took: u64) {
        for answer in &mut self.oldest_first {
            answer.at = LogTime(answer.at.0.saturating_add(took));
        }
    }

    /// Whether none is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.oldest_first.is_empty()
    }

    /// What they count against the group's quota.
    pub(super) fn bytes(&self) -> u64 {
        self.oldest_first.iter().map(Answer::bytes).sum()
    }
}

impl Answer {
    fn is_over(&self, now: LogTime) -> bool {
        now >= self.at.after(limits::REQUEST_WINDOW)
    }

    fn bytes(&self) -> u64 {
        answer_bytes(&self.request, &self.outcome)
    }
}
