//! Batches of entries on their way to a follower, a few of them at a time.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered};
use futures::{Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendResult};
use tokio::time::{Instant, sleep_until};

use super::log::weight;
use super::network::Answer;
use super::{LogId, Types};

/// Batches that may be without an answer. More makes smaller ones; one would leave the follower's
/// disk without work for a round trip when the way is long or a disk slow.
const UNDER_WAY: usize = 4;

/// How long after a batch another may follow while there is no answer. What is faster is best done
/// with one batch at a time: each costs both sides more than the entries in it.
const APART: Duration = Duration::from_millis(1);

/// Bytes of entries that may be without an answer beside the first batch: large ones go one by one,
/// or those of many groups would fill the queue to the follower in which heartbeats wait, too.
const UNDER_WAY_BYTES: usize = 1 << 20;

/// A batch that has been sent, and what the follower says to it.
pub(super) type Sent = BoxFuture<'static, Answer<AppendEntriesResponse<Types>>>;

/// The answers to a stream of batches, in their order, up to the first that is no plain success.
pub(super) type Answers<'s> = BoxStream<'s, Answer<StreamAppendResult<Types>>>;

/// What becomes such answers.
pub(super) type Streaming<'s> = BoxFuture<'s, Answer<Answers<'s>>>;

/// Sends what comes from `input` as long as few enough are under way.
pub(super) struct Pipeline<I, F> {
    /// `None` when there is nothing to be sent any more.
    input: Option<I>,
    send: F,
    answers: FuturesOrdered<Sent>,
    /// Of those without an answer, in their order.
    under_way: VecDeque<Batch>,
    /// When the last one went.
    last: Instant,
}

/// What must be known of a batch when its answer comes.
struct Batch {
    previous: Option<LogId>,
    last: Option<LogId>,
    bytes: usize,
    /// Whether one before it had no answer yet when it was sent.
    behind: bool,
}

impl<I, F> Pipeline<I, F>
where
    I: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    F: Fn(&AppendEntriesRequest<Types>) -> Sent + Send,
{
    pub(super) fn new(input: I, send: F) -> Self {
        let (answers, under_way) = (FuturesOrdered::new(), VecDeque::new());
        Self { input: Some(input), send, answers, under_way, last: Instant::now() }
    }

    /// What the follower says.
    pub(super) fn answers<'s>(self) -> Answers<'s>
    where
        F: 's,
    {
        Box::pin(futures::stream::unfold(Some(self), async |pipeline| {
            let mut pipeline = pipeline?;
            let (answer, goes_on) = pipeline.next().await?;
            Some((answer, goes_on.then_some(pipeline)))
        }))
    }

    /// The next answer, and whether the batches behind it still count.
    async fn next(&mut self) -> Option<(Answer<StreamAppendResult<Types>>, bool)> {
        while self.input.is_some() || !self.under_way.is_empty() {
            let from = self.room_from();
            let input = &mut self.input;
            let next = async {
                match (input, from) {
                    (Some(input), Some(from)) => {
                        if from > Instant::now() {
                            sleep_until(from).await;
                        }
                        input.next().await
                    }
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(answer) = self.answers.next() => {
                    let batch = self.under_way.pop_front()?;
                    let last = batch.last;
                    let (answer, goes_on) = batch.answered(answer);
                    // One without entries is behind it, and openraft takes this answer for that
                    // one's, too: as if the follower had heard of the leader when that was sent,
                    // which it may never see. Its own answer says the same.
                    if goes_on && self.under_way.front().is_some_and(|next| next.last == last) {
                        continue;
                    }
                    return Some((answer, goes_on));
                }
                next = next => match next {
                    Some(rpc) => self.push(&rpc),
                    None => self.input = None,
                },
            }
        }
        None
    }

    /// From when on another batch may go, if nothing else changes.
    fn room_from(&self) -> Option<Instant> {
        if self.under_way.is_empty() {
            return Some(self.last);
        }
        let bytes: usize = self.under_way.iter().map(|batch| batch.bytes).sum();
        let few = self.under_way.len() < UNDER_WAY && bytes < UNDER_WAY_BYTES;
        few.then(|| self.last + APART)
    }

    fn push(&mut self, rpc: &AppendEntriesRequest<Types>) {
        let previous = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(previous);
        let bytes = rpc.entries.iter().map(weight).sum();
        let behind = !self.under_way.is_empty();
        self.last = Instant::now();
        self.answers.push_back((self.send)(rpc));
        self.under_way.push_back(Batch { previous, last, bytes, behind });
    }
}

impl Batch {
    fn answered(
        self,
        answer: Answer<AppendEntriesResponse<Types>>,
    ) -> (Answer<StreamAppendResult<Types>>, bool) {
        let goes_on = match &answer {
            Ok(AppendEntriesResponse::Success) => true,
            Ok(AppendEntriesResponse::PartialSuccess(upto)) => *upto == self.last,
            // It may have overtaken the one before it, which was then lost or is there by now:
            // this says nothing of the follower's log, and all is sent again from what is known.
            // Nor can one that is right conflict with what nothing is before.
            Ok(AppendEntriesResponse::Conflict) if self.behind || self.previous.is_none() => {
                let reason = "entries arrived without those before them";
                return (Err(RPCError::Network(NetworkError::from_string(reason))), false);
            }
            _ => false,
        };
        (answer.map(|answer| answer.into_stream_result(self.previous, self.last)), goes_on)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::FutureExt as _;
    use odeum_proto::LogTime;
    use odeum_proto::log::Proposal;
    use openraft::raft::StreamAppendError;
    use tokio::sync::oneshot;

    use super::super::Vote;
    use super::super::convert::{entry_from, log_id_from, vote_from};
    use super::*;

    type Reply = AppendEntriesResponse<Types>;

    /// Batches that were sent and are not answered.
    #[derive(Clone, Default)]
    struct Follower(Arc<Mutex<Vec<oneshot::Sender<Reply>>>>);

    impl Follower {
        fn take(&self) -> Vec<oneshot::Sender<Reply>> {
            std::mem::take(&mut *self.0.lock().expect("not poisoned"))
        }

        fn answers(&self, batches: u64) -> Answers<'static> {
            self.answers_to((1..=batches).map(batch).collect())
        }

        fn answers_to(&self, batches: Vec<AppendEntriesRequest<Types>>) -> Answers<'static> {
            let sent = Arc::clone(&self.0);
            let send = move |_: &AppendEntriesRequest<Types>| -> Sent {
                let (sender, receiver) = oneshot::channel();
                sent.lock().expect("not poisoned").push(sender);
                async move { Ok(receiver.await.expect("answered")) }.boxed()
            };
            Pipeline::new(futures::stream::iter(batches), send).answers()
        }
    }

    fn id(index: u64) -> LogId {
        log_id_from(odeum_proto::log::LogId { term: 1, index })
    }

    /// The batch of entry `index`.
    fn batch(index: u64) -> AppendEntriesRequest<Types> {
        let voted_for = "n1".parse().expect("a name");
        let vote: Vote = vote_from(odeum_proto::log::Vote { term: 1, voted_for, committed: true });
        let proposal = Proposal { at: LogTime::default(), command: Vec::new().into() };
        let payload = odeum_proto::log::Payload::Command(proposal);
        let at = odeum_proto::log::LogId { term: 1, index };
        let entry = entry_from(odeum_proto::log::Entry { id: at, payload });
        AppendEntriesRequest {
            vote,
            prev_log_id: Some(id(index - 1)),
            entries: vec![entry],
            leader_commit: None,
        }
    }

    /// Has all sent that can be sent without an answer.
    async fn settle(answers: &mut Answers<'static>) {
        for _ in 0..=UNDER_WAY {
            assert!(answers.next().now_or_never().is_none());
            tokio::time::advance(APART).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_batches_are_under_way_and_their_answers_come_in_their_order() {
        let follower = Follower::default();
        let mut answers = follower.answers(UNDER_WAY as u64 + 1);
        assert!(answers.next().now_or_never().is_none());
        let mut sent = follower.take();
        assert_eq!(sent.len(), 1, "the next one waits for an answer or some time");
        settle(&mut answers).await;
        sent.append(&mut follower.take());
        assert_eq!(sent.len(), UNDER_WAY);
        for waits in sent.into_iter().rev() {
            waits.send(Reply::Success).expect("waited for");
        }
        for index in 1..=UNDER_WAY as u64 {
            let answer = answers.next().now_or_never().expect("there").expect("not the end");
            assert_eq!(answer.expect("no error"), Ok(Some(id(index))));
        }
        assert!(answers.next().now_or_never().is_none());
        let [last] = <[_; 1]>::try_from(follower.take()).expect("one more");
        last.send(Reply::Success).expect("waited for");
        assert!(answers.next().now_or_never().expect("there").is_some());
        assert!(answers.next().now_or_never().expect("the end").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_says_something_of_the_follower_only_when_nothing_was_before_it() {
        let follower = Follower::default();
        let mut answers = follower.answers(2);
        settle(&mut answers).await;
        let [first, second] = <[_; 2]>::try_from(follower.take()).expect("two");
        second.send(Reply::Conflict).expect("waited for");
        first.send(Reply::Success).expect("waited for");
        assert!(matches!(answers.next().now_or_never(), Some(Some(Ok(Ok(_))))));
        assert!(matches!(answers.next().now_or_never(), Some(Some(Err(RPCError::Network(_))))));
        assert!(matches!(answers.next().now_or_never(), Some(None)));

        let mut answers = follower.answers(2);
        settle(&mut answers).await;
        let mut sent = follower.take();
        sent.remove(0).send(Reply::Conflict).expect("waited for");
        let told = answers.next().now_or_never().expect("there").expect("not the end");
        assert_eq!(told.expect("no error"), Err(StreamAppendError::Conflict(id(0))));
        assert!(matches!(answers.next().now_or_never(), Some(None)), "the second one is void");
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_to_a_batch_is_not_taken_for_that_to_a_later_one_that_adds_nothing() {
        let follower = Follower::default();
        let more = AppendEntriesRequest { prev_log_id: Some(id(1)), entries: vec![], ..batch(1) };
        let mut answers = follower.answers_to(vec![batch(1), more]);
        settle(&mut answers).await;
        let [first, second] = <[_; 2]>::try_from(follower.take()).expect("two");
        first.send(Reply::Success).expect("waited for");
        assert!(answers.next().now_or_never().is_none());
        second.send(Reply::Success).expect("waited for");
        let told = answers.next().now_or_never().expect("there").expect("not the end");
        assert_eq!(told.expect("no error"), Ok(Some(id(1))));
        assert!(matches!(answers.next().now_or_never(), Some(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn large_batches_go_one_by_one() {
        let follower = Follower::default();
        let mut large = batch(1);
        let command = vec![0; UNDER_WAY_BYTES].into();
        let payload =
            odeum_proto::log::Payload::Command(Proposal { at: LogTime::default(), command });
        let at = odeum_proto::log::LogId { term: 1, index: 1 };
        large.entries = vec![entry_from(odeum_proto::log::Entry { id: at, payload })];
        let mut answers = follower.answers_to(vec![large, batch(2), batch(3)]);
        settle(&mut answers).await;
        let [first] = <[_; 1]>::try_from(follower.take()).expect("one");
        first.send(Reply::Success).expect("waited for");
        assert!(answers.next().now_or_never().expect("there").is_some());
        settle(&mut answers).await;
        assert_eq!(follower.take().len(), 2);
    }
}
