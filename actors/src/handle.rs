//! The address of an actor, and the port through which it replies.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{AskError, Down, TellError};
use crate::mailbox::{Mailbox, Phase};

/// The stable address of a supervised actor.
///
/// It is valid before the actor starts and after it restarted, and cheap to clone. The
/// mailbox behind it is bounded. Messages from one sender arrive in the order they were
/// sent. Messages that wait when the actor crashes are lost with it; who asked learns it
/// at once.
pub struct Handle<M> {
    pub(crate) mailbox: Arc<Mailbox<M>>,
}

impl<M: Send + 'static> Handle<M> {
    /// Sends a message. If the mailbox is full this waits, fails or drops the oldest one,
    /// by the actor's [`Overflow`](crate::Overflow) policy. Cancel-safe: a dropped call has
    /// not sent.
    ///
    /// # Errors
    /// The message comes back if the mailbox is full (policy `Reject`) or the actor is not
    /// running.
    pub async fn tell(&self, message: M) -> Result<(), TellError<M>> {
        self.mailbox.send(message).await
    }

    /// Sends a message without ever waiting.
    ///
    /// # Errors
    /// The message comes back if the mailbox is full or the actor is not running.
    pub fn try_tell(&self, message: M) -> Result<(), TellError<M>> {
        self.mailbox.push(message)
    }

    /// Sends as many of `messages` as fit, from the front, without waiting, and leaves the
    /// rest; how many were sent. They are taken as one: no other sender's message comes
    /// between them. With policy `DropOldest` all fit.
    ///
    /// Cheaper than as many [`try_tell`](Self::try_tell): one lock and at most one wake.
    /// When something is left, wait for [`space`](Self::space) before sending more.
    ///
    /// # Errors
    /// All messages stay if the actor is not running.
    pub fn try_tell_many(&self, messages: &mut VecDeque<M>) -> Result<usize, Down> {
        self.mailbox.push_many(messages)
    }

    /// Waits until the mailbox is under its capacity or the actor is not running. Other
    /// senders may have filled it again when the caller sends; waiters are served in turn.
    /// Cancel-safe.
    pub async fn space(&self) {
        self.mailbox.space().await;
    }

    /// Sends a message that overtakes those of `tell`, for control (pause, flush, reload).
    /// Its lane has the same bound as the mailbox; it never waits.
    ///
    /// # Errors
    /// The message comes back if the control lane is full or the actor is not running.
    pub fn tell_control(&self, message: M) -> Result<(), TellError<M>> {
        self.mailbox.push_control(message)
    }

    /// As [`ask`](Self::ask), ahead of the messages that wait.
    ///
    /// # Errors
    /// See [`AskError`]; [`AskError::Full`] when the control lane is.
    pub async fn ask_control<R: Send + 'static>(
        &self,
        deadline: Duration,
        make: impl FnOnce(Reply<R>) -> M + Send,
    ) -> Result<R, AskError> {
        let (reply, answer) = oneshot::channel();
        match self.mailbox.push_control(make(Reply(reply))) {
            Ok(()) => match tokio::time::timeout(deadline, answer).await {
                Ok(answered) => answered.map_err(|_| AskError::Dropped),
                Err(_) => Err(AskError::Deadline),
            },
            Err(TellError::Down(_)) => Err(AskError::Down),
            Err(TellError::Full(_)) => Err(AskError::Full),
        }
    }

    /// Sends a message that carries a reply port and waits for the reply, in all no longer
    /// than `deadline`.
    ///
    /// # Errors
    /// See [`AskError`]. An actor that ends before it replied gives an error at once.
    pub async fn ask<R: Send + 'static>(
        &self,
        deadline: Duration,
        make: impl FnOnce(Reply<R>) -> M + Send,
    ) -> Result<R, AskError> {
        let (reply, answer) = oneshot::channel();
        let message = make(Reply(reply));
        match self.mailbox.push(message) {
            Ok(()) => match tokio::time::timeout(deadline, answer).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) => Err(AskError::Dropped),
                Err(_) => Err(AskError::Deadline),
            },
            Err(TellError::Down(_)) => Err(AskError::Down),
            Err(TellError::Full(message)) => {
                self.ask_when_space(Instant::now() + deadline, message, answer).await
            }
        }
    }

    async fn ask_when_space<R>(
        &self,
        deadline: Instant,
        message: M,
        answer: oneshot::Receiver<R>,
    ) -> Result<R, AskError> {
        let sent_and_answered = async {
            match self.mailbox.send(message).await {
                Ok(()) => answer.await.map_err(|_| AskError::Dropped),
                Err(TellError::Full(_)) => Err(AskError::Full),
                Err(TellError::Down(_)) => Err(AskError::Down),
            }
        };
        match tokio::time::timeout_at(deadline, sent_and_answered).await {
            Ok(result) => result,
            Err(_) => Err(AskError::Deadline),
        }
    }

    /// The actor's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.mailbox.name()
    }

    /// Whether the actor is up: `started` has returned and it is not stopping.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.mailbox.phase() == Phase::Running
    }

    /// Where the actor is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.mailbox.phase()
    }

    /// How many messages wait.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.mailbox.depth()
    }

    /// Ends the present incarnation wherever it stands, as if it had crashed; its
    /// supervisor decides what follows.
    pub fn kill(&self) {
        self.mailbox.kill();
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mailbox, &other.mailbox)
    }

    /// A handle that does not keep the mailbox in memory.
    #[must_use]
    pub fn downgrade(&self) -> WeakHandle<M> {
        WeakHandle { mailbox: Arc::downgrade(&self.mailbox) }
    }
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox) }
    }
}

impl<M: Send + 'static> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A [`Handle`] that does not keep its actor's mailbox in memory, for caches and cycles.
pub struct WeakHandle<M> {
    mailbox: Weak<Mailbox<M>>,
}

impl<M> WeakHandle<M> {
    /// The handle, unless the child was removed and nobody else holds one.
    #[must_use]
    pub fn upgrade(&self) -> Option<Handle<M>> {
        self.mailbox.upgrade().map(|mailbox| Handle { mailbox })
    }
}

impl<M> Clone for WeakHandle<M> {
    fn clone(&self) -> Self {
        Self { mailbox: Weak::clone(&self.mailbox) }
    }
}

impl<M> fmt::Debug for WeakHandle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakHandle").finish_non_exhaustive()
    }
}

/// The port through which a request is answered, once.
///
/// Dropped without an answer, the asker gets [`AskError::Dropped`] at once.
pub struct Reply<R>(oneshot::Sender<R>);

impl<R> Reply<R> {
    /// Answers. Does nothing if the asker has given up.
    pub fn send(self, answer: R) {
        let _ = self.0.send(answer);
    }

    /// Whether the asker has given up, so that the work can be skipped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// A port and the receiver of its answer, for askers that are no actors' clients.
    #[must_use]
    pub fn channel() -> (Self, oneshot::Receiver<R>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").finish_non_exhaustive()
    }
}
