//! Keeps the link to one peer: dials it, runs the connection, dials again when it is lost, and of
//! two connections keeps the one that both sides keep.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `SetAddress` | `Endpoint`, when the address book changes | |
//! | `Want` | `Endpoint`, when a request waits for the link | |
//! | `Adopt` | `Endpoint`, with a connection the peer dialled, or `dial` did | |
//! | `Retire` | `Endpoint`, when the link has told it that it is of no use | whether it ends |
//! | `Dialled`, `Lost`, `GivenUp`, `Yield`, `Wake` | itself | |

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use odeum_actors::{Actor, ActorError, Context, Handle, Reply};
use odeum_proto::{Incarnation, NodeId};

use super::conn::{Conn, Queues, Role};
use super::endpoint::{Dialler, EndpointMessage};
use super::handle::Shared;
use super::handover::Handover;
use super::hello::{Introduced, Met};
use super::plan::{Plan, Step};
use super::pump::{self, End};
use super::{TransportError, settings};

/// Connections that are seen out at a time. Two nodes make one or two; who makes more wants something
/// else.
const SEEN_OUT: usize = 4;

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
    /// The peer gives way on a connection.
    GivenUp {
        /// Which.
        conn: Arc<Conn>,
    },
    /// The one in whose favour the peer gave way has not come.
    Yield {
        /// The one that was given up.
        conn: Arc<Conn>,
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
    /// Those that give way, oldest first.
    leaving: Vec<Arc<Conn>>,
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
        Self { peer, shared, dialler, endpoint, plan, conn: None, leaving: Vec::new(), told: None }
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
            LinkMessage::GivenUp { conn } => self.on_given_up(ctx, conn),
            LinkMessage::Yield { conn } => self.on_yield(ctx, &conn),
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

    /// Of two connections between the same two processes the lower is seen out; to an earlier start of
    /// the peer there is nothing to see out.
    fn on_adopt(&mut self, ctx: &mut Context<Self>, introduced: Introduced) {
        match &self.conn {
            Some(higher) if higher.rank >= introduced.rank => {
                if higher.incarnation == introduced.incarnation {
                    self.see_out_unused(ctx, introduced);
                } else {
                    introduced.quic.close(settings::CLOSE_DUPLICATE, b"another connection stays");
                }
            }
            _ => self.put_in_use(ctx, introduced),
        }
    }

    /// Sees out a connection that is lower than the one in use.
    fn see_out_unused(&mut self, ctx: &mut Context<Self>, introduced: Introduced) {
        let (conn, queues) = Conn::new(introduced, &Role::Unused, Vec::new());
        conn.give_way(&self.shared);
        self.leave(Arc::clone(&conn));
        self.run(ctx, conn, queues, Vec::new());
    }

    /// Uses a connection that is higher than the one in use, if there is one, which gives way.
    fn put_in_use(&mut self, ctx: &mut Context<Self>, introduced: Introduced) {
        let incarnation = introduced.incarnation;
        let earlier = self.end_other_starts(incarnation);
        let last = self.conn.take();
        let of_this_start = self.leaving.iter().filter(|conn| conn.incarnation == incarnation);
        let before = ways_out(of_this_start.chain(&last));
        let role = match &last {
            Some(last) if last.handover().go_on() => Role::Successor(last),
            _ => Role::Only,
        };
        let (conn, queues) = Conn::new(introduced, &role, before);
        self.shared.install(&conn);
        if let Some(last) = last {
            last.give_way(&self.shared);
            self.leave(last);
        }
        tracing::info!(
            node = %self.shared.local, peer = %self.peer, addr = %conn.addr(),
            dialled = conn.dialled, %incarnation, "link up"
        );
        self.conn = Some(Arc::clone(&conn));
        self.plan.up();
        self.told = None;
        self.run(ctx, conn, queues, earlier);
    }

    /// Ends the connections to other starts of the peer than this one; returns their ways out.
    fn end_other_starts(&mut self, incarnation: Incarnation) -> Vec<Arc<Handover>> {
        let is_other = |conn: &&Arc<Conn>| conn.incarnation != incarnation;
        let others = || self.leaving.iter().chain(&self.conn).filter(is_other);
        for conn in others() {
            conn.quic.close(settings::CLOSE_DUPLICATE, b"a later start of the peer is there");
        }
        let ways_out = ways_out(others());
        self.conn = self.conn.take().filter(|conn| conn.incarnation == incarnation);
        ways_out
    }

    /// Sees a connection out.
    fn leave(&mut self, conn: Arc<Conn>) {
        if self.leaving.len() == SEEN_OUT {
            let oldest = self.leaving.remove(0);
            oldest.quic.close(settings::CLOSE_ORDERLY, b"too many connections give way");
        }
        self.leaving.push(conn);
    }

    /// Runs a connection, after those to an earlier start of the peer.
    fn run(
        &self,
        ctx: &mut Context<Self>,
        conn: Arc<Conn>,
        queues: Queues,
        earlier: Vec<Arc<Handover>>,
    ) {
        let end = End::of(Arc::clone(&conn), Arc::clone(&self.shared));
        let me = ctx.handle().clone();
        ctx.spawn(async move {
            // What those have brought is delivered first.
            for earlier in earlier {
                earlier.ended().cancelled().await;
            }
            // A link that is stopping needs no news.
            let mut running = pin!(pump::run(end, queues));
            let reason = tokio::select! {
                biased;
                reason = &mut running => reason,
                () = conn.handover().peer_begun().cancelled() => {
                    let _ = me.tell(LinkMessage::GivenUp { conn: Arc::clone(&conn) }).await;
                    running.await
                }
            };
            let _ = me.tell(LinkMessage::Lost { conn, reason }).await;
        });
    }

    /// The peer has another one, which is about to come up here, too.
    fn on_given_up(&mut self, ctx: &mut Context<Self>, conn: Arc<Conn>) {
        if conn.handover().is_lost() {
            // Nothing that is sent by its lanes is answered.
            self.on_yield(ctx, &conn);
        } else if self.is_current(&conn) {
            ctx.tell_after(self.shared.yield_after, LinkMessage::Yield { conn });
        }
    }

    /// Uses no connection rather than one on which the peer asks nothing.
    fn on_yield(&mut self, ctx: &mut Context<Self>, conn: &Arc<Conn>) {
        if !self.is_current(conn) {
            return;
        }
        self.shared.remove(conn);
        conn.give_way(&self.shared);
        self.leave(Arc::clone(conn));
        self.down(ctx, conn, "the peer keeps another connection");
    }

    fn is_current(&self, conn: &Arc<Conn>) -> bool {
        self.conn.as_ref().is_some_and(|current| Arc::ptr_eq(current, conn))
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
        self.leaving.retain(|leaving| !Arc::ptr_eq(leaving, conn));
        // A connection that was replaced ends without ending the link.
        if self.is_current(conn) {
            self.down(ctx, conn, &reason.to_string());
        }
        if self.is_idle() {
            // It does not end by itself: a connection that is on its way to it would be lost.
            let _ = self.endpoint.try_tell(EndpointMessage::Idle { peer: self.peer.clone() });
        }
    }

    fn down(&mut self, ctx: &mut Context<Self>, conn: &Conn, reason: &str) {
        self.conn = None;
        let lived = conn.info().since.elapsed();
        tracing::info!(node = %self.shared.local, peer = %self.peer, %reason, "link lost");
        let step = self.plan.down(lived, rand::random());
        self.take(ctx, step);
    }

    /// Whether nobody needs it: without a connection, to a peer that is not in the address book.
    fn is_idle(&self) -> bool {
        self.conn.is_none() && self.leaving.is_empty() && !self.plan.is_wanted()
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

/// The ways out of those of `conns` that were used.
fn ways_out<'a>(conns: impl Iterator<Item = &'a Arc<Conn>>) -> Vec<Arc<Handover>> {
    let ways_out = conns.map(|conn| conn.handover()).filter(|way_out| !way_out.is_unused());
    ways_out.map(Arc::clone).collect()
}
