//! Many readers, one question: who comes while a question to the leader is under way takes part
//! in the next one.
//!
//! An answer serves whoever came before its question was asked, since all that had been
//! acknowledged then is in it. So the number of questions is bounded by their round trip, however
//! many read.

use std::sync::atomic::{AtomicU64, Ordering};

use odeum_proto::Revision;
use tokio::sync::Mutex;

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consistency {
    /// It shows every write that was acknowledged before: a majority confirms its leader. One
    /// round trip to the leader and one from there to a majority, shared by all who read at once.
    #[default]
    Linearizable,
    /// The same while the clocks of all nodes run equally fast, to a tenth or so: the leader
    /// answers alone while nobody else can have been elected. One round trip to the leader.
    Lease,
    /// What this node has, at once: it may be behind, while this node is cut off by any length.
    Local,
}

/// Questions of one kind to the leader of one group.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    asked: AtomicU64,
    answered: Mutex<Answered>,
}

#[derive(Debug, Default)]
struct Answered {
    round: u64,
    revision: Revision,
}

impl Rounds {
    /// The answer to a question that was asked after this call: another's, or by `ask`.
    ///
    /// # Errors
    /// What `ask` says. Others that wait ask themselves then.
    pub(super) async fn join<E>(
        &self,
        ask: impl AsyncFnOnce() -> Result<Revision, E>,
    ) -> Result<Revision, E> {
        let before = self.asked.load(Ordering::Acquire);
        let mut answered = self.answered.lock().await;
        if answered.round > before {
            return Ok(answered.revision);
        }
        // Nobody else asks while this holds the lock.
        let round = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let revision = ask().await?;
        *answered = Answered { round, revision };
        Ok(revision)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn an_answer_serves_only_those_who_came_before_its_question() {
        let rounds = Arc::new(Rounds::default());
        let gate = Arc::new(Semaphore::new(0));
        let asks = Arc::new(AtomicU64::new(0));
        let reader = || {
            let (rounds, gate, asks) = (Arc::clone(&rounds), Arc::clone(&gate), Arc::clone(&asks));
            tokio::spawn(async move {
                let ask = async || {
                    let number = asks.fetch_add(1, Ordering::SeqCst) + 1;
                    gate.acquire().await.map_err(drop)?.forget();
                    Ok::<_, ()>(Revision(number))
                };
                rounds.join(ask).await
            })
        };
        let first = reader();
        while asks.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        // The first question is under way: what is acknowledged now may not be in its answer.
        let late: Vec<_> = (0..10).map(|_| reader()).collect();
        tokio::task::yield_now().await;
        gate.add_permits(2);
        assert_eq!(first.await.expect("no panic"), Ok(Revision(1)));
        for reader in late {
            assert_eq!(reader.await.expect("no panic"), Ok(Revision(2)));
        }
        assert_eq!(asks.load(Ordering::SeqCst), 2, "ten readers asked once");
    }

    #[tokio::test]
    async fn a_question_that_fails_fails_nobody_else() {
        let rounds = Rounds::default();
        assert_eq!(rounds.join(async || Err("lost")).await, Err("lost"));
        assert_eq!(rounds.join(async || Ok::<_, &str>(Revision(7))).await, Ok(Revision(7)));
    }
}
