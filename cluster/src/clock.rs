//! How far the clocks of two nodes are apart.
//!
//! Nothing in a cluster depends on it: leases and timeouts use time that passes, not the time of
//! day. People do who read logs of several nodes, and certificates are valid by the time of day.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::{NodeId, codec};

use crate::transport::{Class, Serve, ServeError, Service, TransportError, TransportHandle};

/// Questions of one comparison: the one with the shortest way is the most exact.
const QUESTIONS: usize = 3;

/// How far a peer's clock is ahead of this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// By so much, in microseconds; negative when it is behind.
    pub ahead_us: i64,
    /// The answer is exact to so much: half of the round trip.
    pub within: Duration,
}

impl ClockOffset {
    /// What follows when a question was asked at `asked_us`, the answer, `theirs_us`, came after
    /// `took`, and both ways took about the same time. Source: Cristian 1989.
    fn new(asked_us: i64, theirs_us: i64, took: Duration) -> Self {
        let within = took / 2;
        let half = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
        let then = asked_us.saturating_add(half);
        Self { ahead_us: theirs_us.saturating_sub(then), within }
    }
}

/// Compares the clock of `peer` with this node's.
///
/// # Errors
/// [`TransportError`] when the peer does not answer by `deadline`.
pub async fn compare(
    transport: &TransportHandle,
    peer: &NodeId,
    deadline: Duration,
) -> Result<ClockOffset, TransportError> {
    let mut best = ask(transport, peer, deadline).await?;
    for _ in 1..QUESTIONS {
        let next = ask(transport, peer, deadline).await?;
        if next.within < best.within {
            best = next;
        }
    }
    Ok(best)
}

async fn ask(
    transport: &TransportHandle,
    peer: &NodeId,
    deadline: Duration,
) -> Result<ClockOffset, TransportError> {
    let (asked_us, start) = (now_us(), Instant::now());
    let theirs = transport.call(peer, Service::Clock, Class::Consensus, &(), deadline).await?;
    Ok(ClockOffset::new(asked_us, theirs, start.elapsed()))
}

/// The time of day in microseconds since 1970.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Tells peers the time.
#[derive(Debug)]
pub struct Clock;

impl Serve for Clock {
    fn serve(&self, _: NodeId, _: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        Box::pin(async { Ok(codec::encode(&now_us())?.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_there_is_taken_off_the_answer() {
        let offset = |theirs| ClockOffset::new(1_000_000, theirs, Duration::from_millis(10));
        assert_eq!(offset(1_005_000).ahead_us, 0);
        assert_eq!(offset(1_805_000).ahead_us, 800_000);
        assert_eq!(offset(5_000).ahead_us, -1_000_000);
        assert_eq!(offset(0).within, Duration::from_millis(5));
    }
}
