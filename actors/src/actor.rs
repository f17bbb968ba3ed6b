//! What a user writes: an [`Actor`], which owns its state and handles one message at a time.

use std::error::Error;
use std::fmt;
use std::future::Future;

use crate::context::Context;

/// An actor: owns its state and handles one message at a time, in the order of its mailbox.
///
/// Every start and restart makes a new value (see [`child`](crate::child)), so a crash
/// leaves nothing behind but what the actor had written elsewhere.
pub trait Actor: Sized + Send + 'static {
    /// What its handle accepts.
    type Message: Send + 'static;

    /// Runs before the first message. The supervisor counts the child as ready, and starts
    /// the next one, when this has returned `Ok`.
    ///
    /// # Errors
    /// An error means that this start failed; the supervisor decides what follows.
    fn started(
        &mut self,
        ctx: &mut Context<Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Handles one message.
    ///
    /// # Errors
    /// An error means "restart me" and ends this incarnation. What the sender should know
    /// goes back through a [`Reply`](crate::Reply) in the message.
    fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), ActorError>> + Send;

    /// Runs once on an orderly stop, after the last message; not after a panic, an error or
    /// a kill.
    fn stopping(&mut self, ctx: &mut Context<Self>) -> impl Future<Output = ()> + Send {
        let _ = ctx;
        async {}
    }
}

/// Why an actor ended itself. Anything that is an error converts into it by `?`.
pub struct ActorError(Box<dyn Error + Send + Sync>);

impl ActorError {
    /// An error that is only a text.
    pub fn msg(text: impl Into<Box<str>>) -> Self {
        Self(text.into().into_string().into())
    }

    /// The error inside.
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.0
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for ActorError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Debug for ActorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for ActorError {
    /// The error and its causes, separated by colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
