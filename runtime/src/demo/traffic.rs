//! Messages that keep flowing while things break: a few senders, each with one message under way.
//!
//! A sender gives each message an idempotency key of its own and repeats it with that key, through
//! whatever node the route names at the time, until it is acknowledged. So when the traffic has
//! ended there is no message of unknown fate, and the [verdict](super::verdict) can be exact.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use odeum_proto::{Name, NodeId, RequestId};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::api::{
    client::{ApiClient, ApiError},
    types::{CallAnswer, CallOptions},
};

/// Messages under way at a time: enough that a kill always hits some, few enough that a laptop
/// does not notice.
const SENDERS: usize = 3;
/// Pause of a sender between two messages, so that the demo shows a cluster at work rather than
/// at its limit.
const PAUSE: Duration = Duration::from_millis(5);
/// How long one try may take. A call that was under way when its host died is repeated after this
/// at the latest.
const TRY_DEADLINE: Duration = Duration::from_secs(1);
/// First and longest pause before a repetition.
const RETRY_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(160));
/// The session that the messages are about.
pub(super) const SESSION: &str = "demo";

/// The way messages take.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The node they go through.
    pub via: NodeId,
    /// The client of its API.
    pub client: ApiClient,
}

/// One acknowledged message.
#[derive(Debug, Clone)]
pub(super) struct Ack {
    /// The count that the guest replied.
    pub count: u64,
    /// The node where the guest answered.
    pub host: NodeId,
    /// When the acknowledgement arrived.
    pub at: Instant,
    /// Whether an earlier try had taken effect and this is its remembered reply.
    pub replayed: bool,
}

/// Everything that became of the messages so far.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// In the order in which they were acknowledged.
    pub acks: Vec<Ack>,
    /// Tries beyond the first of each message.
    pub retries: u64,
    /// Why a sender gave up, if one did, and through which node.
    pub failure: Option<(NodeId, Box<str>)>,
}

impl Log {
    /// The first message acknowledged after `at` that `wanted` accepts.
    pub(super) fn first_after(&self, at: Instant, wanted: impl Fn(&Ack) -> bool) -> Option<&Ack> {
        let start = self.acks.partition_point(|ack| ack.at <= at);
        self.acks.get(start..)?.iter().find(|ack| wanted(ack))
    }

    /// The longest time without an acknowledgement since the last one before `since`.
    pub(super) fn longest_gap(&self, since: Instant) -> Duration {
        let start = self.acks.partition_point(|ack| ack.at <= since).saturating_sub(1);
        let times = self.acks.get(start..).unwrap_or_default().windows(2);
        times.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
    }

    /// The highest count acknowledged.
    pub(super) fn highest(&self) -> u64 {
        self.acks.iter().map(|ack| ack.count).max().unwrap_or_default()
    }
}

/// The senders and what they have learned.
#[derive(Debug)]
pub(super) struct Traffic {
    /// `None` tells the senders to end when their message is acknowledged.
    route: watch::Sender<Option<Route>>,
    log: Arc<watch::Sender<Log>>,
    senders: JoinSet<()>,
}

impl Traffic {
    /// Starts to send to `firmware`.
    pub(super) fn start(firmware: &Name, route: Route) -> Self {
        let log = Arc::new(watch::Sender::new(Log::default()));
        let mut senders = JoinSet::new();
        let (way, _) = watch::channel(Some(route.clone()));
        for _ in 0..SENDERS {
            let sender = Sender {
                firmware: firmware.clone(),
                route: way.subscribe(),
                last: route.clone(),
                log: Arc::clone(&log),
            };
            senders.spawn(sender.run());
        }
        Self { route: way, log, senders }
    }

    /// Sends everything from now on, repetitions included, another way.
    pub(super) fn reroute(&self, route: Route) {
        self.route.send_replace(Some(route));
    }

    /// The node that messages go through.
    pub(super) fn via(&self) -> Option<NodeId> {
        self.route.borrow().as_ref().map(|route| route.via.clone())
    }

    /// Looks into the log. `look` must be quick: acknowledgements wait for it.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Log) -> R) -> R {
        look(&self.log.borrow())
    }

    /// Ends the traffic: no new messages, each that is under way until its acknowledgement.
    /// `None` when that took longer than `deadline`.
    pub(super) async fn finish(mut self, deadline: Duration) -> Option<Log> {
        self.route.send_replace(None);
        let all = async { while self.senders.join_next().await.is_some() {} };
        timeout(deadline, all).await.ok()?;
        Some(self.log.send_replace(Log::default()))
    }
}

struct Sender {
    firmware: Name,
    route: watch::Receiver<Option<Route>>,
    /// The way to repeat a message when there is no new one any more.
    last: Route,
    log: Arc<watch::Sender<Log>>,
}

impl Sender {
    async fn run(mut self) {
        while self.follow_route() {
            match self.deliver().await {
                Ok(ack) => self.log.send_modify(|log| log.acks.push(ack)),
                Err(reason) => {
                    let via = self.last.via.clone();
                    self.log.send_modify(|log| log.failure = Some((via, reason)));
                    return;
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Takes the present route; `false` when there is to be no new message.
    fn follow_route(&mut self) -> bool {
        match &*self.route.borrow_and_update() {
            Some(route) => {
                self.last = route.clone();
                true
            }
            None => false,
        }
    }

    /// One message until its acknowledgement, or until it is refused for good.
    async fn deliver(&mut self) -> Result<Ack, Box<str>> {
        let options = CallOptions {
            key: None,
            request: Some(RequestId::random()),
            session: Some(SESSION.to_owned()),
            deadline: TRY_DEADLINE,
        };
        let mut pause = RETRY_PAUSES.0;
        loop {
            let answer = self.last.client.call(&self.firmware, b"add 1".to_vec(), &options).await;
            match answer {
                Ok(answer) => {
                    let count = count_of(&answer)
                        .ok_or_else(|| format!("a reply that is no count: {answer:?}"))?;
                    let CallAnswer { node: host, replayed, .. } = answer;
                    return Ok(Ack { count, host, at: Instant::now(), replayed });
                }
                Err(error) if may_repeat(&error) => {
                    self.log.send_modify(|log| log.retries += 1);
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSES.1);
                    self.follow_route();
                }
                Err(error) => return Err(error.to_string().into()),
            }
        }
    }
}

/// Whether the same message with the same key may be sent again. Besides what the API calls
/// retryable that is a missed deadline: what became of the message is what the key will tell.
pub(super) fn may_repeat(error: &ApiError) -> bool {
    error.is_retryable() || error.code() == Some("deadline-exceeded")
}

/// The count that a reply of the guest says.
pub(super) fn count_of(answer: &CallAnswer) -> Option<u64> {
    std::str::from_utf8(&answer.body).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(start: Instant, times: &[u64]) -> Log {
        let ack = |(n, ms): (usize, &u64)| Ack {
            count: n as u64 + 1,
            host: if *ms < 100 { "n1" } else { "n2" }.parse().expect("an id"),
            at: start + Duration::from_millis(*ms),
            replayed: false,
        };
        Log { acks: times.iter().enumerate().map(ack).collect(), ..Log::default() }
    }

    #[test]
    fn the_first_acknowledgement_of_another_host_is_found() {
        let start = Instant::now();
        let log = log(start, &[10, 20, 60, 150, 160]);
        let killed = start + Duration::from_millis(20);
        let back = log.first_after(killed, |ack| ack.host.as_str() != "n1");
        assert_eq!(back.map(|ack| ack.count), Some(4));
        assert!(log.first_after(start + Duration::from_millis(160), |_| true).is_none());
    }

    #[test]
    fn a_gap_counts_from_the_last_acknowledgement_before_it() {
        let start = Instant::now();
        let log = log(start, &[0, 90, 100, 300, 310]);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(log.longest_gap(at(150)), Duration::from_millis(200));
        assert_eq!(log.longest_gap(at(305)), Duration::from_millis(10));
        assert_eq!(log.longest_gap(at(400)), Duration::ZERO);
    }
}
