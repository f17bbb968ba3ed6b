//! Batches of entries on their way to a follower, a few of them at a time.

use std::collections::VecDeque;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesOrdered};
use futures::{FutureExt as _, Stream, StreamExt as _};
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

/// How long after a batch with entries another may follow while there is no answer. What is faster is
/// best done with one batch at a time: each costs both sides more than the entries in it.
const APART: Duration = Duration::from_millis(1);

/// Entries in a batch that are many: so much goes on that the next one waits for any answer, by when more
/// will have gathered.
const MANY: usize = 64;

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
    /// How many entries the last one had that had any.
    entries: usize,
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
        Self { input: Some(input), send, answers, under_way, last: Instant::now(), entries: 0 }
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
                    Some(rpc) => {
                        let rpc = self.joined(rpc).await;
                        self.push(&rpc);
                    }
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
        // Those without entries say what is committed: the follower's disk has nothing to do.
        let at_once = bytes == 0 && self.entries < MANY;
        few.then(|| self.last + if at_once { Duration::ZERO } else { APART })
    }

    /// One without entries goes with those that come from what this thread has to do anyway: what
    /// is committed is often what somebody waited for who then asks for the next. Not when much is
    /// committed, which the follower had better begin with.
    async fn joined(&mut self, rpc: AppendEntriesRequest<Types>) -> AppendEntriesRequest<Types> {
        // Behind another it stays by itself: openraft would take the answer to that one for its own.
        if !rpc.entries.is_empty() || !self.under_way.is_empty() || self.entries >= MANY {
            return rpc;
        }
        tokio::task::yield_now().await;
        let next = self.input.as_mut().and_then(|input| input.next().now_or_never());
        match next {
            None => rpc,
            Some(None) => {
                self.input = None;
                rpc
            }
            Some(Some(next)) => {
                debug_assert_eq!(next.prev_log_id, rpc.prev_log_id, "one stream, one log");
                next
            }
        }
    }

    fn push(&mut self, rpc: &AppendEntriesRequest<Types>) {
        let previous = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(previous);
        let bytes = rpc.entries.iter().map(weight).sum();
        let behind = !self.under_way.is_empty();
        self.last = Instant::now();
        if !rpc.entries.is_empty() {
            self.entries = rpc.entries.len();
        }
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

    use futures::stream::{iter, poll_fn};
    use odeum_proto::LogTime;
    use odeum_proto::log::Proposal;
    use openraft::raft::StreamAppendError;
    use tokio::sync::{mpsc, oneshot};

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
            self.answers_to(iter((1..=batches).map(batch)))
        }

        /// As [`answers_to`](Self::answers_to), to batches that are given in by and by.
        fn answers_one_by_one(
            &self,
        ) -> (mpsc::Sender<AppendEntriesRequest<Types>>, Answers<'static>) {
            let (sender, mut receiver) = mpsc::channel(4);
            (sender, self.answers_to(poll_fn(move |cx| receiver.poll_recv(cx))))
        }

        fn answers_to(
            &self,
            input: impl Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
        ) -> Answers<'static> {
            let sent = Arc::clone(&self.0);
            let send = move |_: &AppendEntriesRequest<Types>| -> Sent {
                let (sender, receiver) = oneshot::channel();
                sent.lock().expect("not poisoned").push(sender);
                async move { Ok(receiver.await.expect("answered")) }.boxed()
            };
            Pipeline::new(input, send).answers()
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

    /// What says only what is committed, behind entry `index`.
    fn commit(index: u64) -> AppendEntriesRequest<Types> {
        AppendEntriesRequest { entries: vec![], ..batch(index + 1) }
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
        let mut answers = follower.answers_to(iter([batch(1), commit(1)]));
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
    async fn what_is_committed_goes_with_entries_that_come_at_once() {
        let follower = Follower::default();
        let mut answers = follower.answers_to(iter([commit(0), batch(1)]));
        assert!(answers.next().now_or_never().is_none());
        assert!(follower.take().is_empty(), "something may follow at once");
        assert!(answers.next().now_or_never().is_none());
        let [both] = <[_; 1]>::try_from(follower.take()).expect("one");
        both.send(Reply::Success).expect("waited for");
        let told = answers.next().now_or_never().expect("there").expect("not the end");
        assert_eq!(told.expect("no error"), Ok(Some(id(1))));
        assert!(matches!(answers.next().now_or_never(), Some(None)));
    }

    #[tokio::test(start_paused = true)]
    async fn entries_do_not_wait_for_the_answer_to_a_batch_that_has_none() {
        let follower = Follower::default();
        let (sender, mut answers) = follower.answers_one_by_one();
        sender.try_send(commit(0)).expect("room");
        assert!(answers.next().now_or_never().is_none());
        assert!(answers.next().now_or_never().is_none());
        let committed = follower.take();
        assert_eq!(committed.len(), 1, "nothing followed at once");
        sender.try_send(batch(1)).expect("room");
        sender.try_send(batch(2)).expect("room");
        assert!(answers.next().now_or_never().is_none());
        assert_eq!(follower.take().len(), 1, "the third one waits behind entries");
        drop(committed);
    }

    #[tokio::test(start_paused = true)]
    async fn after_many_entries_the_next_ones_wait_for_any_answer() {
        let follower = Follower::default();
        let (sender, mut answers) = follower.answers_one_by_one();
        let many = (1..=MANY as u64).flat_map(|index| batch(index).entries).collect();
        sender.try_send(AppendEntriesRequest { entries: many, ..batch(1) }).expect("room");
        assert!(answers.next().now_or_never().is_none());
        for sent in follower.take() {
            sent.send(Reply::Success).expect("waited for");
        }
        assert!(answers.next().now_or_never().is_some());
        sender.try_send(commit(MANY as u64)).expect("room");
        assert!(answers.next().now_or_never().is_none());
        let committed = follower.take();
        assert_eq!(committed.len(), 1, "it does not wait for what may follow");
        sender.try_send(batch(MANY as u64 + 1)).expect("room");
        assert!(answers.next().now_or_never().is_none());
        assert_eq!(follower.take().len(), 0, "more may gather");
        drop(committed);
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
        let mut answers = follower.answers_to(iter([large, batch(2), batch(3)]));
        settle(&mut answers).await;
        let [first] = <[_; 1]>::try_from(follower.take()).expect("one");
        first.send(Reply::Success).expect("waited for");
        assert!(answers.next().now_or_never().expect("there").is_some());
        settle(&mut answers).await;
        assert_eq!(follower.take().len(), 2);
    }
}
