//! The promises around an actor: handles, timers, monitors, names, groups, dead letters,
//! events, counters, the testing kit.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use odeum_actors::testing::{Fault, ManualClock, eventually, inject, probe};
use odeum_actors::{
    Actor, ActorError, Backoff, Breaker, BreakerConfig, BreakerError, BreakerState, Cause, Change,
    Context, Exit, Handle, Intensity, Reply, Restart, Strategy, SubscriptionError, Supervisor,
    SupervisorSpec, TimerKey, Trip, child,
};

const SECOND: Duration = Duration::from_secs(1);

/// Keeps what it is told, and shows everything a context can do.
struct Diary {
    pages: Vec<String>,
    timer: Option<TimerKey>,
}

enum Tell {
    Note(&'static str),
    Read(Reply<Vec<String>>),
    Sleep(Duration),
    After(Duration, &'static str),
    Every(Duration, &'static str),
    Cancel,
    Watch(Handle<Tell>),
    Ended(Option<Exit>),
    Link(Handle<Tell>),
    Register(&'static str),
    Panic,
    SpawnForEver(tokio::sync::oneshot::Sender<()>),
}

impl Clone for Tell {
    fn clone(&self) -> Self {
        match self {
            Self::Note(note) => Self::Note(note),
            _ => Self::Cancel,
        }
    }
}

impl Actor for Diary {
    type Message = Tell;

    async fn handle(&mut self, ctx: &mut Context<Self>, tell: Tell) -> Result<(), ActorError> {
        match tell {
            Tell::Note(note) => self.pages.push(note.into()),
            Tell::Read(reply) => reply.send(self.pages.clone()),
            Tell::Sleep(time) => tokio::time::sleep(time).await,
            Tell::After(wait, note) => self.timer = Some(ctx.tell_after(wait, Tell::Note(note))),
            Tell::Every(wait, note) => {
                self.timer = Some(ctx.tell_every(wait, move || Tell::Note(note)));
            }
            Tell::Cancel => ctx.cancel(self.timer.take().ok_or_else(|| ActorError::msg("none"))?),
            Tell::Watch(other) => drop(ctx.monitor(&other, Tell::Ended)),
            Tell::Ended(exit) => {
                self.pages.push(exit.map_or("absent".into(), |exit| exit.to_string()));
            }
            Tell::Link(other) => ctx.link(&other),
            Tell::Register(name) => ctx.registry().register(name, ctx.handle())?,
            Tell::Panic => return Err(ActorError::msg("torn")),
            Tell::SpawnForEver(held) => {
                ctx.spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
            }
        }
        Ok(())
    }
}

async fn root() -> Supervisor {
    let root = SupervisorSpec::new("root", Strategy::OneForOne).intensity(Intensity::unlimited());
    root.start().await.unwrap()
}

async fn diary(root: &Supervisor, name: &'static str) -> Handle<Tell> {
    let (handle, spec) = child(name, || Diary { pages: Vec::new(), timer: None });
    root.add(spec.backoff(Backoff::immediate())).await.unwrap();
    handle
}

async fn read(handle: &Handle<Tell>) -> Vec<String> {
    handle.ask(SECOND, Tell::Read).await.unwrap_or_default()
}

#[tokio::test]
async fn control_messages_overtake_the_others() {
    let root = root().await;
    let diary = diary(&root, "diary").await;
    diary.tell(Tell::Sleep(Duration::from_millis(20))).await.unwrap();
    diary.tell(Tell::Note("normal")).await.unwrap();
    diary.tell_control(Tell::Note("control")).unwrap();
    assert_eq!(read(&diary).await, ["control", "normal"]);
    root.shutdown().await;
}

#[tokio::test]
async fn timers_fire_repeat_and_are_cancelled() {
    let root = root().await;
    let diary = diary(&root, "diary").await;
    let clock = ManualClock::stop();
    diary.tell(Tell::After(SECOND * 5, "once")).await.unwrap();
    assert!(read(&diary).await.is_empty());
    clock.advance(SECOND * 5).await;
    eventually("fired", async || read(&diary).await == ["once"]).await;
    diary.tell(Tell::Every(SECOND, "tick")).await.unwrap();
    eventually("ticked", async || read(&diary).await.len() >= 4).await;
    diary.tell(Tell::Cancel).await.unwrap();
    let pages = read(&diary).await.len();
    clock.advance(SECOND * 60).await;
    assert_eq!(read(&diary).await.len(), pages);
    drop(clock);
    root.shutdown().await;
}

#[tokio::test]
async fn what_an_actor_owns_ends_with_it() {
    let root = root().await;
    let diary = diary(&root, "diary").await;
    let (held, freed) = tokio::sync::oneshot::channel();
    diary.tell(Tell::SpawnForEver(held)).await.unwrap();
    diary.tell(Tell::Panic).await.unwrap();
    assert!(freed.await.is_err(), "the task was dropped");
    root.shutdown().await;
}

#[tokio::test]
async fn a_monitor_is_told_of_an_end_and_of_absence_at_once() {
    let root = root().await;
    let (watcher, watched) = (diary(&root, "watcher").await, diary(&root, "watched").await);
    watcher.tell(Tell::Watch(watched.clone())).await.unwrap();
    assert!(read(&watcher).await.is_empty());
    watched.tell(Tell::Panic).await.unwrap();
    eventually("told", async || read(&watcher).await == ["failed: torn"]).await;
    root.remove("watched").await.unwrap();
    watcher.tell(Tell::Watch(watched)).await.unwrap();
    eventually("told at once", async || read(&watcher).await.len() == 2).await;
    root.shutdown().await;
}

#[tokio::test]
async fn linked_actors_crash_together_but_do_not_stop_together() {
    let root = root().await;
    let mut events = root.events();
    let (a, b) = (diary(&root, "a").await, diary(&root, "b").await);
    a.tell(Tell::Link(b.clone())).await.unwrap();
    read(&a).await;
    b.tell(Tell::Panic).await.unwrap();
    let mut exits = Vec::new();
    while exits.len() < 2 {
        let event = events.next().await.unwrap();
        if let Change::Exited(exit) = event.change {
            exits.push((event.child.to_string(), exit));
        }
    }
    assert_eq!(exits[1], ("a".to_owned(), Exit::Killed));
    eventually("both are back", async || a.is_running() && b.is_running()).await;
    a.tell(Tell::Link(b.clone())).await.unwrap();
    read(&a).await;
    root.remove("b").await.unwrap();
    assert!(read(&a).await.is_empty() && a.is_running());
    root.shutdown().await;
}

#[tokio::test]
async fn the_registry_never_hands_out_the_dead() {
    let root = root().await;
    let diary = diary(&root, "diary").await;
    diary.tell(Tell::Register("main")).await.unwrap();
    read(&diary).await;
    let registry = root.registry();
    assert!(registry.find::<Tell>("main").is_some());
    assert!(registry.find::<String>("main").is_none(), "of another type");
    let (_, other, spec) = probe::<Tell>("other");
    root.add(spec).await.unwrap();
    assert!(registry.register("main", &other).is_err());
    root.remove("diary").await.unwrap();
    assert!(registry.find::<Tell>("main").is_none());
    let (_, stranger, spec) = probe::<String>("stranger");
    root.add(spec).await.unwrap();
    registry.register("main", &stranger).unwrap();
    assert!(registry.register("main", &other).is_err());
    registry.unregister("main");
    registry.register("main", &other).unwrap();
    assert_eq!(registry.find::<Tell>("main").unwrap().name(), "other");
    root.shutdown().await;
}

#[tokio::test]
async fn a_published_message_reaches_every_member_once() {
    let root = root().await;
    let groups = root.groups();
    let (mut a, a_handle, a_spec) = probe::<Tell>("a");
    let (mut b, b_handle, b_spec) = probe::<Tell>("b");
    root.add(a_spec).await.unwrap();
    root.add(b_spec).await.unwrap();
    for handle in [&a_handle, &a_handle, &b_handle] {
        groups.join("news", handle);
    }
    assert_eq!(groups.publish("news", &Tell::Note("hello")).delivered, 2);
    for probe in [&mut a, &mut b] {
        assert!(matches!(probe.next(SECOND).await, Some(Tell::Note("hello"))));
    }
    groups.leave("news", &b_handle);
    assert_eq!(groups.members::<Tell>("news").len(), 1);
    root.remove("a").await.unwrap();
    assert_eq!(groups.publish("news", &Tell::Note("again")).missed, 1);
    root.shutdown().await;
}

#[tokio::test]
async fn messages_that_nobody_handled_are_listed() {
    let root = root().await;
    let diary = diary(&root, "diary").await;
    diary.tell(Tell::Panic).await.unwrap();
    for _ in 0..3 {
        diary.tell(Tell::Note("lost")).await.unwrap();
    }
    eventually("recorded", async || root.dead_letters_total() == 3).await;
    let letters = root.dead_letters();
    assert_eq!((&*letters[0].actor, letters[0].cause), ("diary", Cause::ActorEnded));
    assert!(letters[0].message.ends_with("Tell"));
    root.shutdown().await;
}

#[tokio::test]
async fn a_slow_observer_is_told_how_much_it_missed() {
    let root = root().await;
    let mut events = root.events();
    for _ in 0..500 {
        root.add(probe::<Tell>("brief").2).await.unwrap();
        root.remove("brief").await.unwrap();
    }
    assert!(matches!(events.next().await, Err(SubscriptionError::Lagged { missed }) if missed > 0));
    assert!(events.next().await.is_ok());
    root.shutdown().await;
}

#[tokio::test]
async fn counters_say_how_much_was_handled_and_how_often_restarted() {
    let root = root().await;
    let diary = diary(&root, "diary").await;
    for _ in 0..10 {
        diary.tell(Tell::Note("x")).await.unwrap();
    }
    diary.tell(Tell::Sleep(Duration::from_millis(5))).await.unwrap();
    diary.tell(Tell::Panic).await.unwrap();
    eventually("restarted", async || root.tree().await.children[0].restarts == 1).await;
    let counted = root.tree().await.children[0].clone();
    assert_eq!(counted.handled, 12);
    assert!(counted.busy >= Duration::from_millis(5));
    root.shutdown().await;
}

#[tokio::test]
async fn a_weak_handle_does_not_keep_a_removed_child() {
    let root = root().await;
    let diary = diary(&root, "diary").await;
    let weak = diary.downgrade();
    drop(diary);
    assert!(weak.upgrade().is_some_and(|handle| handle.is_running()));
    root.remove("diary").await.unwrap();
    eventually("freed", async || weak.upgrade().is_none()).await;
    root.shutdown().await;
}

#[tokio::test]
async fn a_fault_comes_at_the_chosen_message() {
    for (fault, exit) in [
        (Fault::Panic, Exit::Panicked { reason: "injected".into() }),
        (Fault::Fail, Exit::Failed { reason: "injected".into() }),
        (Fault::Kill, Exit::Killed),
    ] {
        let root = root().await;
        let mut events = root.events();
        let (handle, spec) = child("diary", || Diary { pages: Vec::new(), timer: None });
        root.add(spec.restart(Restart::Temporary)).await.unwrap();
        inject(&handle, 3, fault);
        handle.tell(Tell::Note("1")).await.unwrap();
        assert_eq!(read(&handle).await, ["1"]);
        assert!(read(&handle).await.is_empty());
        let ended = loop {
            if let Change::Exited(exit) = events.next().await.unwrap().change {
                break exit;
            }
        };
        assert_eq!(ended, exit);
        root.shutdown().await;
    }
}

#[tokio::test]
async fn a_breaker_opens_waits_and_closes_after_a_good_try() {
    let clock = ManualClock::stop();
    let config = BreakerConfig { trip: Trip::Consecutive(2), open_for: SECOND * 10, trials: 1 };
    let breaker = Breaker::new(config);
    for _ in 0..2 {
        let failed = breaker.call(async { Err::<(), _>("down") }).await;
        assert!(matches!(failed, Err(BreakerError::Failed("down"))));
    }
    let refused = breaker.call(async { Ok::<_, &str>(()) }).await;
    assert!(matches!(refused, Err(BreakerError::Open { .. })));
    clock.advance(SECOND * 10).await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    breaker.call(async { Ok::<_, &str>(()) }).await.unwrap();
    assert_eq!(breaker.state(), BreakerState::Closed);
}
