//! A node that begins anew when it is told to: it ends in good order, and its process runs its
//! program again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use odeum_cluster::{
    store::{Consistency, StoreHandle},
    transport::{Serve, ServeError},
};
use odeum_proto::{
    GroupId, Incarnation, NodeId, codec,
    restart::{Question, Standing},
};
use tokio::sync::watch;

/// How long a group of the store may take for one try to tell what is the newest.
const NEWEST: Duration = Duration::from_secs(5);

/// Pause before the next one.
const PAUSE: Duration = Duration::from_millis(100);

/// The life of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Life {
    incarnation: Incarnation,
    caught_up: Arc<AtomicBool>,
    is_to_end: watch::Sender<bool>,
}

impl Life {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        let (caught_up, is_to_end) = (Arc::default(), watch::Sender::new(false));
        Self { incarnation, caught_up, is_to_end }
    }

    pub(super) fn standing(&self) -> Standing {
        let caught_up = self.caught_up.load(Ordering::Relaxed);
        Standing { incarnation: self.incarnation, caught_up }
    }

    /// Ends the life `incarnation`, if that is this one.
    pub(super) fn end(&self, incarnation: Incarnation) {
        if incarnation == self.incarnation {
            self.is_to_end.send_replace(true);
        }
    }

    /// Returns when it is to end so that the next one begins.
    pub(super) async fn over(&self) {
        // The sender is in this very value.
        let _ = self.is_to_end.subscribe().wait_for(|is| *is).await;
    }

    /// Notes when this node knows all that was acknowledged in any group before it began.
    pub(super) async fn catch_up(self, store: StoreHandle) {
        loop {
            // An error means that it does not know its cluster yet.
            if let Ok(groups) = store.data_groups() {
                let newest = groups.into_iter().chain([GroupId::Control]).map(async |group| {
                    store.barrier_of(group, Consistency::Linearizable, NEWEST).await.is_ok()
                });
                if join_all(newest).await.into_iter().all(|is| is) {
                    self.caught_up.store(true, Ordering::Relaxed);
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Serve for Life {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let life = self.clone();
        Box::pin(async move {
            if let Question::Restart { incarnation } = codec::decode(&body)? {
                life.end(incarnation);
            }
            Ok(codec::encode(&life.standing())?.into())
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn only_the_life_that_is_meant_ends() {
        let life = Life::new(Incarnation(3));
        life.end(Incarnation(2));
        assert_eq!(life.over().now_or_never(), None);
        let question = codec::encode(&Question::Restart { incarnation: Incarnation(3) });
        let asker = "n1".parse().expect("a name");
        let answer =
            life.serve(asker, question.expect("it can be").into()).await.expect("answered");
        let standing: Standing = codec::decode(&answer).expect("an answer");
        assert_eq!(standing, Standing { incarnation: Incarnation(3), caught_up: false });
        assert_eq!(life.over().now_or_never(), Some(()));
    }
}
