//! Renews the lease of this node; where it leads the control group, ends those that were not
//! renewed.
//!
//! | message | from | answer |
//! |---|---|---|
//! | `Renew` | its own clock | none |
//! | `Look` | its own watcher, when the store changes; its own clock, when a lease is over | none |
//! | `Over` | its own clock, when this node's lease is over | none |
//! | `Answered` | its own task: what became of a renewal | none |
//! | `Ended` | its own task: whether the leases that are over were ended | none |

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use odeum_actors::{Actor, ActorError, ChildSpec, Context, TimerKey, child};
use odeum_proto::store::{Command, Outcome};
use odeum_proto::{Epoch, Incarnation, NodeId, Revision};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::book::{Book, Entry, Over};
use super::holder::Holder;
use super::{Lease, LeaseConfig, LeaseHandle, Leases};
use crate::store::{Health, State, StoreError, StoreHandle};

/// How long ending leases may take, and the pause after it failed: an election, which ends the
/// office in which it was tried.
const ENDING: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(100));

/// Shortest time between two looks at the store, which may change with every message.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// How long giving the lease back may take when the node stops. What is not given back is over by
/// itself soon.
const GIVING_BACK: Duration = Duration::from_millis(500);

/// What the store says about leases.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// Whether this start of this node is on record, so that it can have a lease.
    pub(super) is_on_record: bool,
    /// Whether this node leads, so that it is to end leases.
    pub(super) leads: bool,
    /// Whether somebody leads.
    pub(super) is_led: bool,
    pub(super) leased: Vec<Entry>,
}

/// The store as the actor sees it: a trait, so that a test can keep it from answering.
pub(super) trait Office: Send + Sync {
    /// Who it is that has the lease.
    fn holder(&self) -> (&NodeId, Incarnation);
    fn look(&self) -> Sight;
    fn changes(&self) -> watch::Receiver<Revision>;
    fn write(
        &self,
        command: Command,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>>;
}

/// The store.
pub(super) struct Registry {
    pub(super) store: StoreHandle,
    pub(super) local: NodeId,
    pub(super) incarnation: Incarnation,
}

impl Office for Registry {
    fn holder(&self) -> (&NodeId, Incarnation) {
        (&self.local, self.incarnation)
    }

    fn look(&self) -> Sight {
        // Before the state is looked at: what is shown then was on record by this time or earlier.
        let status = self.store.status();
        let leased = self.store.view(|state| {
            let own = |(node, epoch, renewal): (&NodeId, _, _)| (node.clone(), epoch, renewal);
            state.leased().map(own).collect::<Vec<_>>()
        });
        let now = Instant::now();
        let entry = |(node, epoch, renewal): (NodeId, Epoch, crate::store::Renewal)| {
            let received = self.store.received_by(renewal.at);
            Entry { node, epoch, renewal, seen: received.unwrap_or(now).min(now) }
        };
        let is_own = |state: &State| {
            let own = state.nodes().get(&self.local);
            own.is_some_and(|own| own.incarnation == self.incarnation)
        };
        Sight {
            is_on_record: self.store.view(is_own),
            leads: status.leader.as_ref() == Some(&self.local),
            is_led: status.health == Health::Good,
            leased: leased.into_iter().map(entry).collect(),
        }
    }

    fn changes(&self) -> watch::Receiver<Revision> {
        self.store.changes()
    }

    fn write(
        &self,
        command: Command,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.store.write(command, deadline))
    }
}

/// The handle and the actor's spec.
pub(super) fn lease(office: Arc<dyn Office>, config: LeaseConfig) -> (LeaseHandle, ChildSpec) {
    let (publish, own) = watch::channel(Lease::Lost);
    let (publish_all, all) = watch::channel(Arc::default());
    let (publish, publish_all) = (Arc::new(publish), Arc::new(publish_all));
    let (_, spec) = child("Lease", move || LeaseActor {
        office: Arc::clone(&office),
        config,
        publish: Arc::clone(&publish),
        publish_all: Arc::clone(&publish_all),
        holder: Holder::default(),
        book: Book::default(),
        asking: None,
        ending: false,
        is_ready: false,
        leads_since: None,
        over: None,
        due: None,
    });
    (LeaseHandle { own, all }, spec)
}

#[derive(Debug)]
enum LeaseMessage {
    Renew,
    Look,
    Over,
    Answered { asked: Instant, answer: Result<Outcome, StoreError> },
    Ended { done: bool },
}

struct LeaseActor {
    office: Arc<dyn Office>,
    config: LeaseConfig,
    publish: Arc<watch::Sender<Lease>>,
    publish_all: Arc<watch::Sender<Arc<Leases>>>,
    holder: Holder,
    book: Book,
    /// A renewal that is under way: which lease was granted by it, if any.
    asking: Option<oneshot::Receiver<Option<Epoch>>>,
    /// Whether leases are being ended.
    ending: bool,
    /// Whether this node could have a lease at the last look.
    is_ready: bool,
    leads_since: Option<Instant>,
    /// Rings when this node's lease is over.
    over: Option<TimerKey>,
    /// Rings when the next lease of all is.
    due: Option<TimerKey>,
}

impl Actor for LeaseActor {
    type Message = LeaseMessage;

    async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
        let (own, mut changes) = (ctx.handle().clone(), self.office.changes());
        ctx.spawn(async move {
            // A closed watch means that this node is stopping.
            while own.tell(LeaseMessage::Look).await.is_ok() && changes.changed().await.is_ok() {
                tokio::time::sleep(LOOK_PAUSE).await;
            }
        });
        ctx.tell_every(self.config.renew_every, || LeaseMessage::Renew);
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut Context<Self>,
        message: LeaseMessage,
    ) -> Result<(), ActorError> {
        match message {
            LeaseMessage::Renew => self.on_renew(ctx),
            LeaseMessage::Look => self.on_look(ctx),
            LeaseMessage::Over => self.on_over(ctx),
            LeaseMessage::Answered { asked, answer } => self.on_answered(ctx, asked, answer),
            LeaseMessage::Ended { done } => self.on_ended(ctx, done),
        }
        Ok(())
    }

    async fn stopping(&mut self, _ctx: &mut Context<Self>) {
        // Everything that needs the lease has been stopped before.
        let held = self.holder.give_up();
        self.publish.send_replace(Lease::Lost);
        // A renewal that is under way might be made after the lease is given back, and keep what
        // was placed here from others for the whole time of a new one.
        let renewed = match self.asking.take() {
            Some(answer) => tokio::time::timeout(GIVING_BACK, answer).await.ok(),
            None => None,
        };
        if let Some(epoch) = held.max(renewed.and_then(Result::unwrap_or_default))
            && self.office.look().is_led
        {
            let node = self.office.holder().0.clone();
            let back = Command::EndLease { node: node.clone(), epoch, renewed: None };
            if let Err(error) = self.office.write(back, GIVING_BACK).await {
                tracing::debug!(%node, %epoch, %error, "lease not given back");
            }
        }
    }
}

impl LeaseActor {
    fn on_renew(&mut self, ctx: &mut Context<Self>) {
        if self.asking.is_some() || !self.office.look().is_on_record {
            return;
        }
        let (answered, asking) = oneshot::channel();
        self.asking = Some(asking);
        let (own, office) = (ctx.handle().clone(), Arc::clone(&self.office));
        let LeaseConfig { ttl, patience, .. } = self.config;
        ctx.spawn(async move {
            let (node, incarnation) = office.holder();
            let renewal = Command::RenewLease { node: node.clone(), incarnation, ttl };
            // From before it is sent: whatever it meets on its way is the node's loss.
            let asked = Instant::now();
            let answer = office.write(renewal, patience).await;
            let granted = match &answer {
                Ok(Outcome::Leased { epoch, .. }) => Some(*epoch),
                _ => None,
            };
            // Only an actor that is stopping listens to it.
            let _ = answered.send(granted);
            let _ = own.tell(LeaseMessage::Answered { asked, answer }).await;
        });
    }

    fn on_answered(
        &mut self,
        ctx: &mut Context<Self>,
        asked: Instant,
        answer: Result<Outcome, StoreError>,
    ) {
        self.asking = None;
        let node = self.office.holder().0.clone();
        match answer {
            Ok(Outcome::Leased { epoch, .. }) => {
                let before = self.holder.lease();
                self.holder.granted(epoch, asked, self.config.ttl);
                if !matches!(before, Lease::Held { epoch: held, .. } if held == epoch) {
                    tracing::info!(%node, %epoch, "lease held");
                }
                self.publish(ctx);
            }
            Ok(outcome) => tracing::debug!(%node, ?outcome, "lease not renewed"),
            Err(error) => tracing::debug!(%node, %error, "lease not renewed"),
        }
        if asked.elapsed() >= self.config.renew_every {
            // It took so long that the next one is due.
            self.on_renew(ctx);
        }
    }

    fn on_over(&mut self, ctx: &mut Context<Self>) {
        self.publish(ctx);
    }

    /// Tells what is known of the lease now, and wakes up when that is over.
    fn publish(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.holder.is_over(now) {
            let node = self.office.holder().0;
            tracing::warn!(%node, "lease lost");
        }
        let lease = self.holder.lease();
        self.publish.send_if_modified(|published| std::mem::replace(published, lease) != lease);
        if let Some(timer) = self.over.take() {
            ctx.cancel(timer);
        }
        if let Lease::Held { until, .. } = lease {
            self.over = Some(ctx.tell_after(until - now, LeaseMessage::Over));
        }
    }

    fn on_look(&mut self, ctx: &mut Context<Self>) {
        let sight = self.office.look();
        self.book.look(sight.leased);
        let leases = self.book.leases();
        self.publish_all.send_if_modified(|all| {
            let changed = **all != leases;
            if changed {
                *all = Arc::new(leases);
            }
            changed
        });
        let is_ready = sight.is_on_record && sight.is_led;
        if is_ready && !std::mem::replace(&mut self.is_ready, is_ready) {
            // It has just come, or there is a leader again.
            self.on_renew(ctx);
        }
        self.is_ready = is_ready;
        if sight.leads {
            self.end_leases(ctx);
        } else {
            self.leads_since = None;
        }
    }

    /// Ends the leases that are over. Not at once when this node has just come into office: nobody
    /// could renew anything before, and whoever is there does so now.
    fn end_leases(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let begins = *self.leads_since.get_or_insert(now) + self.config.renew_every;
        if self.ending {
            return;
        }
        let over = if now < begins { Vec::new() } else { self.book.over(now) };
        if !over.is_empty() {
            self.end(ctx, over);
        } else if let Some(due) = self.book.next() {
            if let Some(timer) = self.due.take() {
                ctx.cancel(timer);
            }
            self.due = Some(ctx.tell_after(due.max(begins) - now, LeaseMessage::Look));
        }
    }

    fn end(&mut self, ctx: &mut Context<Self>, over: Vec<Over>) {
        self.ending = true;
        let (own, office) = (ctx.handle().clone(), Arc::clone(&self.office));
        ctx.spawn(async move {
            let ended = over.into_iter().map(async |Over { node, epoch, renewed }| {
                let named = node.clone();
                let end = Command::EndLease { node, epoch, renewed: Some(renewed) };
                let written = office.write(end, ENDING.0).await;
                let is_same = |entry: &Entry| entry.node == named && entry.epoch == epoch;
                match &written {
                    // It means nothing when the lease was renewed in the meantime.
                    Ok(_) if office.look().leased.iter().any(is_same) => {}
                    Ok(_) => tracing::info!(node = %named, %epoch, "lease ended"),
                    Err(error) => tracing::debug!(node = %named, %epoch, %error, "lease not ended"),
                }
                written.is_ok()
            });
            let done = futures::future::join_all(ended).await.into_iter().all(|done| done);
            let _ = own.tell(LeaseMessage::Ended { done }).await;
        });
    }

    fn on_ended(&mut self, ctx: &mut Context<Self>, done: bool) {
        self.ending = false;
        if done {
            self.on_look(ctx);
        } else {
            self.due = Some(ctx.tell_after(ENDING.1, LeaseMessage::Look));
        }
    }
}
