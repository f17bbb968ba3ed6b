//! The restore of a backup, as the cluster agrees on it.
//!
//! With the first step the epochs go above all that the backup has, those of what is placed
//! already included, and nothing is deployed any more; with the last one everything is that the
//! old cluster had deployed. Sessions are brought into their groups in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use odeum_proto::backup::{KnownFirmware, Restore, RestoreStep};
use odeum_proto::store::Refusal;
use odeum_proto::{BackupId, EntityKind, Epoch, NodeId, Revision, limits};
use serde::{Deserialize, Serialize};

use super::{KindState, State, at_most, too_much};

/// Highest epoch that a backup may name: far more than any cluster has had, and with room for as
/// many again, since they must never begin anew.
const HIGHEST_EPOCH: u64 = u64::MAX / 2;

/// The backup that the cluster was restored from, or is being restored from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its name.
    pub backup: BackupId,
    /// Whether all of it is there.
    pub complete: bool,
}

impl State {
    /// The last backup that was brought into this cluster, or is being brought.
    #[must_use]
    pub fn restored(&self) -> Option<Restored> {
        self.restored
    }

    /// Whether a backup can be brought into this cluster, as far as this group knows.
    ///
    /// # Errors
    /// [`Refusal::NotEmpty`] with what is there, [`Refusal::Restoring`] when another one is being
    /// brought.
    pub fn check_empty(&self) -> Result<(), Refusal> {
        self.check_not_restoring()?;
        let owned = self.blobs.records().values().filter(|record| !record.owners.is_empty());
        for (what, number) in [
            ("deployed firmware", self.firmware.len()),
            ("blobs that somebody needs", owned.count()),
        ] {
            if number > 0 {
                return Err(Refusal::NotEmpty { what: what.into(), number: number as u64 });
            }
        }
        Ok(())
    }

    /// Whether the kinds of a backup can be those of this cluster.
    ///
    /// # Errors
    /// [`Refusal::OtherShards`] with both numbers, [`Refusal::TooMuch`].
    pub fn check_kinds(&self, kinds: &BTreeMap<EntityKind, u16>) -> Result<(), Refusal> {
        for (kind, shards) in kinds {
            self.check_kind(kind, *shards)?;
        }
        let new = kinds.keys().filter(|kind| !self.kinds.contains_key(*kind)).count();
        at_most("kinds of entities", self.kinds.len() + new, limits::KINDS)
    }

    pub(super) fn check_not_restoring(&self) -> Result<(), Refusal> {
        match self.restored {
            Some(Restored { backup, complete: false }) => Err(Refusal::Restoring { backup }),
            _ => Ok(()),
        }
    }

    /// Whether anything changed by it.
    pub(super) fn restore(
        &mut self,
        revision: Revision,
        restore: &Restore,
    ) -> Result<bool, Refusal> {
        let Restore { backup, step } = restore;
        let is = self.restored.filter(|restored| restored.backup == *backup);
        match (step, is) {
            (RestoreStep::Begin { .. }, Some(_))
            | (RestoreStep::Finish { .. }, Some(Restored { complete: true, .. })) => Ok(false),
            (RestoreStep::Begin { above, kinds }, None) => {
                self.check_empty()?;
                self.check_kinds(kinds)?;
                if above.0 > HIGHEST_EPOCH {
                    return Err(too_much("epochs of a backup", above.0, HIGHEST_EPOCH));
                }
                self.begin_restore(*above, kinds);
                self.restored = Some(Restored { backup: *backup, complete: false });
                Ok(true)
            }
            (RestoreStep::Finish { firmware }, Some(_)) => {
                self.finish_restore(revision, firmware)?;
                self.restored = Some(Restored { backup: *backup, complete: true });
                Ok(true)
            }
            (RestoreStep::Finish { .. }, None) => Err(Refusal::OtherBackup { claimed: *backup }),
        }
    }

    fn begin_restore(&mut self, above: Epoch, kinds: &BTreeMap<EntityKind, u16>) {
        for (kind, shards) in kinds {
            self.kinds.entry(kind.clone()).or_insert_with(|| KindState::new(*shards));
        }
        self.last_epoch = self.last_epoch.max(above);
        // What is active already is so under an epoch of the old cluster, perhaps.
        let nodes: Vec<NodeId> = self.disks.keys().cloned().collect();
        for node in nodes {
            self.renew_shards(&node);
        }
        self.renew_placements(|_, _| true);
    }

    fn finish_restore(
        &mut self,
        revision: Revision,
        firmware: &[KnownFirmware],
    ) -> Result<(), Refusal> {
        at_most("firmwares", firmware.len(), limits::FIRMWARES)?;
        let package = limits::PACKAGE_BYTES as u64;
        if let Some(known) = firmware.iter().find(|known| known.spec.size > package) {
            return Err(too_much("bytes of a package", known.spec.size, package));
        }
        // Nothing else is deployed yet.
        let mut all = 0;
        for KnownFirmware { spec, .. } in firmware {
            self.check_replicas(&spec.name, spec.replicas)?;
            all += spec.replicas as usize;
        }
        at_most("replicas of all firmwares", all, limits::ALL_REPLICAS)?;
        for KnownFirmware { spec, born } in firmware {
            self.firmware.insert(spec.name.clone(), Arc::new(spec.clone()));
            self.born.insert(spec.name.clone(), *born);
            self.own_packages(revision, &spec.name);
        }
        Ok(())
    }
}
