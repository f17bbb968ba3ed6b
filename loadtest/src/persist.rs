//! Requests that are tried until they are done: a cluster in which nodes die elects leaders and is busy
//! with itself for moments, and says so.

use std::time::Duration;

use anyhow::Context as _;
use odeum_runtime::api::client::{ApiClient, ApiError};
use tokio::time::{Instant, sleep, timeout_at};

/// How long one node may take: one that is stopped or cut off says nothing at all.
const TRY: Duration = Duration::from_secs(20);

/// The pause before a request is tried again, at the next node.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries a request that may be made twice at one node after the other, until one has carried it out or the
/// time is over.
///
/// # Errors
/// The node's, if trying again would not help; the last one, when the time is over.
pub(crate) async fn persist<T, F>(
    clients: &[ApiClient],
    until: Instant,
    ask: impl Fn(ApiClient) -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut last = None;
    for client in clients.iter().cycle() {
        let end = until.min(Instant::now() + TRY);
        match timeout_at(end, ask(client.clone())).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) if error.is_retryable() || error.may_have_had_an_effect() => {
                last = Some(error);
            }
            Ok(Err(error)) => return Err(error.into()),
            // The next one may.
            Err(_) => {}
        }
        if Instant::now() + PAUSE >= until {
            break;
        }
        sleep(PAUSE).await;
    }
    match last {
        Some(error) => Err(error).context("tried until the time was over"),
        None => anyhow::bail!("no node has answered in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::ready;

    use super::*;

    /// Asks two nodes, whose answers are these, for some time; what came, and who was asked.
    async fn asked(
        answers: Vec<Result<(), ApiError>>,
        time: Duration,
    ) -> (anyhow::Result<()>, Vec<String>) {
        let clients = ["http://a:1", "http://b:1"].map(|url| ApiClient::new(url).unwrap());
        let (answers, asked) = (RefCell::new(answers.into_iter()), RefCell::new(Vec::new()));
        let done = persist(&clients, Instant::now() + time, |client: ApiClient| {
            asked.borrow_mut().push(client.url().host_str().unwrap().to_owned());
            ready(answers.borrow_mut().next().unwrap_or_else(|| Err(refused(503, "no-quorum"))))
        })
        .await;
        (done, asked.into_inner())
    }

    fn refused(status: u16, code: &str) -> ApiError {
        let retryable = status == 503;
        ApiError::Refused { status, code: code.into(), message: code.into(), retryable }
    }

    #[tokio::test]
    async fn what_a_store_without_a_leader_refuses_is_tried_at_the_next_node() {
        let answers = vec![Err(refused(503, "unavailable")), Err(refused(504, "deadline")), Ok(())];
        let (done, nodes) = asked(answers, Duration::from_secs(60)).await;
        done.unwrap();
        assert_eq!(nodes, ["a", "b", "a"]);
    }

    #[tokio::test]
    async fn what_is_refused_for_good_is_not_tried_again() {
        let (done, nodes) =
            asked(vec![Err(refused(422, "bad-package"))], Duration::from_secs(60)).await;
        assert!(done.unwrap_err().to_string().contains("bad-package"));
        assert_eq!(nodes, ["a"]);
    }

    #[tokio::test]
    async fn when_the_time_is_over_the_last_refusal_is_told() {
        let (done, nodes) = asked(Vec::new(), Duration::from_millis(1)).await;
        assert!(format!("{:#}", done.unwrap_err()).contains("no-quorum"));
        assert_eq!(nodes, ["a"]);
    }
}
