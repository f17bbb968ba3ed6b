//! Firmware that moves between nodes: what the migrator of the cluster asks for, done with hosts.
//!
//! | guest | goes with | why |
//! |---|---|---|
//! | module of `odeum-actor-core`, reactor without folders, firmlet; in the node | all it has in memory | |
//! | the same, from a package that was not made movable | what it has in the store | hidden state |
//! | reactor with folders | what it has in the store | files that it may have open |
//! | component, process of its own | what it has in the store | its memory is out of reach |
//! | what serves HTTP | nothing | each request has an instance of its own |
//! | idle | nothing | there is no instance |
//! | job | does not move while it runs | it has no rest |
//!
//! Whatever goes: messages that wait are sent on by who sent them, with the same request ids, and
//! sessions, variables and remembered requests are in the store for all nodes: what the guest wrote
//! that is not saved yet is saved when it is frozen, and when that fails it stays. What MQTT brought
//! while the guest was frozen goes with it. So does what an instance waits for whose memory goes: its
//! timers, its asks and its subscriptions (`carried`). One that begins anew sets them anew.

mod arrivals;
mod carried;
mod inbox;

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use futures::future::BoxFuture;
use odeum_cluster::entity::window::Window;
use odeum_cluster::migration::{Arriving, Cannot, Carrier, Copied, Departing};
use odeum_proto::{
    Digest, EntityId, Epoch, Incarnation, NodeId, codec, moves::Carriage, store::FirmwareSpec,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub(super) use self::{
    arrivals::{Arrivals, Arrived, Sent, Thawed},
    carried::{Asked, CARRIED_BYTES, Carried},
    inbox::Inbox,
};
use super::{
    cache::{CacheHandle, PackageSource},
    chronicle::Chronicles,
    coordinator::CoordinatorHandle,
    heap::{Packed, Unpacking},
    host::{Gone, HostHandle},
    instance::Instance,
    ledger::Ledger,
    plan::Wanted,
    setting::{Grants, Setting},
};
use crate::package::{
    Package,
    normalise::{self, Movability},
};

/// Packages of which it is known whether they are movable. To find out costs some milliseconds.
const KNOWN: usize = 1_024;

/// What the other node must know.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    digest: Digest,
    /// Whether its memory comes.
    live: bool,
}

/// What the carrier works with.
#[derive(Clone)]
pub(super) struct CarrierParts {
    pub(super) node: NodeId,
    pub(super) life: Incarnation,
    pub(super) coordinator: CoordinatorHandle,
    pub(super) cache: CacheHandle,
    pub(super) source: Arc<dyn PackageSource>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) grants: Arc<Grants>,
    pub(super) chronicles: Chronicles,
    pub(super) arrivals: Arrivals,
}

/// Carries the firmware of a node.
pub(super) struct FirmwareCarrier {
    parts: CarrierParts,
    /// Why packages are not movable, or that they are.
    known: DashMap<Digest, Option<Box<str>>>,
}

impl FirmwareCarrier {
    pub(super) fn new(parts: CarrierParts) -> Self {
        Self { parts, known: DashMap::new() }
    }

    /// Why an instance of the package cannot move; `None` when it can.
    async fn obstacle(&self, digest: Digest) -> Result<Option<Box<str>>, Cannot> {
        if let Some(known) = self.known.get(&digest) {
            return Ok(known.clone());
        }
        let file = self.parts.source.fetch(digest).await.map_err(Cannot::because)?;
        let looked = tokio::task::spawn_blocking(move || {
            let package = Package::read(file).map_err(Cannot::because)?;
            normalise::movability(&package.module()).map_err(Cannot::because)
        });
        let obstacle = match looked.await.map_err(Cannot::because)?? {
            Movability::Movable => None,
            fixed @ Movability::Fixed(_) => {
                Some(fixed.to_string().trim_start_matches("no: ").into())
            }
        };
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        self.known.insert(digest, obstacle.clone());
        Ok(obstacle)
    }

    async fn going(&self, entity: &EntityId, epoch: Epoch) -> Result<Going, Cannot> {
        let found = self.parts.coordinator.host_of(entity, epoch).await.map_err(Cannot::because)?;
        let nobody = || Cannot::because("it does not run there under that epoch");
        let (host, spec) = found.ok_or_else(nobody)?;
        let departs = host.depart().await?;
        let obstacle = match departs.stays_behind {
            Some(reason) => Some(reason),
            None => self.obstacle(spec.digest).await?,
        };
        Ok(Going { host, spec, obstacle, small: departs.small, told: false })
    }

    async fn coming(
        &self,
        entity: &EntityId,
        epoch: Epoch,
        offer: &[u8],
    ) -> Result<Coming, Cannot> {
        let Offer { digest, live } = codec::decode(offer).map_err(Cannot::because)?;
        let of = |replica| self.parts.ledger.wanted_of(&replica, &self.parts.node, self.parts.life);
        let wanted = entity.replica().and_then(of).filter(|it| it.spec.digest == digest);
        let Wanted { replica, spec, .. } =
            wanted.ok_or_else(|| Cannot::because("it is deployed no more, or anew"))?;
        let module = self.parts.cache.load(digest).await.map_err(Cannot::because)?;
        let (chronicles, grants) = (&self.parts.chronicles, Arc::clone(&self.parts.grants));
        let setting = Setting::new(replica, epoch, spec.limits.clone(), chronicles, grants);
        let instance = match live {
            false => None,
            true => {
                let mut blank =
                    Instance::blank(&module, &setting).await.map_err(Cannot::because)?;
                let unpacking = blank.unpacking();
                let unpacking = unpacking.ok_or_else(|| Cannot::because("it is a component"))?;
                Some((blank, unpacking))
            }
        };
        let (arrivals, coordinator) = (self.parts.arrivals.clone(), self.parts.coordinator.clone());
        let entity = entity.clone();
        let answers = Window::default();
        Ok(Coming { arrivals, coordinator, entity, epoch, setting, instance, answers })
    }
}

impl Carrier for FirmwareCarrier {
    fn depart(
        &self,
        entity: &EntityId,
        epoch: Epoch,
    ) -> BoxFuture<'_, Result<Box<dyn Departing>, Cannot>> {
        let entity = entity.clone();
        Box::pin(async move {
            let going = self.going(&entity, epoch).await?;
            Ok(Box::new(going) as Box<dyn Departing>)
        })
    }

    fn arrive(
        &self,
        entity: &EntityId,
        epoch: Epoch,
        offer: Bytes,
    ) -> BoxFuture<'_, Result<Box<dyn Arriving>, Cannot>> {
        let entity = entity.clone();
        Box::pin(async move {
            let coming = self.coming(&entity, epoch, &offer).await?;
            Ok(Box::new(coming) as Box<dyn Arriving>)
        })
    }
}

/// A guest that is given away.
struct Going {
    host: HostHandle,
    spec: Arc<FirmwareSpec>,
    /// Why its memory stays behind; `None` when it goes with it.
    obstacle: Option<Box<str>>,
    small: bool,
    /// Whether it was told how it ended.
    told: bool,
}

impl Departing for Going {
    fn how(&self) -> Carriage {
        match &self.obstacle {
            None => Carriage::Live,
            Some(reason) => Carriage::Anew { reason: reason.to_string() },
        }
    }

    fn offer(&self) -> Bytes {
        let offer = Offer { digest: self.spec.digest, live: self.obstacle.is_none() };
        // Only a sequence of unknown length cannot be encoded.
        codec::encode(&offer).unwrap_or_default().into()
    }

    fn is_small(&self) -> bool {
        self.small || self.obstacle.is_some()
    }

    fn copy(&mut self) -> BoxFuture<'_, Result<Copied, Cannot>> {
        Box::pin(async move {
            Ok(match self.host.pack().await? {
                Packed::Piece(piece) => Copied::Piece(piece),
                Packed::Round { small } => Copied::Round { small },
            })
        })
    }

    fn freeze(&mut self) -> BoxFuture<'_, Result<(), Cannot>> {
        Box::pin(async move { self.host.freeze().await })
    }

    fn rest(&mut self) -> BoxFuture<'_, Result<Vec<Bytes>, Cannot>> {
        Box::pin(async move { self.host.pack_rest(self.obstacle.is_none()).await })
    }

    fn stay(mut self: Box<Self>) {
        self.told = true;
        self.host.stay();
    }

    fn gone(mut self: Box<Self>, to: &NodeId, next: Epoch) {
        self.told = true;
        self.host.gone(Gone { to: to.clone(), epoch: next });
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        if !self.told {
            self.host.forsaken();
        }
    }
}

/// A guest that is taken in.
struct Coming {
    arrivals: Arrivals,
    coordinator: CoordinatorHandle,
    entity: EntityId,
    epoch: Epoch,
    setting: Setting,
    /// When its memory comes.
    instance: Option<(Instance, Unpacking)>,
    /// What that has answered.
    answers: Window,
}

impl Arriving for Coming {
    fn take(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), Cannot>> {
        Box::pin(async move {
            let (piece, mut inbox) = Inbox::split(piece).map_err(Cannot::because)?;
            self.answers.extend(inbox.answers(), Instant::now());
            match &mut self.instance {
                Some(_) if piece.is_empty() => Ok(()),
                Some((instance, unpacking)) => {
                    instance.unpack(unpacking, piece).map_err(Cannot::because)
                }
                None => Err(Cannot::because("its memory was to stay behind")),
            }
        })
    }

    fn thaw(&mut self, last: Bytes) -> BoxFuture<'_, Result<(), Cannot>> {
        Box::pin(async move {
            let (piece, mut inbox) = Inbox::split(last).map_err(Cannot::because)?;
            let mut carried = Carried::default();
            let instance = match self.instance.take() {
                Some((mut instance, mut unpacking)) => {
                    instance.unpack(&mut unpacking, piece).map_err(Cannot::because)?;
                    carried = instance.unpacked(&mut unpacking).await.map_err(Cannot::because)?;
                    Some(instance)
                }
                None => None,
            };
            self.answers.extend(inbox.answers(), Instant::now());
            let (setting, answers) = (self.setting.clone(), std::mem::take(&mut self.answers));
            let thawed = Thawed { instance, carried, setting, inbox, answers };
            self.arrivals.put(&self.entity, self.epoch, thawed);
            Ok(())
        })
    }

    fn begin(self: Box<Self>) -> BoxFuture<'static, ()> {
        // The coordinator finds it when it starts the entity.
        Box::pin(async move { self.coordinator.look_at(&self.entity).await })
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // Nothing is there when it has begun.
        self.arrivals.take(&self.entity, self.epoch);
    }
}
