//! The ractor actor around a user's [`Actor`]: makes it, feeds it from its mailbox, turns
//! panics and errors into an [`Exit`], and tells the parent when everything it owned is gone.
//!
//! The end is told by the drop of what is dropped last rather than by ractor's supervision
//! event: that event is sent while the old state still lives, and a restart would then meet
//! the old incarnation's files and sockets.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use ractor::{ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::actor::Actor;
use crate::context::{Context, Origin};
use crate::handle::Handle;
use crate::mailbox::{Mailbox, Next, Wake};
use crate::pace::Pace;
use crate::parent::{Parent, Scope};
use crate::policy::exit::Exit;

/// Messages handled per wake before ractor's loop gets a turn, and with it what else was sent to
/// the actor. The other actors of the thread get theirs by [`Pace`].
const BATCH: usize = 64;

/// Makes a new incarnation.
pub(crate) trait Maker<A>: Send + Sync {
    fn make(&self) -> A;
}

/// What ractor's actor type is.
pub(crate) struct Shell<A>(PhantomData<fn() -> A>);

impl<A> Shell<A> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

pub(crate) struct ShellArguments<A: Actor> {
    pub(crate) maker: Arc<dyn Maker<A>>,
    pub(crate) mailbox: Arc<Mailbox<A::Message>>,
    pub(crate) parent: Parent,
    pub(crate) scope: Arc<Scope>,
    pub(crate) run: u64,
    pub(crate) path: Arc<str>,
}

/// One incarnation. Fields are dropped in this order: the context tells of the end when the
/// actor and its tasks are gone.
pub(crate) struct Incarnation<A: Actor> {
    actor: Option<A>,
    maker: Option<Arc<dyn Maker<A>>>,
    ctx: Context<A>,
}

/// What a wake ended with.
enum Turn {
    Idle,
    More,
    End(Exit),
    Crash(Exit),
}

impl<A: Actor> Incarnation<A> {
    async fn start(&mut self) -> Result<(), Exit> {
        let Some(maker) = self.maker.take() else { return Ok(()) };
        let started = AssertUnwindSafe(async {
            let actor = self.actor.insert(maker.make());
            actor.started(&mut self.ctx).await
        });
        let reason = match started.catch_unwind().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string().into(),
            Err(panic) => panic_text(panic),
        };
        Err(Exit::StartFailed { reason })
    }

    async fn turn(&mut self) -> Turn {
        let began = Instant::now();
        let mut handled = 0;
        let served = AssertUnwindSafe(self.serve(&mut handled)).catch_unwind().await;
        self.ctx.origin.handle.mailbox.count(handled, began.elapsed());
        served.unwrap_or_else(|panic| Turn::Crash(Exit::Panicked { reason: panic_text(panic) }))
    }

    async fn serve(&mut self, handled: &mut u64) -> Turn {
        let Some(actor) = &mut self.actor else { return Turn::Idle };
        let mut pace = Pace::default();
        for _ in 0..BATCH {
            let message = match self.ctx.origin.handle.mailbox.next() {
                Next::Message(message) => message,
                Next::Idle => return Turn::Idle,
                Next::Drained => return Turn::End(Exit::Shutdown),
            };
            *handled += 1;
            #[cfg(feature = "testing")]
            if let Some(exit) = meet_fault(&self.ctx.origin.handle.mailbox).await {
                return Turn::Crash(exit);
            }
            if let Err(error) = actor.handle(&mut self.ctx, message).await {
                return Turn::Crash(Exit::Failed { reason: error.to_string().into() });
            }
            if let Some(exit) = self.ctx.end.take() {
                return Turn::End(exit);
            }
            pace.step().await;
        }
        Turn::More
    }

    async fn stop(mut self: Box<Self>) {
        if let Some(actor) = &mut self.actor {
            let stopping = AssertUnwindSafe(actor.stopping(&mut self.ctx));
            if let Err(panic) = stopping.catch_unwind().await {
                self.ctx.origin.exit = Some(Exit::Panicked { reason: panic_text(panic) });
            }
        }
        self.dismantle().await;
    }

    /// Ends what the actor owned, so that nothing of it runs when its end is told.
    async fn dismantle(mut self: Box<Self>) {
        self.ctx.end_tasks().await;
        let actor = self.actor.take();
        if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| drop(actor))) {
            self.ctx.origin.exit = Some(Exit::Panicked { reason: panic_text(panic) });
        }
    }
}

impl<A: Actor> ractor::Actor for Shell<A> {
    type Msg = Wake;
    type State = Option<Box<Incarnation<A>>>;
    type Arguments = ShellArguments<A>;

    async fn pre_start(
        &self,
        myself: ActorRef<Wake>,
        arguments: ShellArguments<A>,
    ) -> Result<Self::State, ActorProcessingErr> {
        let ShellArguments { maker, mailbox, parent, scope, run, path } = arguments;
        mailbox.attach(run, myself.clone(), &scope);
        Ok(Some(Box::new(Incarnation {
            actor: None,
            maker: Some(maker),
            ctx: Context::new(Origin {
                handle: Handle { mailbox },
                run,
                parent,
                scope,
                cell: myself.get_cell(),
                path,
                exit: None,
            }),
        })))
    }

    async fn post_start(
        &self,
        myself: ActorRef<Wake>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(incarnation) = state else { return Ok(()) };
        match incarnation.start().await {
            Ok(()) => {
                if !incarnation.ctx.defers_ready {
                    incarnation.ctx.ready();
                }
                if let Some(exit) = incarnation.ctx.end.take() {
                    end(&myself, incarnation, exit);
                }
                Ok(())
            }
            Err(exit) => crash(state, exit).await,
        }
    }

    async fn handle(
        &self,
        myself: ActorRef<Wake>,
        _: Wake,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some(incarnation) = state else { return Ok(()) };
        match incarnation.turn().await {
            Turn::Idle => Ok(()),
            Turn::More => {
                // An error means that the actor is being stopped.
                let _ = myself.send_message(Wake);
                Ok(())
            }
            Turn::End(exit) => {
                end(&myself, incarnation, exit);
                Ok(())
            }
            Turn::Crash(exit) => crash(state, exit).await,
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<Wake>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(incarnation) = state.take() {
            incarnation.stop().await;
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Wake>,
        _: SupervisionEvent,
        _: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // Children tell their end themselves; ractor's default would stop this actor.
        Ok(())
    }
}

fn end<A: Actor>(myself: &ActorRef<Wake>, incarnation: &mut Incarnation<A>, exit: Exit) {
    incarnation.ctx.origin.handle.mailbox.close();
    incarnation.ctx.origin.exit = Some(exit);
    myself.stop(None);
}

async fn crash<A: Actor>(
    state: &mut Option<Box<Incarnation<A>>>,
    exit: Exit,
) -> Result<(), ActorProcessingErr> {
    if let Some(mut incarnation) = state.take() {
        incarnation.ctx.origin.handle.mailbox.close();
        incarnation.ctx.origin.exit = Some(exit);
        incarnation.dismantle().await;
    }
    Err(Box::new(Crashed))
}

/// Ends ractor's actor; the reason has been told to the parent.
#[derive(Debug, thiserror::Error)]
#[error("the actor crashed")]
struct Crashed;

/// The text of a panic, or a stand-in when it carried none.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> Box<str> {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.as_str().into()
    } else {
        "a panic without a text".into()
    }
}

/// Meets an injected fault, if it is due.
#[cfg(feature = "testing")]
#[expect(clippy::panic, reason = "the fault that a test asked for")]
async fn meet_fault<M: Send + 'static>(mailbox: &Mailbox<M>) -> Option<Exit> {
    match mailbox.fault()? {
        crate::testing::Fault::Panic => panic!("injected"),
        crate::testing::Fault::Fail => Some(Exit::Failed { reason: "injected".into() }),
        crate::testing::Fault::Kill => {
            mailbox.kill();
            std::future::pending().await
        }
    }
}
