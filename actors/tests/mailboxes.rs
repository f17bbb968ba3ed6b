//! What a bounded mailbox promises to senders of many messages: they are taken in one go and
//! in order, what does not fit stays with the sender, and it is told of space.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use odeum_actors::testing::eventually;
use odeum_actors::{
    Actor, ActorError, Cause, Context, Down, Handle, Overflow, Strategy, Supervisor,
    SupervisorSpec, child,
};
use tokio::sync::{Semaphore, mpsc};

/// Handles a message for each permit and shows what it handled.
struct Gated {
    permits: Arc<Semaphore>,
    handled: mpsc::Sender<u32>,
}

impl Actor for Gated {
    type Message = u32;

    async fn handle(&mut self, _: &mut Context<Self>, message: u32) -> Result<(), ActorError> {
        self.permits.acquire().await?.forget();
        self.handled.send(message).await?;
        Ok(())
    }
}

/// Keeps its thread for a millisecond with each message.
struct Busy;

impl Actor for Busy {
    type Message = ();

    async fn handle(&mut self, _: &mut Context<Self>, (): ()) -> Result<(), ActorError> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        Ok(())
    }
}

#[tokio::test]
async fn an_actor_with_much_to_compute_leaves_others_their_turns() {
    let (actor, spec) = child("busy", || Busy);
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec.capacity(200));
    let root = root.start().await.unwrap();
    for _ in 0..200 {
        actor.tell(()).await.unwrap();
    }
    let mut turns = 0;
    while actor.depth() > 0 {
        tokio::task::yield_now().await;
        turns += 1;
    }
    assert!(turns >= 50, "{turns} turns beside 200 messages of a millisecond");
    root.shutdown().await;
}

struct Fixture {
    root: Supervisor,
    actor: Handle<u32>,
    permits: Arc<Semaphore>,
    handled: mpsc::Receiver<u32>,
}

impl Fixture {
    async fn new(capacity: usize, overflow: Overflow) -> Self {
        let permits = Arc::new(Semaphore::new(0));
        let (sender, handled) = mpsc::channel(64);
        let gate = Arc::clone(&permits);
        let (actor, spec) =
            child("gated", move || Gated { permits: gate.clone(), handled: sender.clone() });
        let spec = spec.capacity(capacity).overflow(overflow);
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec);
        Self { root: root.start().await.unwrap(), actor, permits, handled }
    }

    /// An actor that is stuck in message 0, with an empty mailbox.
    async fn busy(capacity: usize, overflow: Overflow) -> Self {
        let fixture = Self::new(capacity, overflow).await;
        fixture.actor.tell(0).await.unwrap();
        eventually("begun", async || fixture.actor.depth() == 0).await;
        fixture
    }

    async fn next(&mut self, count: usize) -> Vec<u32> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.push(self.handled.recv().await.unwrap());
        }
        messages
    }

    async fn end(self) {
        self.permits.close();
        self.root.shutdown().await;
    }
}

#[tokio::test]
async fn a_batch_goes_in_as_far_as_it_fits_and_the_rest_stays_in_order() {
    let mut fixture = Fixture::busy(4, Overflow::Wait).await;
    fixture.actor.try_tell(1).unwrap();
    let mut batch = VecDeque::from([2, 3, 4, 5, 6]);
    assert_eq!(fixture.actor.try_tell_many(&mut batch), Ok(3));
    assert_eq!(batch, [5, 6]);
    assert_eq!(fixture.actor.try_tell_many(&mut batch), Ok(0));
    assert_eq!(batch, [5, 6]);
    fixture.permits.add_permits(3);
    assert_eq!(fixture.next(3).await, [0, 1, 2]);
    fixture.actor.space().await;
    eventually("two were taken out", async || fixture.actor.depth() <= 2).await;
    assert_eq!(fixture.actor.try_tell_many(&mut batch), Ok(2));
    fixture.permits.add_permits(10);
    assert_eq!(fixture.next(4).await, [3, 4, 5, 6]);
    fixture.end().await;
}

#[tokio::test]
async fn a_batch_wakes_an_idle_actor() {
    let mut fixture = Fixture::new(4, Overflow::Wait).await;
    fixture.permits.add_permits(10);
    assert_eq!(fixture.actor.try_tell_many(&mut VecDeque::new()), Ok(0));
    assert_eq!(fixture.actor.try_tell_many(&mut VecDeque::from([1, 2])), Ok(2));
    assert_eq!(fixture.next(2).await, [1, 2]);
    fixture.end().await;
}

#[tokio::test]
async fn a_batch_for_an_actor_that_is_down_stays_whole() {
    let fixture = Fixture::new(4, Overflow::Wait).await;
    let actor = fixture.actor.clone();
    fixture.end().await;
    let mut batch = VecDeque::from([1, 2]);
    assert_eq!(actor.try_tell_many(&mut batch), Err(Down));
    assert_eq!(batch, [1, 2]);
}

#[tokio::test]
async fn a_batch_drops_the_oldest_where_that_is_the_policy() {
    let mut fixture = Fixture::busy(2, Overflow::DropOldest).await;
    fixture.actor.try_tell(1).unwrap();
    assert_eq!(fixture.actor.try_tell_many(&mut VecDeque::from([2, 3, 4])), Ok(3));
    let letters = fixture.root.dead_letters();
    assert_eq!((letters[0].count, letters[0].cause), (2, Cause::Evicted));
    fixture.permits.add_permits(10);
    assert_eq!(fixture.next(3).await, [0, 3, 4]);
    fixture.end().await;
}

/// Two senders of batches and two that tell, all at once: each sender's messages keep their
/// order, and what went in together comes out together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_and_concurrent_tells_keep_each_senders_order() {
    const EACH: u32 = 5_000;
    let mut fixture = Fixture::new(64, Overflow::Wait).await;
    fixture.permits.add_permits(Semaphore::MAX_PERMITS / 2);
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..4 {
        let actor = fixture.actor.clone();
        senders.spawn(async move {
            let numbers = (0..EACH).map(|n| n * 4 + sender);
            let mut taken = Vec::new();
            if sender < 2 {
                let mut batch: VecDeque<u32> = numbers.collect();
                while !batch.is_empty() {
                    let first = batch.front().copied().unwrap();
                    match actor.try_tell_many(&mut batch).unwrap() {
                        0 => {}
                        count => taken.push((first, count)),
                    }
                    actor.space().await;
                }
            } else {
                for number in numbers {
                    actor.tell(number).await.unwrap();
                }
            }
            taken
        });
    }
    let all = fixture.next(4 * EACH as usize).await;
    for sender in 0..4 {
        let of_sender = all.iter().copied().filter(|n| n % 4 == sender);
        assert!(of_sender.eq((0..EACH).map(|n| n * 4 + sender)));
    }
    while let Some(taken) = senders.join_next().await {
        for (first, count) in taken.unwrap() {
            let at = all.iter().position(|n| *n == first).unwrap();
            assert!(all[at..at + count].iter().all(|n| n % 4 == first % 4), "batch was split");
        }
    }
    fixture.end().await;
}

#[tokio::test]
async fn space_is_told_when_there_is_some_and_when_the_actor_is_down() {
    let mut fixture = Fixture::busy(1, Overflow::Wait).await;
    assert!(fixture.actor.space().now_or_never().is_some(), "there is space now");
    fixture.actor.try_tell(1).unwrap();
    let actor = fixture.actor.clone();
    let mut space = std::pin::pin!(actor.space());
    assert!(space.as_mut().now_or_never().is_none(), "it is full");
    fixture.permits.add_permits(1);
    space.await;
    assert_eq!(fixture.next(1).await, [0]);

    fixture.actor.try_tell(2).unwrap();
    let mut space = std::pin::pin!(actor.space());
    assert!(space.as_mut().now_or_never().is_none(), "it is full again");
    // Only asked for: the actor is in the middle of a message.
    assert!(fixture.root.remove("gated").now_or_never().is_none());
    space.await;
    fixture.end().await;
}

/// Who waits for space and then sends nothing, or gives up waiting, must not keep those from
/// it who do send.
#[tokio::test]
async fn waiters_for_space_that_do_not_send_hold_up_nobody() {
    let mut fixture = Fixture::busy(1, Overflow::Wait).await;
    fixture.actor.try_tell(1).unwrap();
    let actor = fixture.actor.clone();
    let mut gives_up = Box::pin(actor.space());
    assert!(gives_up.as_mut().now_or_never().is_none());
    let mut only_looks = Box::pin(actor.space());
    assert!(only_looks.as_mut().now_or_never().is_none());
    let mut sends = Box::pin(actor.tell(2));
    assert!(sends.as_mut().now_or_never().is_none());
    fixture.permits.add_permits(1);
    assert_eq!(fixture.next(1).await, [0]);
    drop(gives_up);
    only_looks.await;
    tokio::time::timeout(Duration::from_secs(20), sends).await.unwrap().unwrap();
    fixture.permits.add_permits(10);
    assert_eq!(fixture.next(2).await, [1, 2]);
    fixture.end().await;
}
