//! Brings a call to the entity it names, wherever that is active.
//!
//! A call enters at any node. The [`route`] module decides each step from what this node knows:
//! deliver it here, send it to the owner, or hold it while the entity is placed, started or taken
//! over. A retry carries the request id of the first try, so that a call which was carried out by
//! a node that died before it could answer is answered from the deduplication window and not
//! repeated.
//!
//! Delivery: at most one effect per request id within the window of the entity; one reply or one
//! error before the deadline. Calls of one caller that wait for each other's reply are in order;
//! concurrent ones are not ordered.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Call` | [`RouterHandle::call`] | the reply or the error, before the deadline |
//!
//! Not done, and why: peers' calls do not pass through this actor. They are answered by
//! [`Doorway`] from the table of activations alone, because a call that could be forwarded again
//! could travel in circles.

pub mod choice;
pub mod route;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use dashmap::{DashMap, DashSet};
use futures::future::BoxFuture;
use odeum_actors::{Actor, ActorError, AskError, ChildSpec, Context, Handle, Reply, child};
use odeum_proto::{
    EntityId, Epoch, NodeId, ReplicaId, Revision,
    call::{CallError, CallReply, CallRequest},
    codec, http, limits,
    store::Placement,
};
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};

use self::{
    choice::{Choice, Choosing, Seen},
    route::{Sight, Step, next_step},
};
use crate::{
    membership::{LiveSet, MemberState},
    store::{Health, StoreHandle},
    transport::{Class, Serve, ServeError, Service, TransportHandle},
};

/// Most calls that one node carries at once for its callers. Each holds its message in memory, so
/// this many of [`limits::MESSAGE_BYTES`] are the worst case; beyond it callers are pushed back.
const CALLS_IN_FLIGHT: usize = 1_024;

/// Longest deadline a caller may set, and what a longer one is cut to.
pub const LONGEST_DEADLINE: Duration = Duration::from_secs(60);

/// First pause before a held or failed call is looked at again; doubled up to [`LAST_PAUSE`].
/// A change of the store, of the live set or of the activations ends a pause early.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause between two looks at a held call.
const LAST_PAUSE: Duration = Duration::from_millis(100);

/// What the router may ask the actor for beyond the call's own deadline: the actor's answer at
/// the deadline is worth more to the caller than its own silence.
const ANSWER_GRACE: Duration = Duration::from_millis(250);

/// An activation as the router sees it. The layer above registers one for each entity that is
/// active on this node.
pub trait Entity: Send + Sync + 'static {
    /// Handles one message; its `remaining` is the time left. Ends with a reply or an error by
    /// then, whatever happens to the actor behind it.
    fn deliver(&self, call: CallRequest) -> BoxFuture<'static, Result<CallReply, CallError>>;
}

type Table = DashMap<EntityId, (Epoch, Arc<dyn Entity>)>;

/// Entities that will soon be active here.
type Expected = DashSet<EntityId>;

/// What is active on this node: shared by the router, the doorway for peers, and the coordinator
/// that fills it.
#[derive(Clone)]
pub struct Activations {
    table: Arc<Table>,
    expected: Arc<Expected>,
    changed: watch::Sender<()>,
}

impl Default for Activations {
    fn default() -> Self {
        let (table, expected) = Default::default();
        Self { table, expected, changed: watch::Sender::new(()) }
    }
}

impl fmt::Debug for Activations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activations").field("count", &self.table.len()).finish_non_exhaustive()
    }
}

impl Activations {
    /// Registers the activation of `entity` under `epoch`. An older epoch never replaces a newer.
    pub fn activate(&self, entity: EntityId, epoch: Epoch, activation: Arc<dyn Entity>) {
        let mut slot = self.table.entry(entity).or_insert_with(|| (epoch, Arc::clone(&activation)));
        if slot.0 <= epoch {
            *slot = (epoch, activation);
        }
        drop(slot);
        self.changed.send_replace(());
    }

    /// Removes the activation of `entity`, unless a newer one than `epoch` is there.
    pub fn deactivate(&self, entity: &EntityId, epoch: Epoch) {
        self.table.remove_if(entity, |_, (active, _)| *active <= epoch);
        self.changed.send_replace(());
    }

    /// `entity` will soon be active here: calls for it wait until it is, or is expected no more.
    pub(crate) fn expect(&self, entity: EntityId) {
        self.expected.insert(entity);
    }

    /// `entity` is active here, or does not come.
    pub(crate) fn expect_no_more(&self, entity: &EntityId) {
        self.expected.remove(entity);
        self.changed.send_replace(());
    }

    /// The activation of `entity`, as soon as there is one if it is expected.
    async fn find(&self, entity: &EntityId) -> Option<Arc<dyn Entity>> {
        if let Some(found) = self.get(entity) {
            return Some(found);
        }
        let mut changed = self.changed.subscribe();
        // The sender is in this very handle.
        while self.expected.contains(entity) && changed.changed().await.is_ok() {
            if let Some(found) = self.get(entity) {
                return Some(found);
            }
        }
        self.get(entity)
    }

    /// Returns when `entity` is active here under `epoch` or a later one.
    pub(crate) async fn active_under(&self, entity: &EntityId, epoch: Epoch) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let is_active = self.epoch(entity).is_some_and(|active| active >= epoch);
            if is_active || changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// How many entities are active here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// The epoch under which `entity` is active here.
    #[must_use]
    pub fn epoch(&self, entity: &EntityId) -> Option<Epoch> {
        self.table.get(entity).map(|slot| slot.0)
    }

    fn get(&self, entity: &EntityId) -> Option<Arc<dyn Entity>> {
        self.table.get(entity).map(|slot| Arc::clone(&slot.1))
    }
}

/// Sends calls into the cluster. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RouterHandle {
    actor: Handle<RouterMessage>,
    activations: Activations,
}

impl RouterHandle {
    /// Calls an entity and waits for its reply, wherever it is active, through restarts and
    /// failovers, until the call's `remaining` time (at most [`LONGEST_DEADLINE`]) is over.
    ///
    /// # Errors
    /// [`CallError`]; when a [retryable](CallError::is_retryable) one comes back, time ran out
    /// while the cause lasted.
    pub async fn call(&self, call: CallRequest) -> Result<CallReply, CallError> {
        self.call_one(call, Choice::This).await
    }

    /// As [`call`](Self::call), to the entity that `choice` names among the replicas of a firmware,
    /// whose first one the call names.
    ///
    /// # Errors
    /// As those of [`call`](Self::call).
    pub async fn call_one(
        &self,
        mut call: CallRequest,
        choice: Choice,
    ) -> Result<CallReply, CallError> {
        if call.body.len() > most(&call) {
            let got = call.body.len();
            return Err(CallError::TooLarge { got, limit: most(&call) });
        }
        call.remaining = call.remaining.min(LONGEST_DEADLINE);
        let (entity, after) = (call.entity.clone(), call.remaining);
        let asked = self
            .actor
            .ask(after + ANSWER_GRACE, |reply| RouterMessage::Call { call, choice, reply })
            .await;
        asked.unwrap_or_else(|error| {
            Err(match error {
                AskError::Deadline => CallError::DeadlineExceeded { entity, after },
                AskError::Full => CallError::Overloaded { entity, queued: CALLS_IN_FLIGHT },
                _ => CallError::Unavailable { entity, reason: "the router is restarting".into() },
            })
        })
    }

    /// What is active on this node.
    #[must_use]
    pub fn activations(&self) -> &Activations {
        &self.activations
    }
}

/// What the router works with.
#[derive(Debug, Clone)]
pub struct RouterParts {
    /// This node.
    pub local: NodeId,
    /// The way to other nodes.
    pub transport: TransportHandle,
    /// The placement table.
    pub store: StoreHandle,
    /// Who is there.
    pub live: watch::Receiver<Arc<LiveSet>>,
    /// What is active here.
    pub activations: Activations,
}

/// The router's handle and its spec, a child of the `ClusterSupervisor`.
#[must_use]
pub fn router(parts: RouterParts) -> (RouterHandle, ChildSpec) {
    let activations = parts.activations.clone();
    let (actor, spec) = child("Router", move || RouterActor {
        parts: parts.clone(),
        permits: Arc::new(Semaphore::new(CALLS_IN_FLIGHT)),
        turn: 0,
    });
    (RouterHandle { actor, activations }, spec.capacity(CALLS_IN_FLIGHT))
}

#[derive(Debug)]
enum RouterMessage {
    Call { call: CallRequest, choice: Choice, reply: Reply<Result<CallReply, CallError>> },
}

struct RouterActor {
    parts: RouterParts,
    permits: Arc<Semaphore>,
    /// Whose turn it is among replicas that are all the same to a caller.
    turn: u32,
}

impl Actor for RouterActor {
    type Message = RouterMessage;

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: RouterMessage,
    ) -> Result<(), ActorError> {
        match message {
            RouterMessage::Call { call, choice, reply } => self.on_call(ctx, call, choice, reply),
        }
        Ok(())
    }
}

impl RouterActor {
    fn on_call(
        &mut self,
        ctx: &mut Context<Self>,
        call: CallRequest,
        choice: Choice,
        reply: Reply<Result<CallReply, CallError>>,
    ) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            reply.send(Err(CallError::Overloaded { entity: call.entity, queued: CALLS_IN_FLIGHT }));
            return;
        };
        let parts = self.parts.clone();
        self.turn = self.turn.wrapping_add(1);
        let choosing = Choosing::new(choice, self.turn);
        ctx.spawn(async move {
            reply.send(parts.carry(call, choosing).await);
            drop(permit);
        });
    }
}

/// All that a route depends on, for who waits for something else to be seen.
struct Sights {
    store: watch::Receiver<Revision>,
    live: watch::Receiver<Arc<LiveSet>>,
    activated: watch::Receiver<()>,
}

impl Sights {
    async fn changed(&mut self) {
        tokio::select! {
            _ = self.store.changed() => (),
            _ = self.live.changed() => (),
            _ = self.activated.changed() => (),
        }
    }
}

impl RouterParts {
    /// One call from its entry to its end.
    async fn carry(
        self,
        mut call: CallRequest,
        mut choosing: Choosing,
    ) -> Result<CallReply, CallError> {
        let after = call.remaining;
        let named = call.entity.clone();
        let deadline = Instant::now() + after;
        let mut confirmed = false;
        let mut pause = FIRST_PAUSE;
        let mut last = None;
        // Where it has moved to, as its former node says; this one may not see it yet.
        let (mut moved, mut moved_at) = (None, Epoch::default());
        loop {
            // Subscribed before looking, so that no change between the look and the wait is lost.
            let mut sights = self.sights();

            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                let entity = call.entity;
                return Err(last.unwrap_or(CallError::DeadlineExceeded { entity, after }));
            }
            call.entity = self.choose(&named, &mut choosing);
            let sight = self.look(&call.entity, confirmed);
            let attempt = CallRequest { remaining, ..call.clone() };
            let step = match moved.take() {
                Some(node) if node != self.local => Step::Send(node),
                // It comes here, and is expected or active.
                Some(_) => Step::Deliver(moved_at),
                None => next_step(&call.entity, &self.local, &sight),
            };
            let result = match step {
                Step::Deliver(_) => choosing.noted(self.deliver(attempt).await),
                Step::Send(node) => {
                    choosing.noted(self.send(&node, attempt).await).map_err(not_there)
                }
                Step::Confirm => match self.store.barrier(remaining).await {
                    Ok(_) => {
                        confirmed = true;
                        continue;
                    }
                    Err(error) => Err(CallError::NoQuorum { reason: error.to_string().into() }),
                },
                Step::Hold(reason) => {
                    choosing.held();
                    let (entity, reason) = (call.entity.clone(), reason.into());
                    Err(CallError::Unavailable { entity, reason })
                }
                Step::Fail(error) => return Err(error),
            };
            match result {
                Err(CallError::Unreachable { .. } | CallError::DeadlineExceeded { .. })
                    if remaining < LAST_PAUSE && last.is_some() =>
                {
                    // Its time was too short to tell more than the attempt before it: the loop
                    // ends with that one's error.
                }
                Err(error @ CallError::Overloaded { .. }) if choosing.has_another() => {
                    last = Some(error);
                    continue;
                }
                Err(CallError::Overloaded { entity, queued }) => {
                    return Err(CallError::Overloaded { entity, queued });
                }
                Err(CallError::Moved { entity, to, epoch }) => {
                    let reason = format!("it has moved to {to}").into();
                    last = Some(CallError::Unavailable { entity, reason });
                    // Each later than the one before, so that it does not travel in circles.
                    if epoch > moved_at {
                        (moved, moved_at) = (Some(to), epoch);
                        continue;
                    }
                }
                Err(error) if error.is_retryable() => {
                    tracing::debug!(entity = %call.entity, request = %call.request, %error, "call held");
                    last = Some(error);
                }
                Err(CallError::DeadlineExceeded { .. }) if self.has_no_quorum() => {
                    return Err(no_quorum_within(after));
                }
                other => return other,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // A busy store changes all the time: at least the first pause goes by in any case.
            tokio::time::sleep(FIRST_PAUSE.min(left)).await;
            timeout(pause.min(left), sights.changed()).await.ok();
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// What is to be seen from now on.
    fn sights(&self) -> Sights {
        let mut live = self.live.clone();
        live.mark_unchanged();
        let activated = self.activations.changed.subscribe();
        Sights { store: self.store.changes(), live, activated }
    }

    fn look(&self, entity: &EntityId, confirmed: bool) -> Sight {
        let (deployed, placement) = self.store.view(|state| {
            let replica = entity.replica();
            let deployed = replica.is_some_and(|replica| state.spec_of(&replica).is_some());
            (deployed, state.placements().get(entity).cloned())
        });
        let owner_down = placement.as_ref().is_some_and(|placement| self.is_down(&placement.node));
        let active_here = self.activations.epoch(entity);
        Sight { deployed, placement, active_here, owner_down, confirmed }
    }

    /// The replica to which an attempt goes.
    fn choose(&self, named: &EntityId, choosing: &mut Choosing) -> EntityId {
        let Some(first) = named.replica().filter(|_| choosing.is_open()) else {
            return named.clone();
        };
        let name = first.firmware();
        let replicas = self.store.view(|state| {
            let replicas = state.firmware().get(name).map_or(1, |spec| spec.replicas);
            let seen = |replica: ReplicaId| {
                let placement = state.placements().get(&replica.entity());
                (replica, placement.cloned())
            };
            ReplicaId::all(name, replicas).map(seen).collect::<Vec<_>>()
        });
        let seen = |(replica, placement): (ReplicaId, Option<Placement>)| {
            let is_here =
                |at: &Placement| self.activations.epoch(&replica.entity()) == Some(at.epoch);
            let may_answer = placement.is_some_and(|at| match at.node == self.local {
                true => is_here(&at),
                false => !self.is_down(&at.node),
            });
            Seen { replica, may_answer }
        };
        let seen: Vec<Seen> = replicas.into_iter().map(seen).collect();
        choosing.next(&seen).unwrap_or_else(|| named.clone())
    }

    /// Whether a message that was not answered in time could not have been: what it changes is
    /// answered after a majority has it.
    fn has_no_quorum(&self) -> bool {
        self.store.status().health == Health::NoQuorum
    }

    fn is_down(&self, node: &NodeId) -> bool {
        let live = self.live.borrow();
        live.members.get(node).is_some_and(|member| member.state == MemberState::Down)
    }

    async fn deliver(&self, call: CallRequest) -> Result<CallReply, CallError> {
        deliver(&self.activations, &self.local, call).await
    }

    /// Sends the call to its owner. It ends early when the owner is found to be gone: the
    /// membership has the transport give up on it.
    async fn send(&self, node: &NodeId, call: CallRequest) -> Result<CallReply, CallError> {
        let remaining = call.remaining;
        self.transport
            .call(node, Service::Call, class(&call), &call, remaining)
            .await
            .unwrap_or_else(|error| {
                let reason = error.to_string().into();
                Err(CallError::Unreachable { node: node.clone(), reason })
            })
    }
}

/// What a caller is told who cannot look the entity up: the router did, and it was not there.
fn not_there(error: CallError) -> CallError {
    match error {
        CallError::NotHere { entity, node } => CallError::Unavailable {
            entity,
            reason: format!("it does not run on {node} now").into(),
        },
        error => error,
    }
}

fn no_quorum_within(after: Duration) -> CallError {
    CallError::NoQuorum { reason: format!("none was in sight for {after:?}").into() }
}

async fn deliver(
    activations: &Activations,
    local: &NodeId,
    call: CallRequest,
) -> Result<CallReply, CallError> {
    let (entity, after) = (call.entity.clone(), call.remaining);
    let delivered = async {
        match activations.find(&call.entity).await {
            Some(activation) => activation.deliver(call).await,
            None => Err(CallError::NotHere { entity: call.entity, node: local.clone() }),
        }
    };
    timeout(after, delivered).await.unwrap_or(Err(CallError::DeadlineExceeded { entity, after }))
}

/// Answers calls that other nodes send here.
#[derive(Debug)]
pub struct Doorway {
    local: NodeId,
    activations: Activations,
    store: StoreHandle,
}

impl Doorway {
    /// The doorway of this node.
    #[must_use]
    pub fn new(local: NodeId, activations: Activations, store: StoreHandle) -> Self {
        Self { local, activations, store }
    }
}

impl Serve for Doorway {
    fn serve(&self, _from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let (activations, local) = (self.activations.clone(), self.local.clone());
        let store = self.store.clone();
        Box::pin(async move {
            let call: CallRequest = codec::decode(&body)?;
            let result = deliver(&activations, &local, call).await;
            // Who has just moved from here is sent for where it is.
            let result = result.map_err(|error| match error {
                CallError::NotHere { entity, node } => {
                    let place = store.view(|state| state.placements().get(&entity).cloned());
                    match place.filter(|place| place.node != local) {
                        Some(Placement { node: to, epoch }) => {
                            CallError::Moved { entity, to, epoch }
                        }
                        None => CallError::NotHere { entity, node },
                    }
                }
                error => error,
            });
            Ok(codec::encode(&result)?.into())
        })
    }
}

/// Whether it is an HTTP request, which may be larger than other messages.
fn is_http(call: &CallRequest) -> bool {
    call.session.as_deref() == Some(http::SESSION)
}

/// Most bytes of its body.
fn most(call: &CallRequest) -> usize {
    if is_http(call) { http::BODY_BYTES + 2 * http::HEAD_BYTES } else { limits::MESSAGE_BYTES }
}

/// By which streams it goes, and its reply: HTTP bodies are large, and in no order.
fn class(call: &CallRequest) -> Class {
    if is_http(call) { Class::Bulk } else { Class::Lane }
}
