//! Supervised actors with bounded mailboxes: the embedded library of Odeum.
//!
//! OTP's supervision for one tokio process, on ractor's actors: supervisors that restart by
//! policy and give up with a report, handles that outlive restarts, mailboxes with a bound,
//! services that run in the loop, on a thread or in a child process under the same policies.
//! No network, no other server.
//!
//! # A counter
//!
//! ```
//! use std::time::Duration;
//! use odeum_actors::{Actor, ActorError, Context, Reply, Strategy, SupervisorSpec, child};
//!
//! struct Counter(u64);
//!
//! enum Count {
//!     Add(u64),
//!     Get(Reply<u64>),
//! }
//!
//! impl Actor for Counter {
//!     type Message = Count;
//!
//!     async fn handle(&mut self, _: &mut Context<Self>, message: Count) -> Result<(), ActorError> {
//!         match message {
//!             Count::Add(n) => self.0 += n,
//!             Count::Get(reply) => reply.send(self.0),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (counter, spec) = child("counter", || Counter(0));
//! let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await?;
//! counter.tell(Count::Add(2)).await?;
//! assert_eq!(counter.ask(Duration::from_secs(1), Count::Get).await?, 2);
//! root.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # A tree that heals
//!
//! A database connection and the cache that fills itself from it: when the connection
//! crashes, what was started after it starts anew as well. The handles stay the same.
//!
//! ```
//! use std::time::Duration;
//! use odeum_actors::{
//!     Actor, ActorError, AskError, Backoff, Change, Context, Handle, Intensity, Reply,
//!     Shutdown, Strategy, SupervisorSpec, child,
//! };
//!
//! const SECOND: Duration = Duration::from_secs(1);
//!
//! struct Database;
//!
//! enum Query {
//!     Price(Reply<u32>),
//!     Break(Reply<()>),
//! }
//!
//! impl Actor for Database {
//!     type Message = Query;
//!
//!     async fn handle(&mut self, _: &mut Context<Self>, query: Query) -> Result<(), ActorError> {
//!         match query {
//!             Query::Price(reply) => reply.send(42),
//!             Query::Break(_) => return Err(ActorError::msg("connection lost")),
//!         }
//!         Ok(())
//!     }
//! }
//!
//! struct Cache {
//!     database: Handle<Query>,
//!     price: u32,
//! }
//!
//! impl Actor for Cache {
//!     type Message = Reply<u32>;
//!
//!     // Runs at every start: the cache is never older than its connection.
//!     async fn started(&mut self, _: &mut Context<Self>) -> Result<(), ActorError> {
//!         self.price = self.database.ask(SECOND, Query::Price).await?;
//!         Ok(())
//!     }
//!
//!     async fn handle(&mut self, _: &mut Context<Self>, reply: Reply<u32>) -> Result<(), ActorError> {
//!         reply.send(self.price);
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (database, database_spec) = child("database", || Database);
//! let for_cache = database.clone();
//! let (cache, cache_spec) =
//!     child("cache", move || Cache { database: for_cache.clone(), price: 0 });
//!
//! let root = SupervisorSpec::new("shop", Strategy::RestForOne)
//!     .intensity(Intensity::new(5, 10 * SECOND))
//!     .child(database_spec.backoff(Backoff::immediate()))
//!     .child(cache_spec.capacity(100).shutdown(Shutdown::Timeout(SECOND)))
//!     .start()
//!     .await?;
//! let mut events = root.events();
//! assert_eq!(cache.ask(SECOND, |reply| reply).await?, 42);
//!
//! // Who asks an actor that crashes learns it at once, not at the deadline.
//! assert_eq!(database.ask(60 * SECOND, Query::Break).await, Err(AskError::Dropped));
//! loop {
//!     let event = events.next().await?;
//!     if &*event.child == "cache" && event.change == Change::Ready {
//!         break;
//!     }
//! }
//! assert_eq!(cache.ask(SECOND, |reply| reply).await?, 42);
//! println!("{}", root.tree().await);
//! root.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! * **Order**: messages from one sender to one actor are handled in the order they were
//!   sent, one at a time. [`Handle::tell_control`] overtakes them, in its own order.
//! * **Delivery**: at most once. A message is handled, or comes back in the error, or, if
//!   its actor ended first, is dropped and recorded as a [`DeadLetter`].
//! * **Bounds**: every mailbox has one, 1024 messages by default. Full, it makes senders
//!   wait, returns the message, or drops the oldest ([`Overflow`]).
//! * **Asks** end: with the reply, at the deadline, or at once when the actor ends, crashes
//!   or drops the [`Reply`].
//! * **A panic** in `started`, `handle` or `stopping` ends that incarnation only; so do an
//!   `Err` and a kill. The message at hand is not handled again.
//! * **Handles** are stable: valid before the first start and after every restart. Between
//!   incarnations they answer [`TellError::Down`].
//! * **Ownership**: tasks, timers, monitors and links of an incarnation end with it, and its
//!   supervisor learns of its end after the actor's value was dropped, so a restart finds
//!   its ports and files free.
//! * **A stop** by the supervisor handles what is in the mailbox, runs `stopping`, and is
//!   bounded by [`Shutdown`]; [`Context::stop`] ends after the message at hand.
//! * **Supervisors** do not run their children's code: a child that hangs or panics, also
//!   while it is made, delays nobody.
//! * **A process service** dies with its parent, also when that is killed, and is reaped.
//!
//! Not promised: anything about a handler that blocks its thread. It cannot be killed; after
//! two seconds its supervisor goes on without it ([`Change::Abandoned`]).
//!
//! # What happens when a child ends
//!
//! | exit | permanent | transient | temporary |
//! |---|---|---|---|
//! | [`Normal`](Exit::Normal): it stopped itself, or its service was done | restarted | stays down | forgotten |
//! | [`Failed`](Exit::Failed), [`Panicked`](Exit::Panicked), [`Killed`](Exit::Killed) | restarted | restarted | forgotten |
//! | [`Code`](Exit::Code), [`Signal`](Exit::Signal), [`Silent`](Exit::Silent) of a process | restarted | restarted | forgotten |
//! | [`GaveUp`](Exit::GaveUp) of a nested supervisor | subtree restarted | subtree restarted | forgotten |
//! | [`StartFailed`](Exit::StartFailed), [`StartTimeout`](Exit::StartTimeout) when it was added | `add` fails, forgotten | `add` fails, forgotten | `add` fails, forgotten |
//! | the same at the start of its supervisor | that start fails, the others are stopped | the same | the same |
//! | the same at a restart | restarted | restarted | forgotten |
//! | [`Shutdown`](Exit::Shutdown): its supervisor stopped it | as was asked: removed, restarted or stopped | the same | the same |
//!
//! "Restarted" is what [`Strategy`] makes of it (this one, all, or the rest), after the
//! [`Backoff`], and counts towards [`Intensity`]; one too many and the supervisor stops its
//! children and ends with a [`GaveUp`] report.
//!
//! # For Erlang people
//!
//! | OTP | here |
//! |---|---|
//! | `gen_server` | [`Actor`]; `init` is making the value and `started`, `terminate` is `stopping` |
//! | `gen_server:cast`, `call` | [`Handle::tell`], [`Handle::ask`]; mailboxes are bounded, so `tell` may wait |
//! | pid, registered name | [`Handle`] (it outlives restarts, as a name does), [`Registry`] |
//! | `supervisor`, child spec | [`SupervisorSpec`], [`ChildSpec`] |
//! | `simple_one_for_one`, `start_child`, `terminate_child`, `restart_child` | any supervisor: [`Supervisor::add`], [`remove`](Supervisor::remove), [`restart`](Supervisor::restart) |
//! | `intensity`, `period` | [`Intensity`]; with a [`Backoff`] between restarts, which OTP has not |
//! | `shutdown: Timeout, brutal_kill, infinity` | [`Shutdown`] |
//! | `exit(Pid, kill)` | [`Handle::kill`] |
//! | `link`, `monitor`, `'DOWN'` | [`Context::link`], [`Context::monitor`] |
//! | `erlang:send_after`, `timer:send_interval` | [`Context::tell_after`], [`Context::tell_every`] |
//! | `pg` | [`Groups`] |
//! | `poolboy`, worker pools | [`Pool`] |
//! | ports, C nodes | [`Service`] with [`Executor::Process`] |
//! | `application`, release config | [`Host`], [`config`] |
//! | `sys:get_status`, observer | [`Supervisor::tree`], [`Supervisor::events`] |
//! | hot code loading, distribution | not here; distribution is `odeum-cluster` |
//!
//! # Features
//!
//! `testing`: a manual clock, probes, faults at a chosen message.

mod actor;
mod adopt;
mod breaker;
mod child;
pub mod config;
mod context;
mod dead_letter;
mod error;
mod event;
mod handle;
mod host;
mod mailbox;
mod pace;
mod parent;
mod policy;
mod pool;
mod registry;
mod retry;
mod service;
mod shell;
mod supervisor;
mod sync;
#[cfg(feature = "testing")]
pub mod testing;
mod tree;

pub use actor::{Actor, ActorError};
pub use breaker::{Breaker, BreakerConfig, BreakerError, BreakerState, Trip};
pub use child::{ChildSpec, child};
pub use context::{Context, MonitorKey, TimerKey};
pub use dead_letter::{Cause, DeadLetter};
pub use error::{AskError, Down, StartError, SupervisorError, TellError};
pub use event::{Change, LifecycleEvent, Subscription, SubscriptionError};
pub use handle::{Handle, Reply, WeakHandle};
pub use host::{
    BackoffConfig, Host, HostConfig, HostError, IntensityConfig, OrderError, RunningHost,
    ServiceConfig, SupervisorConfig,
};
pub use mailbox::{Overflow, Phase};
pub use pace::Pace;
pub use policy::backoff::Backoff;
pub use policy::exit::{Exit, GaveUp};
pub use policy::{Intensity, Restart, Shutdown, Strategy};
pub use pool::{
    Counters, Job, Key, Pending, Pool, PoolConfig, PoolError, PoolSpec, PoolStats, Priority,
    Recycle, Task, WhenFull, Worker,
};
pub use registry::{Groups, NameTaken, Published, Registry};
pub use retry::{Retry, RetryBudget};
pub use service::{
    Catalog, Executor, Health, Service, ServiceContext, ServiceHandle, ServiceMessages,
    ServiceSpec, Settings, UnknownKind,
};
pub use supervisor::{Supervisor, SupervisorSpec};
pub use tree::{Kind, Tree};
