//! A request that is tried at one node after the other until it is answered or its time is over: as a
//! client does that wants to reach a cluster and not a node.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use odeum_runtime::api::client::{ApiClient, ApiError};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep};

/// How long the first try may take: a node that does not answer within it is given up for another. It
/// doubles, for what is slow everywhere is not answered any sooner when it is asked again and again.
const TRY: Duration = Duration::from_secs(2);

/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(10);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// The nodes, which are asked in turn.
#[derive(Debug)]
pub(crate) struct Nodes {
    clients: Vec<ApiClient>,
    names: Vec<String>,
    next: AtomicUsize,
}

impl Nodes {
    pub(crate) fn new(clients: Vec<ApiClient>, names: Vec<String>, first: usize) -> Self {
        Self { clients, names, next: AtomicUsize::new(first) }
    }

    /// The place of the node whose turn it is.
    pub(crate) fn turn(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len().max(1)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.clients.len()
    }

    /// The client of one.
    pub(crate) fn at(&self, place: usize) -> Option<&ApiClient> {
        self.clients.get(place % self.clients.len().max(1))
    }

    /// The names of all.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

/// What one try came to.
#[derive(Debug)]
pub(crate) enum Judged<T> {
    /// An answer.
    Done(T),
    /// None, and another try may have one.
    Again,
    /// The node says no, and others would as well.
    Failed(ApiError),
}

/// The tries of one request.
#[derive(Debug)]
pub(crate) struct Tries<'a> {
    nodes: &'a Nodes,
    /// The node that is asked.
    pub(crate) place: usize,
    until: Instant,
    pause: Duration,
    limit: Duration,
    begun: bool,
    /// Tries beyond the first.
    pub(crate) retried: u64,
    /// Whether one of them may have had an effect.
    pub(crate) unknown: bool,
    /// Why the last one failed.
    error: String,
}

impl<'a> Tries<'a> {
    /// Of a request that may take so long.
    pub(crate) fn new(nodes: &'a Nodes, deadline: Duration) -> Self {
        Self {
            nodes,
            place: nodes.turn(),
            until: Instant::now() + deadline,
            pause: PAUSE,
            limit: TRY,
            begun: false,
            retried: 0,
            unknown: false,
            error: "deadline".to_owned(),
        }
    }

    /// The next node, and how long it may take; `None` when the time is over.
    pub(crate) async fn next(&mut self) -> Option<(&'a ApiClient, Duration)> {
        if self.begun {
            let left = self.until.saturating_duration_since(Instant::now());
            if left <= self.pause {
                return None;
            }
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.retried += 1;
            self.place = (self.place + 1) % self.nodes.len().max(1);
        }
        self.begun = true;
        let left = self.until.saturating_duration_since(Instant::now());
        let limit = left.min(self.limit);
        if limit.is_zero() {
            return None;
        }
        Some((self.nodes.at(self.place)?, limit))
    }

    /// Takes down what a try came to.
    pub(crate) fn judge<T>(&mut self, result: Result<Result<T, ApiError>, Elapsed>) -> Judged<T> {
        match result {
            Ok(Ok(answer)) => Judged::Done(answer),
            Err(_) => {
                self.unknown = true;
                self.limit *= 2;
                "no answer in time".clone_into(&mut self.error);
                Judged::Again
            }
            Ok(Err(error)) => {
                self.unknown |= error.may_have_had_an_effect();
                self.error = name_of(&error);
                // What may have been done is asked for again under the same request id.
                if error.is_retryable() || error.may_have_had_an_effect() {
                    Judged::Again
                } else {
                    Judged::Failed(error)
                }
            }
        }
    }

    /// Why it failed, in a word.
    pub(crate) fn error(self) -> String {
        self.error
    }
}

/// An error in a word: those of the same word are counted together.
pub(crate) fn name_of(error: &ApiError) -> String {
    match error {
        ApiError::Refused { code, .. } => code.to_string(),
        ApiError::NotRunning { .. } => "not running".to_owned(),
        ApiError::NoAnswer { .. } => "connection lost".to_owned(),
        ApiError::NotOdeum { .. } => "not an odeum".to_owned(),
        ApiError::BadUrl { .. } | ApiError::NoPath { .. } | ApiError::Client { .. } => {
            "bad address".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        let clients =
            ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(|url| ApiClient::new(url).unwrap());
        Nodes::new(clients.to_vec(), vec!["n1".to_owned(), "n2".to_owned()], 0)
    }

    fn refused(retryable: bool) -> ApiError {
        let (code, message) = ("trapped".into(), "it traps".into());
        ApiError::Refused { status: 500, code, message, retryable }
    }

    #[tokio::test]
    async fn what_may_be_answered_elsewhere_is_tried_there_and_is_given_longer_each_time() {
        let nodes = nodes();
        let mut tries = Tries::new(&nodes, Duration::from_secs(3_600));
        let mut asked = Vec::new();
        for _ in 0..3 {
            let (client, limit) = tries.next().await.unwrap();
            asked.push((client.url().port().unwrap(), limit.as_secs()));
            let nothing = tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()).await;
            assert!(matches!(tries.judge(nothing.map(Ok)), Judged::Again));
        }
        assert_eq!(asked, [(1, 2), (2, 4), (1, 8)]);
        assert!(tries.unknown && tries.retried == 2);
        assert_eq!(tries.error(), "no answer in time");
    }

    #[tokio::test]
    async fn nothing_is_tried_when_its_time_is_over() {
        let nodes = nodes();
        let mut tries = Tries::new(&nodes, Duration::ZERO);
        assert!(tries.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_refused_for_good_is_not_tried_again() {
        let nodes = nodes();
        let mut tries = Tries::new(&nodes, Duration::from_secs(10));
        assert!(tries.next().await.is_some());
        assert!(matches!(tries.judge::<()>(Ok(Err(refused(true)))), Judged::Again));
        assert!(matches!(tries.judge::<()>(Ok(Err(refused(false)))), Judged::Failed(_)));
        assert!(!tries.unknown);
        assert_eq!(tries.error(), "trapped");
    }
}
