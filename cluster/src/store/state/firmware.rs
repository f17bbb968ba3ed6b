//! What is deployed, and which package each replica of it runs.
//!
//! All replicas of a firmware are to run what is deployed under its name. An update changes that at
//! once for a single replica. Of several, each goes on with what it has until
//! [`Advance`](odeum_proto::store::Command::Advance) names it: until then the log knows what it is
//! *behind* with. So whoever leads next, and whatever became of the one who led, goes on where the
//! update is; and a rollback is the same the other way round.
//!
//! The package before is kept as long as the new one is on trial on any replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use odeum_proto::store::{FirmwarePolicy, FirmwareSpec, Refusal};
use odeum_proto::{Digest, EntityId, Epoch, Name, ReplicaId, limits};
use serde::{Deserialize, Serialize};

use super::{State, at_most, too_much};

/// How far the last update of a firmware is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// Replicas that still run something else than is deployed, and what.
    behind: BTreeMap<u32, Arc<FirmwareSpec>>,
    /// Replicas on which the deployed package has stood the test.
    stood: BTreeSet<u32>,
}

impl Update {
    /// Replicas that still run something else than is deployed, and what.
    #[must_use]
    pub fn behind(&self) -> &BTreeMap<u32, Arc<FirmwareSpec>> {
        &self.behind
    }
}

impl State {
    /// The deployed firmware, by name.
    #[must_use]
    pub fn firmware(&self) -> &BTreeMap<Name, Arc<FirmwareSpec>> {
        &self.firmware
    }

    /// What was deployed under that name before its last update, if that brought another package.
    #[must_use]
    pub fn former(&self, name: &Name) -> Option<&Arc<FirmwareSpec>> {
        self.former.get(name)
    }

    /// What would come back if `replica` crashed too often: nothing when it has not been updated, or
    /// has stood the test.
    #[must_use]
    pub fn former_of(&self, replica: &ReplicaId) -> Option<&Arc<FirmwareSpec>> {
        let number = replica.number();
        let is_over =
            |update: &Update| update.behind.contains_key(&number) || update.stood.contains(&number);
        let is_over = self.updates.get(replica.firmware()).is_some_and(is_over);
        self.former(replica.firmware()).filter(|_| !is_over)
    }

    /// How far the last update of a firmware is; `None` when there is nothing to tell of it.
    #[must_use]
    pub fn update(&self, name: &Name) -> Option<&Update> {
        self.updates.get(name)
    }

    /// Updates that have not reached all replicas.
    pub fn updates(&self) -> impl Iterator<Item = (&Name, &Update)> {
        self.updates.iter().filter(|(_, update)| !update.behind.is_empty())
    }

    /// What a replica runs, or should; `None` when there is no such replica.
    #[must_use]
    pub fn spec_of(&self, replica: &ReplicaId) -> Option<&Arc<FirmwareSpec>> {
        let deployed = self.firmware.get(replica.firmware())?;
        let number = replica.number();
        let behind = self.updates.get(replica.firmware()).and_then(|it| it.behind.get(&number));
        (number <= deployed.replicas).then(|| behind.unwrap_or(deployed))
    }

    /// All replicas of all firmware, by name and number, and what each runs.
    pub fn replicas(&self) -> impl Iterator<Item = (ReplicaId, &Arc<FirmwareSpec>)> {
        self.firmware.keys().flat_map(|name| self.replicas_of(name))
    }

    /// Those of one firmware; none when it is not deployed.
    pub fn replicas_of<'a>(
        &'a self,
        name: &Name,
    ) -> impl Iterator<Item = (ReplicaId, &'a Arc<FirmwareSpec>)> + use<'a> {
        self.firmware.get(name).into_iter().flat_map(move |spec| {
            ReplicaId::all(&spec.name, spec.replicas).map(move |replica| {
                let runs = self.spec_of(&replica).unwrap_or(spec);
                (replica, runs)
            })
        })
    }

    /// The last epoch before the firmware of that name came to be: all activations of it are later,
    /// all of former ones of its name are not.
    #[must_use]
    pub fn born(&self, name: &Name) -> Option<Epoch> {
        self.born.get(name).copied()
    }

    /// Whether anything changed by it.
    pub(super) fn put_firmware(&mut self, spec: &FirmwareSpec) -> Result<bool, Refusal> {
        self.check_not_restoring()?;
        let package = limits::PACKAGE_BYTES as u64;
        if spec.size > package {
            return Err(too_much("bytes of a package", spec.size, package));
        }
        self.check_replicas(&spec.name, spec.replicas)?;
        let FirmwarePolicy { nodes, apart, .. } = &spec.policy;
        at_most("nodes of a firmware", nodes.len(), limits::NODES_PER_FIRMWARE)?;
        at_most("firmwares to be apart from", apart.len(), limits::APART_PER_FIRMWARE)?;
        let Some(before) = self.firmware.get(&spec.name).cloned() else {
            at_most("firmwares", self.firmware.len() + 1, limits::FIRMWARES)?;
            self.born.insert(spec.name.clone(), self.last_epoch);
            self.firmware.insert(spec.name.clone(), Arc::new(spec.clone()));
            return Ok(true);
        };
        if *before == *spec {
            return Ok(false);
        }
        if before.digest != spec.digest {
            // What an update has not brought everywhere is not what comes back after the next.
            let is_under_way = self.updates().any(|(name, _)| *name == spec.name);
            let last = self.former.remove(&spec.name).filter(|_| is_under_way);
            let last = last.unwrap_or(before);
            if last.digest != spec.digest {
                self.former.insert(spec.name.clone(), last);
            }
        }
        self.deploy(Arc::new(spec.clone()));
        Ok(true)
    }

    /// Whether anything changed by it: not when something else was deployed in the meantime.
    pub(super) fn roll_back(&mut self, name: &Name, failed: Digest) -> Result<bool, Refusal> {
        let deployed = self.deployed(name)?;
        let replicas = deployed.replicas;
        if deployed.digest != failed {
            return Ok(false);
        }
        let former = self.former.remove(name);
        let mut former = former.ok_or_else(|| Refusal::NothingBefore { name: name.clone() })?;
        Arc::make_mut(&mut former).replicas = replicas;
        self.deploy(former);
        Ok(true)
    }

    /// Whether anything changed by it.
    pub(super) fn settle(&mut self, replica: &ReplicaId, kept: Digest) -> bool {
        let name = replica.firmware();
        let is_kept = self.spec_of(replica).is_some_and(|spec| spec.digest == kept);
        if !is_kept || self.former_of(replica).is_none() {
            return false;
        }
        let replicas = self.firmware.get(name).map_or(0, |spec| spec.replicas);
        let update = self.updates.entry(name.clone()).or_default();
        update.stood.insert(replica.number());
        if update.behind.is_empty() && (1..=replicas).all(|number| update.stood.contains(&number)) {
            self.former.remove(name);
            self.updates.remove(name);
        }
        true
    }

    /// Whether anything changed by it.
    pub(super) fn scale(&mut self, name: &Name, replicas: u32) -> Result<bool, Refusal> {
        self.check_not_restoring()?;
        self.check_replicas(name, replicas)?;
        let unknown = || Refusal::UnknownFirmware { name: name.clone() };
        let spec = self.firmware.get_mut(name).ok_or_else(unknown)?;
        let before = std::mem::replace(&mut Arc::make_mut(spec).replicas, replicas);
        self.trim(name, replicas);
        Ok(before != replicas)
    }

    /// The next step of an update.
    pub(super) fn advance(
        &mut self,
        replica: &ReplicaId,
        expected: Option<Epoch>,
        behind: u32,
    ) -> Result<(), Refusal> {
        let name = replica.firmware();
        self.deployed(name)?;
        self.check_epoch(&replica.entity(), expected)?;
        let stale = || Refusal::StaleUpdate { name: name.clone() };
        let update = self.updates.get_mut(name).ok_or_else(stale)?;
        if update.behind.len() != behind as usize {
            return Err(stale());
        }
        update.behind.remove(&replica.number()).ok_or_else(stale)?;
        self.forget_idle_update(name);
        self.renew_replica(replica);
        Ok(())
    }

    pub(super) fn delete_firmware(&mut self, name: &Name) -> Result<(), Refusal> {
        if self.firmware.remove(name).is_none() {
            return Err(Refusal::UnknownFirmware { name: name.clone() });
        }
        self.former.remove(name);
        self.updates.remove(name);
        self.born.remove(name);
        let stays = |entity: &EntityId| entity.replica().is_none_or(|it| it.firmware() != name);
        self.placements.retain(|entity, _| stays(entity));
        self.moves.retain(|entity, _| stays(entity));
        Ok(())
    }

    /// The packages that a firmware needs: what is deployed, what came before, and what replicas
    /// still run.
    pub(super) fn packages_of(&self, name: &Name) -> BTreeSet<Digest> {
        let behind = self.updates.get(name).into_iter().flat_map(|update| update.behind.values());
        let specs = self.firmware.get(name).into_iter().chain(self.former.get(name)).chain(behind);
        specs.map(|spec| spec.digest).collect()
    }

    /// Whether a firmware may have so many, beside those of all others.
    pub(super) fn check_replicas(&self, name: &Name, replicas: u32) -> Result<(), Refusal> {
        if replicas == 0 {
            return Err(Refusal::NoReplica);
        }
        if replicas > limits::REPLICAS {
            return Err(too_much(
                "replicas of a firmware",
                replicas.into(),
                limits::REPLICAS.into(),
            ));
        }
        let others = self.firmware.values().filter(|spec| spec.name != *name);
        let others: usize = others.map(|spec| spec.replicas as usize).sum();
        at_most("replicas of all firmwares", others + replicas as usize, limits::ALL_REPLICAS)
    }

    fn deployed(&self, name: &Name) -> Result<&Arc<FirmwareSpec>, Refusal> {
        let unknown = || Refusal::UnknownFirmware { name: name.clone() };
        self.firmware.get(name).ok_or_else(unknown)
    }

    /// Has `spec` take the place of what is deployed under its name: at once when it has a single
    /// replica, else replica by replica.
    fn deploy(&mut self, spec: Arc<FirmwareSpec>) {
        let name = spec.name.clone();
        let others: Vec<(ReplicaId, Arc<FirmwareSpec>)> = ReplicaId::all(&name, spec.replicas)
            .filter_map(|replica| {
                let runs = self.spec_of(&replica)?.clone();
                Some((replica, runs))
            })
            .filter(|(_, runs)| !runs.runs_like(&spec))
            .collect();
        let is_other = self.firmware.get(&name).is_none_or(|it| it.digest != spec.digest);
        let update = self.updates.entry(name.clone()).or_default();
        if is_other {
            update.stood.clear();
        }
        update.behind.clear();
        if spec.replicas > 1 {
            update.behind = others.iter().map(|(it, runs)| (it.number(), runs.clone())).collect();
        }
        let replicas = spec.replicas;
        self.firmware.insert(name.clone(), spec);
        if replicas == 1 {
            for (replica, _) in others {
                self.renew_replica(&replica);
            }
        }
        self.trim(&name, replicas);
    }

    /// Nothing is kept of replicas with higher numbers.
    fn trim(&mut self, name: &Name, replicas: u32) {
        if let Some(update) = self.updates.get_mut(name) {
            update.behind.retain(|number, _| *number <= replicas);
            update.stood.retain(|number| *number <= replicas);
        }
        let stays = |entity: &EntityId| {
            let replica = entity.replica().filter(|it| it.firmware() == name);
            replica.is_none_or(|it| it.number() <= replicas)
        };
        self.placements.retain(|entity, _| stays(entity));
        self.moves.retain(|entity, _| stays(entity));
        self.forget_idle_update(name);
    }

    fn forget_idle_update(&mut self, name: &Name) {
        let is_idle = |it: &Update| it.behind.is_empty() && it.stood.is_empty();
        if self.updates.get(name).is_some_and(is_idle) {
            self.updates.remove(name);
        }
    }

    /// Another program: what the one before it left under way must not come late.
    fn renew_replica(&mut self, replica: &ReplicaId) {
        let changed = replica.entity();
        self.renew_placements(|entity, _| *entity == changed);
    }
}
