//! One running guest that handles messages, at rest between them, whatever its ABI.
//!
//! [`Instance::handle`] takes the instance and only gives it back when the guest came to the end
//! of the message, so an instance that trapped or exceeded a limit cannot be used again.

mod moving;

use std::{sync::Arc, time::Duration};

use super::{
    abi::{
        actor::ActorInstance,
        core::{CoreInstance, Guest},
        firmlet::FirmletInstance,
        wasi_p1::{self, WasiP1},
    },
    bridge::Publisher,
    effect::{Answer, Effect, Variables},
    engine::Engine,
    error::GuestFailure,
    module::{Linked, Module},
    setting::Setting,
};

/// One running guest.
#[derive(Debug)]
pub struct Instance {
    inner: Inner,
    /// Kept, because a guest whose engine is gone is never interrupted.
    engine: Engine,
}

/// Boxed, because it changes hands with each message.
#[derive(Debug)]
enum Inner {
    Core(Box<CoreInstance<()>>),
    Reactor(Box<CoreInstance<WasiP1>>),
    Firmlet(Box<FirmletInstance>),
    Actor(Box<ActorInstance>),
}

/// What a guest is given.
#[derive(Debug, Clone, Copy)]
pub enum Arrival<'a> {
    /// It has started. Only actors hear of it, and guests of the core ABI that want to.
    Started,
    /// Somebody calls.
    Called {
        /// What a firmlet is told that it is about; other guests are not told.
        topic: Option<&'a str>,
        /// The message.
        body: &'a [u8],
    },
    /// Something was published.
    Published {
        /// Under which topic.
        topic: &'a str,
        /// What.
        payload: &'a [u8],
    },
    /// It is asked whether it is well.
    Probed {
        /// How long it may take to say so.
        within: Duration,
    },
    /// One of its timers has run out.
    TimedOut {
        /// Which.
        number: u64,
    },
    /// One of its asks has an outcome.
    Answered {
        /// Which.
        number: u64,
        /// The reply, or why there is none.
        outcome: Result<&'a [u8], &'a str>,
    },
}

impl<'a> Arrival<'a> {
    /// How long the guest may compute on it, when that is not the time of a message.
    pub(super) fn time(&self) -> Option<Duration> {
        match self {
            Self::Probed { within } => Some(*within),
            _ => None,
        }
    }

    /// What guests hear that know nothing but messages; `None` when they hear nothing of it.
    fn message(&self) -> Option<(Option<&'a str>, &'a [u8])> {
        match *self {
            Self::Called { topic, body } => Some((topic, body)),
            Self::Published { topic, payload } => Some((Some(topic), payload)),
            Self::Started | Self::Probed { .. } => None,
            Self::TimedOut { .. } | Self::Answered { .. } => None,
        }
    }
}

impl<'a> From<&'a [u8]> for Arrival<'a> {
    fn from(body: &'a [u8]) -> Self {
        Self::Called { topic: None, body }
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Arrival<'a> {
    fn from(body: &'a [u8; N]) -> Self {
        Self::Called { topic: None, body }
    }
}

impl Instance {
    /// A new instance, after its start ran within the limits of one message. What it publishes goes
    /// to `publisher`.
    ///
    /// # Errors
    /// [`GuestFailure`] when it needs more than it is given, its start fails, or it is a guest of
    /// another kind.
    pub async fn start(
        module: &Module,
        setting: &Setting,
        publisher: Publisher,
    ) -> Result<Self, GuestFailure> {
        let (manifest, time) = (module.manifest(), setting.limits.message_time);
        let inner = match module.linked() {
            Linked::Core(pre) => {
                let guest = Guest::new(setting.meter(manifest), manifest, ());
                Inner::Core(Box::new(CoreInstance::start(pre, guest, time).await?))
            }
            Linked::Reactor(pre) => {
                let guest = wasi_p1::guest(manifest, setting).await?;
                let start = CoreInstance::start(pre, guest, time);
                Inner::Reactor(Box::new(wasi_p1::waiting(time, start).await?))
            }
            Linked::Firmlet(pre) => {
                let meter = setting.meter(manifest);
                let start = FirmletInstance::start(pre, meter, manifest, time, publisher);
                Inner::Firmlet(Box::new(start.await?))
            }
            Linked::Actor(it) => {
                let start = ActorInstance::start(it, manifest, setting);
                Inner::Actor(Box::new(wasi_p1::waiting(time, start).await?))
            }
            Linked::Command(_) | Linked::Cli(_) | Linked::Http(_) => {
                return Err(GuestFailure::OtherKind { kind: module.kind() });
            }
        };
        Ok(Self { inner, engine: module.engine().clone() })
    }

    /// Gives the guest one message. `variables` are those of the message's session.
    ///
    /// # Errors
    /// [`GuestFailure`] when the guest trapped or exceeded a limit; the instance is gone then.
    pub async fn handle(
        self,
        arrival: impl Into<Arrival<'_>>,
        variables: Arc<dyn Variables>,
    ) -> Result<(Self, Answer), GuestFailure> {
        let (engine, arrival) = (self.engine, arrival.into());
        let (inner, answer) = self.inner.handle(arrival, variables).await?;
        Ok((Self { inner, engine }, answer))
    }

    /// Bytes of its memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match &self.inner {
            Inner::Core(it) => it.memory_bytes(),
            Inner::Reactor(it) => it.memory_bytes(),
            Inner::Firmlet(it) => it.memory_bytes(),
            Inner::Actor(it) => it.memory_bytes(),
        }
    }

    /// Whether it wants to hear that it has started.
    pub(super) fn hears_of_its_start(&self) -> bool {
        match &self.inner {
            Inner::Actor(_) => true,
            Inner::Core(it) => it.hears_of_its_start(),
            Inner::Reactor(it) => it.hears_of_its_start(),
            Inner::Firmlet(_) => false,
        }
    }

    /// Lets the guest take leave, if its ABI has that; it ends in any case.
    pub async fn end(self) {
        match self.inner {
            Inner::Firmlet(it) => it.dispose().await,
            Inner::Actor(it) => it.stop().await,
            Inner::Core(it) => it.stop().await,
            Inner::Reactor(it) => {
                let time = it.time();
                let stopped = async {
                    it.stop().await;
                    Ok(())
                };
                // It ends in any case.
                let _ = wasi_p1::waiting(time, stopped).await;
            }
        }
    }
}

impl Inner {
    async fn handle(
        self,
        arrival: Arrival<'_>,
        variables: Arc<dyn Variables>,
    ) -> Result<(Self, Answer), GuestFailure> {
        match self {
            Self::Core(it) => {
                let handled = it.handle(arrival, variables).await;
                handled.map(|(it, answer)| (Self::Core(it), answer))
            }
            Self::Reactor(it) => {
                let time = arrival.time().unwrap_or(it.time());
                let handled = wasi_p1::waiting(time, it.handle(arrival, variables));
                let handled = Box::pin(handled).await;
                handled.map(|(it, answer)| (Self::Reactor(it), answer))
            }
            Self::Actor(it) => {
                let time = arrival.time().unwrap_or(it.time());
                let handled = wasi_p1::waiting(time, it.handle(arrival, variables));
                let handled = Box::pin(handled).await;
                handled.map(|(it, answer)| (Self::Actor(it), answer))
            }
            Self::Firmlet(it) => match arrival.message() {
                Some((topic, body)) => {
                    let handled = Box::pin(it.handle(topic, body)).await;
                    handled.map(|(it, answer)| (Self::Firmlet(it), answer))
                }
                None => Ok((Self::Firmlet(it), Answer::Done(Effect::default()))),
            },
        }
    }
}
