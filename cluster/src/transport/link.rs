//! Keeps the link to one peer: dials it, runs the connection, dials again when it is lost, and of
//! two connections keeps the one that both sides keep.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `SetAddress` | `Endpoint`, when the address book changes | |
//! | `Want` | `Endpoint`, when a request waits for the link | |
//! | `Adopt` | `Endpoint`, with a connection the peer dialled, or `dial` did | |
//! | `Retire` | `Endpoint`, when the link has told it that it is of no use | whether it ends |
//! | `Dialled`, `Lost`, `Wake` | itself | |

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context, Handle, Reply};
use odeum_proto::NodeId;

use super::conn::Conn;
use super::endpoint::{Dialler, EndpointMessage};
use super::handle::Shared;
use super::hello::{Introduced, Met};
use super::plan::{Plan, Step};
use super::{TransportError, pump, settings};

/// What a link is told.
pub(super) enum LinkMessage {
    /// Where the peer is by the address book; `None` when it is not in it any more.
    SetAddress(Option<SocketAddr>),
    /// A request waits.
    Want,
    /// A connection to the peer is there.
    Adopt(Box<Introduced>),
    /// An attempt of this link has ended.
    Dialled(Box<Result<Met, TransportError>>),
    /// A connection has ended.
    Lost {
        /// Which.
        conn: Arc<Conn>,
        /// Why.
        reason: TransportError,
    },
    /// A pause is over.
    Wake,
    /// End, unless there is a connection again.
    Retire {
        /// Whether it does. What comes after that is for another link.
        reply: Reply<bool>,
    },
}

/// The actor of one link.
pub(super) struct Link {
    peer: NodeId,
    shared: Arc<Shared>,
    dialler: Dialler,
    endpoint: Handle<EndpointMessage>,
    plan: Plan,
    conn: Option<Arc<Conn>>,
    /// What the last failed attempt said: the log has it once, not once per attempt.
    told: Option<String>,
}

impl Link {
    pub(super) fn new(
        peer: NodeId,
        shared: Arc<Shared>,
        dialler: Dialler,
        endpoint: Handle<EndpointMessage>,
    ) -> Self {
        let plan = Plan::new(shared.local < peer);
        Self { peer, shared, dialler, endpoint, plan, conn: None, told: None }
    }
}

impl Actor for Link {
    type Message = LinkMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        // After a restart the book is all there is to go by.
        let addr = self.shared.book.load().get(&self.peer).copied();
        let step = self.plan.address(addr);
        self.take(ctx, step);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: LinkMessage,
    ) -> Result<(), ActorError> {
        match message {
            LinkMessage::SetAddress(addr) => self.on_set_address(ctx, addr),
            LinkMessage::Want => {
                let step = self.plan.wanted();
                self.take(ctx, step);
            }
            LinkMessage::Adopt(introduced) => self.on_adopt(ctx, *introduced),
            LinkMessage::Dialled(outcome) => self.on_dialled(ctx, *outcome),
            LinkMessage::Lost { conn, reason } => self.on_lost(ctx, &conn, &reason),
            LinkMessage::Wake => {
                let step = self.plan.woken();
                self.take(ctx, step);
            }
            LinkMessage::Retire { reply } => {
                let is_idle = self.is_idle();
                reply.send(is_idle);
                if is_idle {
                    ctx.stop();
                }
            }
        }
        Ok(())
    }
}

impl Link {
    fn on_set_address(&mut self, ctx: &mut Context<Self>, addr: Option<SocketAddr>) {
        let dismissed = addr.is_none() && self.plan.is_wanted();
        let step = self.plan.address(addr);
        self.take(ctx, step);
        if dismissed && let Some(conn) = &self.conn {
            conn.quic.close(settings::CLOSE_ORDERLY, b"the node is no longer in the address book");
        }
    }

    fn on_adopt(&mut self, ctx: &mut Context<Self>, introduced: Introduced) {
        let Introduced { quic, peer, incarnation, rank } = introduced;
        let mut before = None;
        if let Some(current) = &self.conn {
            if current.rank >= rank {
                quic.close(settings::CLOSE_DUPLICATE, b"another connection stays");
                return;
            }
            current.quic.close(settings::CLOSE_DUPLICATE, b"a later connection stays");
            before = Some(current.ended().clone());
        }
        let (conn, queues) = Conn::new(quic, (peer, incarnation), rank);
        self.shared.install(&conn);
        tracing::info!(
            node = %self.shared.local, peer = %self.peer, addr = %conn.addr(),
            dialled = conn.dialled, %incarnation, "link up"
        );
        self.conn = Some(Arc::clone(&conn));
        self.plan.up();
        self.told = None;
        let (shared, me) = (Arc::clone(&self.shared), ctx.handle().clone());
        ctx.spawn(async move {
            // What the one before has brought is delivered first.
            if let Some(before) = before {
                before.cancelled().await;
            }
            let reason = pump::run(Arc::clone(&conn), queues, shared).await;
            // A link that is stopping needs no news.
            let _ = me.tell(LinkMessage::Lost { conn, reason }).await;
        });
    }

    fn on_dialled(&mut self, ctx: &mut Context<Self>, outcome: Result<Met, TransportError>) {
        match outcome {
            Ok(Met::New(introduced)) => self.on_adopt(ctx, introduced),
            // The other connection is about to come up here too; if not, it is tried again.
            Ok(Met::Linked(_)) => {
                let step = self.plan.failed(rand::random());
                self.take(ctx, step);
            }
            Err(error) => {
                self.tell_failure(&error);
                let step = self.plan.failed(rand::random());
                self.take(ctx, step);
            }
        }
    }

    fn on_lost(&mut self, ctx: &mut Context<Self>, conn: &Arc<Conn>, reason: &TransportError) {
        // A connection that was replaced ends without ending the link.
        if !self.conn.as_ref().is_some_and(|current| Arc::ptr_eq(current, conn)) {
            return;
        }
        self.conn = None;
        let lived = conn.info().since.elapsed();
        tracing::info!(node = %self.shared.local, peer = %self.peer, %reason, "link lost");
        let step = self.plan.down(lived, rand::random());
        self.take(ctx, step);
        if self.is_idle() {
            // It does not end by itself: a connection that is on its way to it would be lost.
            let _ = self.endpoint.try_tell(EndpointMessage::Idle { peer: self.peer.clone() });
        }
    }

    /// Whether nobody needs it: without a connection, to a peer that is not in the address book.
    fn is_idle(&self) -> bool {
        self.conn.is_none() && !self.plan.is_wanted()
    }

    fn tell_failure(&mut self, error: &TransportError) {
        if matches!(error, TransportError::Stopped) {
            // The node is stopping: that is nobody's failure.
            return;
        }
        let text = error.to_string();
        let attempt = self.plan.failures() + 1;
        if self.told.as_ref() == Some(&text) {
            tracing::debug!(node = %self.shared.local, peer = %self.peer, attempt, %error, "no link");
        } else {
            tracing::warn!(node = %self.shared.local, peer = %self.peer, attempt, %error, "no link");
            self.told = Some(text);
        }
    }

    fn take(&mut self, ctx: &mut Context<Self>, step: Step) {
        match step {
            Step::Rest => {}
            Step::Wake(pause) => self.wake_after(ctx, pause),
            Step::Dial(addr) => {
                let (dialler, peer) = (self.dialler.clone(), self.peer.clone());
                let me = ctx.handle().clone();
                ctx.spawn(async move {
                    let outcome = Box::new(dialler.dial(addr, Some(&peer)).await);
                    let _ = me.tell(LinkMessage::Dialled(outcome)).await;
                });
            }
        }
    }

    fn wake_after(&mut self, ctx: &mut Context<Self>, pause: Duration) {
        // A pause that was cut short leaves its timer behind: at worst one attempt comes early.
        ctx.tell_after(pause, LinkMessage::Wake);
    }
}
