//! Takes entities in that other nodes give away, and answers how moves from here stand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use odeum_proto::moves::{Answer, Question};
use odeum_proto::store::Move;
use odeum_proto::{Digest, EntityId, Epoch, NodeId, Revision, codec};
use tokio::time::timeout;

use super::Parts;
use super::carrier::{Arriving, Cannot};
use super::wire;
use crate::router::Activations;
use crate::transport::{Serve, ServeError};

/// Most entities that are on their way to one node.
const ARRIVALS: usize = 256;

/// How long this node may take to see in the log what another one has seen.
const SEEN: Duration = Duration::from_secs(5);

/// What is on its way here. Cheap to clone.
#[derive(Clone)]
pub(super) struct Door {
    parts: Parts,
    arrivals: Arc<Mutex<HashMap<EntityId, Arrival>>>,
}

/// An entity that is on its way here.
struct Arrival {
    from: NodeId,
    epoch: Epoch,
    began: Revision,
    state: Arc<tokio::sync::Mutex<State>>,
}

/// Has calls for an entity wait until it is here.
struct Expected {
    activations: Activations,
    entity: EntityId,
}

impl Expected {
    fn new(activations: &Activations, entity: &EntityId) -> Self {
        activations.expect(entity.clone());
        Self { activations: activations.clone(), entity: entity.clone() }
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.activations.expect_no_more(&self.entity);
    }
}

/// What of it is here.
struct State {
    arriving: Option<Box<dyn Arriving>>,
    /// From when it could go on here.
    expected: Option<Expected>,
    /// Of the pieces so far.
    digest: blake3::Hasher,
    pieces: u32,
}

impl State {
    /// A piece of it has come. Each is sent once, and the next only after it was taken.
    fn count(&mut self, number: u32, piece: &[u8]) -> Result<&mut Box<dyn Arriving>, Cannot> {
        if number != self.pieces {
            let expected = self.pieces;
            return Err(Cannot::because(format_args!(
                "piece {number} came where {expected} was to come"
            )));
        }
        self.digest.update(piece);
        self.pieces += 1;
        self.arriving.as_mut().ok_or_else(|| Cannot::because("it has begun"))
    }

    async fn take(&mut self, number: u32, piece: Bytes) -> Result<(), Cannot> {
        self.count(number, &piece)?.take(piece).await
    }
}

impl Door {
    pub(super) fn new(parts: Parts) -> Self {
        Self { parts, arrivals: Arc::default() }
    }

    /// Lets go of what does not come any more, and lets begin what is here.
    pub(super) fn look(&self) {
        let seen = *self.parts.store.changes().borrow();
        let mut begins = Vec::new();
        self.parts.store.view(|state| {
            locked(&self.arrivals).retain(|entity, arrival| {
                let made = state.moves().get(entity).filter(|made| made.epoch == arrival.epoch);
                match made {
                    Some(Move { switched: None, .. }) => true,
                    Some(Move { switched: Some(next), .. }) => {
                        begins.push((entity.clone(), arrival.epoch, *next));
                        true
                    }
                    // It may be that this node does not see yet that it has begun.
                    None => seen < arrival.began,
                }
            });
        });
        for (entity, epoch, next) in begins {
            let door = self.clone();
            tokio::spawn(async move { door.begin(&entity, epoch, next).await });
        }
    }

    async fn answer(&self, from: NodeId, question: Question, state: Bytes) -> Answer {
        #[cfg(feature = "testing")]
        super::halt::before_answer(&question).await;
        let done = match question {
            Question::Prepare { entity, epoch, began } => {
                self.prepare(from, entity, (epoch, began), state).await
            }
            Question::Piece { entity, epoch, number } => match self.of(&entity, epoch, &from) {
                Ok(arrival) => arrival.lock().await.take(number, state).await,
                Err(cannot) => Err(cannot),
            },
            Question::Thaw { entity, epoch, number, digest } => {
                match self.of(&entity, epoch, &from) {
                    Ok(arrival) => {
                        let expected = Expected::new(&self.parts.activations, &entity);
                        thaw(&arrival, number, digest, state, expected).await
                    }
                    Err(cannot) => Err(cannot),
                }
            }
            Question::Begin { entity, epoch, next } => {
                self.begin(&entity, epoch, next).await;
                Ok(())
            }
            Question::Discard { entity, epoch } => {
                let mut arrivals = locked(&self.arrivals);
                if arrivals.get(&entity).is_some_and(|it| it.epoch == epoch && it.from == from) {
                    arrivals.remove(&entity);
                }
                Ok(())
            }
            Question::List => return Answer::Moves(self.parts.journal.all()),
        };
        match done {
            Ok(()) => Answer::Done,
            Err(Cannot(reason)) => Answer::Refused { reason: reason.into() },
        }
    }

    async fn prepare(
        &self,
        from: NodeId,
        entity: EntityId,
        (epoch, began): (Epoch, Revision),
        offer: Bytes,
    ) -> Result<(), Cannot> {
        // What it is must be known here, too.
        let mut changes = self.parts.store.changes();
        let seen = changes.wait_for(|seen| *seen >= began);
        if timeout(SEEN, seen).await.is_err() {
            return Err(Cannot::because("its store is behind"));
        }
        let carrier = self.parts.carrier.get();
        let carrier = carrier.ok_or_else(|| Cannot::because("it takes nothing in"))?;
        let is_full = {
            let mut arrivals = locked(&self.arrivals);
            // What came of an earlier try makes room for this one.
            arrivals.remove(&entity);
            arrivals.len() >= ARRIVALS
        };
        if is_full {
            return Err(Cannot::because(format_args!("{ARRIVALS} others are on their way there")));
        }
        let arriving = carrier.arrive(&entity, epoch, offer).await?;
        let digest = blake3::Hasher::new();
        let state = State { arriving: Some(arriving), expected: None, digest, pieces: 0 };
        let state = Arc::new(tokio::sync::Mutex::new(state));
        locked(&self.arrivals).insert(entity, Arrival { from, epoch, began, state });
        Ok(())
    }

    fn of(
        &self,
        entity: &EntityId,
        epoch: Epoch,
        from: &NodeId,
    ) -> Result<Arc<tokio::sync::Mutex<State>>, Cannot> {
        let arrivals = locked(&self.arrivals);
        let arrival = arrivals.get(entity).filter(|it| it.epoch == epoch && it.from == *from);
        let arrival = arrival.ok_or_else(|| Cannot::because("it is not expected there"))?;
        Ok(Arc::clone(&arrival.state))
    }

    /// Lets it begin, once: when its former node says so or this one sees it.
    async fn begin(&self, entity: &EntityId, epoch: Epoch, next: Epoch) {
        let mut changes = self.parts.store.changes();
        let is_here = || {
            self.parts.store.view(|state| {
                let made = state.moves().get(entity);
                made.is_some_and(|it| it.switched == Some(next) && it.to == self.parts.local)
            })
        };
        let seen = async { while !is_here() && changes.changed().await.is_ok() {} };
        if timeout(SEEN, seen).await.is_err() {
            return;
        }
        let arrival = {
            let mut arrivals = locked(&self.arrivals);
            match arrivals.get(entity).is_some_and(|it| it.epoch == epoch) {
                true => arrivals.remove(entity),
                false => None,
            }
        };
        let Some(arrival) = arrival else { return };
        let mut state = arrival.state.lock().await;
        let (arriving, _expected) = (state.arriving.take(), state.expected.take());
        drop(state);
        if let Some(arriving) = arriving {
            arriving.begin().await;
            // Until then calls for it wait here.
            let active = self.parts.activations.active_under(entity, next);
            if timeout(SEEN, active).await.is_err() {
                tracing::debug!(%entity, epoch = %next, "it has moved here and is not active yet");
            }
        }
    }
}

async fn thaw(
    arrival: &tokio::sync::Mutex<State>,
    number: u32,
    digest: Digest,
    last: Bytes,
    expected: Expected,
) -> Result<(), Cannot> {
    let mut state = arrival.lock().await;
    state.count(number, &last)?;
    if Digest::of_hasher(&state.digest) != digest {
        return Err(Cannot::because("what came is not what was sent"));
    }
    match &mut state.arriving {
        Some(arriving) => arriving.thaw(last).await?,
        None => return Err(Cannot::because("it has begun")),
    }
    state.expected = Some(expected);
    Ok(())
}

impl Serve for Door {
    fn serve(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Result<Bytes, ServeError>> {
        let door = self.clone();
        Box::pin(async move {
            let (question, state) = wire::split(body)?;
            let answer = door.answer(from, question, state).await;
            Ok(codec::encode(&answer)?.into())
        })
    }
}

/// What it guards is changed by single steps, so a panic while it was held did no harm.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
