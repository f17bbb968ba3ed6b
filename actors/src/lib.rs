//! Supervised actors with bounded mailboxes: the embedded library of Odeum.
//!
//! # Example
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
mod parent;
mod policy;
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
pub use error::{AskError, StartError, SupervisorError, TellError};
pub use event::{Change, LifecycleEvent, Subscription, SubscriptionError};
pub use handle::{Handle, Reply, WeakHandle};
pub use host::{
    BackoffConfig, Host, HostConfig, HostError, IntensityConfig, OrderError, RunningHost,
    ServiceConfig, SupervisorConfig,
};
pub use mailbox::{Overflow, Phase};
pub use policy::backoff::Backoff;
pub use policy::exit::{Exit, GaveUp};
pub use policy::{Intensity, Restart, Shutdown, Strategy};
pub use registry::{Groups, NameTaken, Published, Registry};
pub use retry::{Retry, RetryBudget};
pub use service::{
    Catalog, Executor, Health, Service, ServiceContext, ServiceHandle, ServiceMessages,
    ServiceSpec, Settings, UnknownKind,
};
pub use supervisor::{Supervisor, SupervisorSpec};
pub use tree::{Kind, Tree};
