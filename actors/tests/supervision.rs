//! The promises of supervision, on a real runtime.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use odeum_actors::{
    Actor, ActorError, AskError, Backoff, Change, ChildSpec, Context, Exit, Handle, Intensity,
    Reply, Restart, Shutdown, StartError, Strategy, SupervisorError, SupervisorSpec, TellError,
    child,
};

const SECOND: Duration = Duration::from_secs(1);

type Log = Arc<Mutex<Vec<String>>>;

/// Does what it is told.
struct Puppet {
    name: &'static str,
    log: Log,
    start: Start,
    starts: Arc<AtomicU32>,
}

#[derive(Clone, Copy, PartialEq)]
enum Start {
    Well,
    Fails,
    FailsAgain,
    Hangs,
}

enum Order {
    Starts(Reply<u32>),
    Panic,
    Fail,
    Stop,
    Sleep(Duration, Reply<()>),
    Forget(Reply<()>),
    PanicInReply(Reply<()>),
}

impl Puppet {
    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(format!("{} {what}", self.name));
    }
}

impl Actor for Puppet {
    type Message = Order;

    async fn started(&mut self, _: &mut Context<Self>) -> Result<(), ActorError> {
        let starts = self.starts.fetch_add(1, Ordering::SeqCst);
        match self.start {
            Start::Well => {}
            Start::Fails => return Err(ActorError::msg("no luck")),
            Start::FailsAgain if starts > 0 => return Err(ActorError::msg("no luck")),
            Start::FailsAgain => {}
            Start::Hangs => std::future::pending().await,
        }
        self.note("started");
        Ok(())
    }

    async fn handle(&mut self, ctx: &mut Context<Self>, order: Order) -> Result<(), ActorError> {
        match order {
            Order::Starts(reply) => reply.send(self.starts.load(Ordering::SeqCst)),
            Order::Panic => panic!("as told"),
            Order::Fail => return Err(ActorError::msg("as told")),
            Order::Stop => ctx.stop(),
            Order::Sleep(time, reply) => {
                tokio::time::sleep(time).await;
                reply.send(());
            }
            Order::Forget(reply) => drop(reply),
            Order::PanicInReply(_reply) => panic!("before replying"),
        }
        Ok(())
    }

    async fn stopping(&mut self, _: &mut Context<Self>) {
        self.note("stopped");
    }
}

fn puppet_with(name: &'static str, log: &Log, start: Start) -> (Handle<Order>, ChildSpec) {
    let (log, starts) = (Arc::clone(log), Arc::new(AtomicU32::new(0)));
    let (handle, spec) = child(name, move || Puppet {
        name,
        log: Arc::clone(&log),
        start,
        starts: Arc::clone(&starts),
    });
    (handle, spec.backoff(Backoff::immediate()))
}

fn puppet(name: &'static str, log: &Log) -> (Handle<Order>, ChildSpec) {
    puppet_with(name, log, Start::Well)
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

/// Waits until it holds.
async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}");
}

async fn starts(handle: &Handle<Order>) -> u32 {
    handle.ask(SECOND, Order::Starts).await.unwrap_or(0)
}

#[tokio::test]
async fn children_start_in_order_and_stop_in_reverse() {
    let log = Log::default();
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(puppet("a", &log).1)
        .supervisor(
            SupervisorSpec::new("inner", Strategy::OneForOne)
                .child(puppet("b", &log).1)
                .child(puppet("c", &log).1),
        )
        .child(puppet("d", &log).1)
        .start()
        .await
        .unwrap();
    assert_eq!(taken(&log), ["a started", "b started", "c started", "d started"]);
    let tree = root.tree().await.to_string();
    let drawn = "root (running)\n├─ a (running)\n├─ inner (running)\n│  ├─ b (running)\n\
                 │  └─ c (running)\n└─ d (running)";
    assert_eq!(tree, drawn);
    root.shutdown().await;
    assert_eq!(taken(&log), ["d stopped", "c stopped", "b stopped", "a stopped"]);
    assert_eq!(root.finished().await, Exit::Shutdown);
}

#[tokio::test]
async fn a_handle_outlives_restarts_of_its_child() {
    let log = Log::default();
    let (handle, spec) = puppet("a", &log);
    assert!(matches!(handle.tell(Order::Stop).await, Err(TellError::Down(Order::Stop))));
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .intensity(Intensity::unlimited())
        .child(spec)
        .start()
        .await
        .unwrap();
    assert_eq!(starts(&handle).await, 1);
    for (count, order) in [(2, Order::Panic), (3, Order::Fail), (4, Order::Stop)] {
        handle.tell(order).await.unwrap();
        eventually("restarted", async || starts(&handle).await == count).await;
    }
    root.shutdown().await;
    assert_eq!(handle.ask(SECOND, Order::Starts).await, Err(AskError::Down));
}

#[tokio::test]
async fn who_asks_a_child_that_dies_gets_an_error_at_once() {
    let log = Log::default();
    let (handle, spec) = puppet("a", &log);
    let spec = spec.backoff(Backoff::fixed(Duration::from_secs(60)));
    let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(handle.ask(hour, Order::Forget).await, Err(AskError::Dropped));
    let (asked, waiting) =
        tokio::join!(handle.ask(hour, Order::PanicInReply), handle.ask(hour, Order::Starts),);
    assert_eq!(asked, Err(AskError::Dropped));
    assert_eq!(waiting, Err(AskError::Dropped));
    assert_eq!(handle.ask(hour, Order::Starts).await, Err(AskError::Down));
    root.shutdown().await;
}

#[tokio::test]
async fn one_for_all_restarts_all_and_rest_for_one_the_rest() {
    for (strategy, again) in [
        (Strategy::OneForOne, vec!["b started"]),
        (
            Strategy::OneForAll,
            vec!["c stopped", "a stopped", "a started", "b started", "c started"],
        ),
        (Strategy::RestForOne, vec!["c stopped", "b started", "c started"]),
    ] {
        let log = Log::default();
        let (b, b_spec) = puppet("b", &log);
        let (c, c_spec) = puppet("c", &log);
        let root = SupervisorSpec::new("root", strategy)
            .child(puppet("a", &log).1)
            .child(b_spec)
            .child(c_spec)
            .start()
            .await
            .unwrap();
        taken(&log);
        b.tell(Order::Panic).await.unwrap();
        eventually("b is back", async || starts(&b).await == 2).await;
        eventually("c is up", async || c.is_running()).await;
        assert_eq!(taken(&log), again, "{strategy:?}");
        root.shutdown().await;
    }
}

#[tokio::test]
async fn transient_and_temporary_children_end_as_their_policy_says() {
    let log = Log::default();
    let (transient, spec) = puppet("transient", &log);
    let (temporary, other) = puppet("temporary", &log);
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(spec.restart(Restart::Transient))
        .child(other.restart(Restart::Temporary))
        .start()
        .await
        .unwrap();
    transient.tell(Order::Fail).await.unwrap();
    eventually("restarted", async || starts(&transient).await == 2).await;
    transient.tell(Order::Stop).await.unwrap();
    temporary.tell(Order::Fail).await.unwrap();
    eventually("forgotten", async || root.tree().await.children.len() == 1).await;
    eventually("ended", async || !transient.is_running()).await;
    root.restart("transient").await.unwrap();
    assert_eq!(starts(&transient).await, 3);
    root.shutdown().await;
}

#[tokio::test]
async fn a_supervisor_gives_up_upwards_with_a_report() {
    let log = Log::default();
    let (handle, spec) = puppet_with("bad", &log, Start::FailsAgain);
    let inner = SupervisorSpec::new("inner", Strategy::OneForOne)
        .intensity(Intensity::new(2, Duration::from_secs(60)))
        .child(spec);
    let (_, inner) = inner.nested();
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .intensity(Intensity::new(0, Duration::from_secs(60)))
        .child(inner)
        .start()
        .await
        .unwrap();
    handle.tell(Order::Panic).await.unwrap();
    let Exit::GaveUp(report) = root.finished().await else { panic!("did not give up") };
    assert_eq!(&*report.child, "inner");
    let text = report.to_string();
    assert!(text.contains("inner gave up on bad"), "{text}");
    assert!(text.contains("panicked: as told") && text.contains("no luck"), "{text}");
}

#[tokio::test]
async fn a_supervisor_that_gave_up_is_restarted_with_its_whole_subtree() {
    let log = Log::default();
    let (a, a_spec) = puppet("a", &log);
    let (b, b_spec) = puppet("b", &log);
    let (inner, inner_spec) = SupervisorSpec::new("inner", Strategy::OneForOne)
        .intensity(Intensity::new(0, Duration::from_secs(60)))
        .child(a_spec)
        .child(b_spec)
        .nested();
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(inner_spec.backoff(Backoff::immediate()))
        .start()
        .await
        .unwrap();
    inner.add(puppet("dynamic", &log).1).await.unwrap();
    assert_eq!(inner.count().await.values().sum::<usize>(), 3);
    a.tell(Order::Panic).await.unwrap();
    eventually("the subtree is back", async || starts(&b).await == 2 && starts(&a).await == 2)
        .await;
    // Children added at run time end with the incarnation they were added to.
    assert_eq!(inner.tree().await.children.len(), 2);
    assert_eq!(root.tree().await.children[0].restarts, 1);
    root.shutdown().await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_children_along_and_comes_back_with_them() {
    let log = Log::default();
    let (a, a_spec) = puppet("a", &log);
    let (inner, inner_spec) =
        SupervisorSpec::new("inner", Strategy::OneForOne).child(a_spec).nested();
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(inner_spec.backoff(Backoff::immediate()))
        .start()
        .await
        .unwrap();
    let mut events = root.events();
    inner.kill();
    let exit = loop {
        if let Change::Exited(exit) = events.next().await.unwrap().change {
            break exit;
        }
    };
    assert_eq!(exit, Exit::Killed);
    eventually("all is back", async || starts(&a).await == 2).await;
    root.shutdown().await;
}

#[tokio::test]
async fn two_children_of_one_name_are_refused_at_any_depth() {
    let log = Log::default();
    let twice = || {
        SupervisorSpec::new("twice", Strategy::OneForOne)
            .child(puppet("a", &log).1)
            .child(puppet("a", &log).1)
    };
    assert_eq!(twice().start().await.unwrap_err(), StartError::Duplicate { name: "a".into() });
    let nested = SupervisorSpec::new("root", Strategy::OneForOne).supervisor(twice());
    let said = nested.start().await.unwrap_err().to_string();
    assert!(said.contains("two children named a"), "{said}");
}

/// Needs a second thread: the first is blocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_blocks_its_thread_is_left_behind_and_a_shutdown_still_ends() {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    struct Blocker(Arc<Mutex<std::sync::mpsc::Receiver<()>>>);
    impl Actor for Blocker {
        type Message = ();
        async fn handle(&mut self, _: &mut Context<Self>, (): ()) -> Result<(), ActorError> {
            // An error means that the test is over.
            let _ = self.0.lock().unwrap().recv();
            Ok(())
        }
    }
    let (blocker, spec) = child("blocker", move || Blocker(Arc::clone(&blocked)));
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(spec.shutdown(Shutdown::Kill))
        .start()
        .await
        .unwrap();
    let mut events = root.events();
    blocker.tell(()).await.unwrap();
    eventually("blocked", async || blocker.depth() == 0).await;
    root.shutdown().await;
    let mut abandoned = false;
    while let Ok(event) = events.next().await {
        abandoned |= event.change == Change::Abandoned;
        if matches!(event.change, Change::Stopped(Exit::Stuck)) {
            break;
        }
    }
    assert!(abandoned);
    drop(release);
}

#[tokio::test]
async fn a_child_that_cannot_start_fails_the_start_and_the_add() {
    let log = Log::default();
    let start = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(puppet("a", &log).1)
        .child(puppet_with("bad", &log, Start::Fails).1)
        .start();
    let Err(StartError::Child { exit, .. }) = start.await else { panic!("started") };
    assert!(exit.to_string().contains("bad failed to start: no luck"), "{exit}");
    assert_eq!(taken(&log), ["a started", "a stopped"]);

    let root = SupervisorSpec::new("root", Strategy::OneForOne).start().await.unwrap();
    let added = root.add(puppet_with("bad", &log, Start::Fails).1).await;
    assert!(matches!(added, Err(SupervisorError::StartFailed { .. })), "{added:?}");
    let slow = puppet_with("slow", &log, Start::Hangs).1.start_timeout(Duration::from_millis(20));
    let added = root.add(slow).await;
    assert!(
        matches!(added, Err(SupervisorError::StartFailed { exit: Exit::StartTimeout, .. })),
        "{added:?}"
    );
    assert!(root.tree().await.children.is_empty());
    root.add(puppet("a", &log).1).await.unwrap();
    let again = root.add(puppet("a", &log).1).await;
    assert!(matches!(again, Err(SupervisorError::Duplicate { .. })));
    root.remove("a").await.unwrap();
    assert!(matches!(root.remove("a").await, Err(SupervisorError::Unknown { .. })));
    root.shutdown().await;
}

#[tokio::test]
async fn a_child_that_does_not_stop_is_killed_and_a_busy_one_blocks_nobody() {
    let log = Log::default();
    let (handle, spec) = puppet("sleeper", &log);
    let root = SupervisorSpec::new("root", Strategy::OneForOne)
        .child(spec.shutdown(Shutdown::Timeout(Duration::from_millis(30))))
        .start()
        .await
        .unwrap();
    let mut events = root.events();
    let asleep = handle
        .ask(Duration::from_secs(3600), |reply| Order::Sleep(Duration::from_secs(3600), reply));
    let supervise = async {
        root.add(puppet("other", &log).1).await.unwrap();
        assert_eq!(root.tree().await.children.len(), 2);
        root.remove("sleeper").await.unwrap();
    };
    let (asleep, ()) = tokio::join!(asleep, supervise);
    assert_eq!(asleep, Err(AskError::Dropped));
    let killed = loop {
        let event = events.next().await.unwrap();
        if let Change::Stopped(exit) = event.change {
            break exit;
        }
    };
    assert_eq!(killed, Exit::Killed);
    root.shutdown().await;
}

#[tokio::test]
async fn a_full_mailbox_waits_rejects_or_drops_the_oldest() {
    use odeum_actors::Overflow;
    let log = Log::default();
    let root = SupervisorSpec::new("root", Strategy::OneForOne).start().await.unwrap();
    for overflow in [Overflow::Wait, Overflow::Reject, Overflow::DropOldest] {
        let (handle, spec) = puppet("small", &log);
        root.add(spec.capacity(1).overflow(overflow)).await.unwrap();
        let (reply, asleep) = Reply::channel();
        handle.tell(Order::Sleep(Duration::from_millis(50), reply)).await.unwrap();
        eventually("asleep", async || handle.depth() == 0).await;
        let (reply, oldest) = Reply::channel();
        handle.try_tell(Order::Starts(reply)).unwrap();
        match overflow {
            Overflow::Wait => {
                assert!(matches!(handle.try_tell(Order::Stop), Err(TellError::Full(Order::Stop))));
                assert_eq!(handle.ask(SECOND, Order::Starts).await, Ok(1));
                assert_eq!(oldest.await, Ok(1));
            }
            Overflow::Reject => {
                assert_eq!(handle.ask(SECOND, Order::Starts).await, Err(AskError::Full));
                assert_eq!(oldest.await, Ok(1));
            }
            Overflow::DropOldest => {
                assert_eq!(handle.ask(SECOND, Order::Starts).await, Ok(1));
                assert!(oldest.await.is_err());
            }
        }
        asleep.await.unwrap();
        root.remove("small").await.unwrap();
    }
    root.shutdown().await;
}
