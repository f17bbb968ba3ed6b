//! The actor, with a store that answers or does not, and a clock that is turned by hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use futures::future::BoxFuture;
use odeum_actors::{Strategy, Supervisor, SupervisorSpec};
use tokio::sync::watch;
use tokio::time::{Instant, advance, sleep};

use super::super::actor::{Office, Sight, lease};
use super::super::book::Entry;
use super::super::{Lease, LeaseConfig, LeaseHandle};
use super::*;
use crate::store::{StoreError, StoreTiming};

/// A store of one replica that this node leads.
struct Desk {
    me: Weak<Desk>,
    local: NodeId,
    state: Mutex<State>,
    changed: watch::Sender<Revision>,
    /// Whether it does not answer.
    is_silent: AtomicBool,
    /// How long an answer takes after what is asked is done.
    takes: Mutex<Duration>,
    /// How long a renewal takes before it is done.
    delay: Mutex<Duration>,
}

impl Desk {
    fn apply(&self, command: &Command) -> Outcome {
        let mut state = self.state.lock().expect("no panic");
        let revision = Revision(self.changed.borrow().0 + 1);
        let outcome = state.apply(revision, command);
        self.changed.send_replace(revision);
        outcome
    }

    fn is_leased(&self, n: usize) -> bool {
        self.state.lock().expect("no panic").is_leased(&node(n))
    }
}

impl Office for Desk {
    fn holder(&self) -> (&NodeId, Incarnation) {
        (&self.local, Incarnation(1))
    }

    fn look(&self) -> Sight {
        let state = self.state.lock().expect("no panic");
        let entry = |(node, epoch, renewal): (&NodeId, _, _)| {
            let (node, seen) = (node.clone(), Instant::now());
            Entry { node, epoch, renewal, seen }
        };
        let leased = state.leased().map(entry).collect();
        Sight { is_on_record: true, leads: true, is_led: true, leased }
    }

    fn changes(&self) -> watch::Receiver<Revision> {
        self.changed.subscribe()
    }

    fn write(
        &self,
        command: Command,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(async move {
            if self.is_silent.load(Ordering::Relaxed) {
                sleep(deadline).await;
                return Err(StoreError::Deadline { after: deadline, reason: "as told".into() });
            }
            let delay = match command {
                Command::RenewLease { .. } => *self.delay.lock().expect("no panic"),
                _ => Duration::ZERO,
            };
            let me = self.me.upgrade().expect("it is asked");
            // What is on its way arrives, whether its asker is still there or not.
            let applied = tokio::spawn(async move {
                sleep(delay).await;
                me.apply(&command)
            });
            let outcome = applied.await.expect("no panic");
            let takes = *self.takes.lock().expect("no panic");
            sleep(takes).await;
            Ok(outcome)
        })
    }
}

struct Stage {
    desk: Arc<Desk>,
    handle: LeaseHandle,
    root: Supervisor,
}

impl Stage {
    async fn new(takes: Duration) -> Self {
        let (state, last) = founded(2);
        let desk = Arc::new_cyclic(|me| Desk {
            me: Weak::clone(me),
            local: node(0),
            state: Mutex::new(state),
            changed: watch::Sender::new(last),
            is_silent: AtomicBool::new(false),
            takes: Mutex::new(takes),
            delay: Mutex::default(),
        });
        let config = LeaseConfig::of(StoreTiming::default());
        assert_eq!(config.ttl, TTL);
        let (handle, spec) = lease(Arc::clone(&desk) as _, config);
        let root = SupervisorSpec::new("Node", Strategy::OneForOne).child(spec);
        Self { desk, handle, root: root.start().await.expect("starts") }
    }

    async fn until(&self, wanted: impl Fn(&Lease) -> bool) -> Lease {
        *self.handle.watch().wait_for(wanted).await.expect("it runs")
    }

    fn holds(&self) -> bool {
        self.handle.holds(Instant::now())
    }
}

fn is_held(lease: &Lease) -> bool {
    matches!(lease, Lease::Held { .. })
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_had_at_once_and_renewed_for_as_long_as_the_store_answers() {
    let stage = Stage::new(200 * MS).await;
    let began = Instant::now();
    let first = stage.until(is_held).await;
    assert!(began.elapsed() <= 250 * MS, "{:?}", began.elapsed());
    for _ in 0..600 {
        sleep(100 * MS).await;
        assert!(stage.holds());
    }
    let now = Instant::now();
    assert_eq!(stage.handle.watch().borrow().epoch(now), first.epoch(began + 200 * MS));
    assert!(stage.handle.all().contains_key(&node(0)));
}

#[tokio::test(start_paused = true)]
async fn without_answers_it_is_over_in_time_and_the_next_one_is_another() {
    let stage = Stage::new(Duration::ZERO).await;
    let first = stage.until(is_held).await;
    stage.desk.is_silent.store(true, Ordering::Relaxed);
    let asked = Instant::now();
    stage.until(|lease| !is_held(lease)).await;
    // It may have been renewed half a second before.
    assert!(asked.elapsed() <= TTL && asked.elapsed() >= 2_200 * MS, "{:?}", asked.elapsed());
    assert!(!stage.holds() && stage.desk.is_leased(0), "it is over here first");
    sleep(TTL / 5).await;
    // Whoever leads says that it is over; here that is done by hand, since nobody is answered.
    let epoch = stage.handle.all()[&node(0)].epoch;
    stage.desk.apply(&Command::EndLease { node: node(0), epoch, renewed: None });
    stage.desk.is_silent.store(false, Ordering::Relaxed);
    let second = stage.until(is_held).await;
    let now = Instant::now();
    assert!(second.epoch(now) > first.epoch(asked), "{second:?} after {first:?}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_finds_first_that_its_lease_is_over() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.until(is_held).await;
    // The clock goes on and nothing runs, no timer and no actor.
    advance(4 * TTL).await;
    assert!(!stage.holds());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_counts_from_before_it_was_asked_for_however_late_its_answer_is() {
    let stage = Stage::new(2_800 * MS).await;
    for _ in 0..100 {
        sleep(100 * MS).await;
        assert!(!stage.holds(), "the answer comes when the time is over");
    }
    *stage.desk.takes.lock().expect("no panic") = 2_600 * MS;
    stage.until(|lease| lease.holds(Instant::now())).await;
    sleep(101 * MS).await;
    assert!(!stage.holds());
}

#[tokio::test(start_paused = true)]
async fn who_leads_ends_the_lease_of_another_when_its_time_is_over_and_not_before() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.until(is_held).await;
    for _ in 0..4 {
        stage.desk.apply(&renewal(1));
        sleep(TTL - 10 * MS).await;
        assert!(stage.desk.is_leased(1));
    }
    sleep(30 * MS).await;
    assert!(!stage.desk.is_leased(1), "it was not renewed");
    assert!(stage.desk.is_leased(0), "that was all the while");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_gives_its_lease_back() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.until(is_held).await;
    assert!(stage.desk.is_leased(0));
    stage.root.shutdown().await;
    assert!(!stage.holds() && !stage.desk.is_leased(0));
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_under_way_gives_a_node_that_stops_no_new_lease() {
    let stage = Stage::new(Duration::ZERO).await;
    stage.until(is_held).await;
    *stage.desk.delay.lock().expect("no panic") = 200 * MS;
    // Half a second after the last one comes the next, which is made while the node stops.
    sleep(TTL / 6 + 50 * MS).await;
    stage.root.shutdown().await;
    sleep(TTL / 2).await;
    assert!(!stage.desk.is_leased(0));
}
