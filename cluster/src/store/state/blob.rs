//! The index of blobs: how large each is, who holds it, who needs it.
//!
//! Bytes never come here. A row is made by whoever has put the bytes on the holders' disks, and
//! is removed by the planner of [`crate::blobs`] when nobody has needed it for some time. "Some
//! time" is the planner's: here is only the change since which nobody does, so that a blob that
//! is asked for again in the meantime stays.

use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::store::Refusal;
use odeum_proto::{BlobOwner, Digest, Name, NodeId, Revision, limits};
use serde::{Deserialize, Serialize};

use super::{State, at_most, too_much};

/// A blob as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Its length in bytes.
    pub size: u64,
    /// The nodes that are to have it on their disks; never empty. One that was removed from the
    /// cluster stays here until the blob has another holder.
    pub holders: BTreeSet<NodeId>,
    /// Who needs it.
    pub owners: BTreeSet<BlobOwner>,
    /// The change that set its holders last.
    pub holders_at: Revision,
    /// The change since which nobody needs it; `None` while somebody does.
    pub unowned_since: Option<Revision>,
}

/// All blobs of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobIndex {
    records: BTreeMap<Digest, BlobRecord>,
    /// Owners of all blobs together.
    owners: u64,
    changed: Revision,
}

impl BlobIndex {
    /// The blobs by digest.
    #[must_use]
    pub fn records(&self) -> &BTreeMap<Digest, BlobRecord> {
        &self.records
    }

    /// How many owners all blobs have together.
    #[must_use]
    pub fn owners(&self) -> u64 {
        self.owners
    }

    /// What is known of one blob.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<&BlobRecord> {
        self.records.get(digest)
    }

    /// The last change of anything here.
    #[must_use]
    pub fn changed(&self) -> Revision {
        self.changed
    }

    fn known(&mut self, digest: Digest) -> Result<&mut BlobRecord, Refusal> {
        self.records.get_mut(&digest).ok_or(Refusal::UnknownBlob { digest })
    }

    fn remove_owner(&mut self, revision: Revision, digest: &Digest, owner: &BlobOwner) {
        let Some(record) = self.records.get_mut(digest) else { return };
        if record.owners.remove(owner) {
            self.owners -= 1;
            self.changed = revision;
            if record.owners.is_empty() {
                record.unowned_since = Some(revision);
            }
        }
    }

    fn add_owner(&mut self, revision: Revision, digest: &Digest, owner: BlobOwner) {
        let Some(record) = self.records.get_mut(digest) else { return };
        if record.owners.insert(owner) {
            record.unowned_since = None;
            self.owners += 1;
            self.changed = revision;
        }
    }
}

impl State {
    /// The blobs of the cluster.
    #[must_use]
    pub fn blobs(&self) -> &BlobIndex {
        &self.blobs
    }

    pub(super) fn put_blob(
        &mut self,
        revision: Revision,
        (digest, size): (Digest, u64),
        holders: &BTreeSet<NodeId>,
        owner: Option<&BlobOwner>,
    ) -> Result<(), Refusal> {
        if size > limits::BLOB_BYTES as u64 {
            return Err(too_much("bytes of a blob", size, limits::BLOB_BYTES as u64));
        }
        let before = self.blobs.get(&digest);
        match before {
            Some(record) if record.size != size => {
                return Err(Refusal::OtherSize { digest, is: record.size, claimed: size });
            }
            Some(_) => {}
            None => at_most("blobs", self.blobs.records.len() + 1, limits::BLOBS)?,
        }
        let known = before.map(|record| &record.holders);
        let union: BTreeSet<NodeId> = known.into_iter().flatten().chain(holders).cloned().collect();
        self.check_holders(digest, &union, known)?;
        if let Some(owner) = owner {
            self.check_owner(before, owner)?;
        }
        let index = &mut self.blobs;
        let record = index.records.entry(digest).or_insert_with(|| BlobRecord {
            size,
            holders: BTreeSet::new(),
            owners: BTreeSet::new(),
            holders_at: revision,
            unowned_since: None,
        });
        if record.holders != union {
            (record.holders, record.holders_at) = (union, revision);
            index.changed = revision;
        }
        if record.owners.is_empty() {
            // Also when it was so before: whoever puts it has the whole time to say who needs it.
            record.unowned_since = Some(revision);
            index.changed = revision;
        }
        if let Some(owner) = owner {
            index.add_owner(revision, &digest, owner.clone());
        }
        Ok(())
    }

    pub(super) fn release_blob(&mut self, revision: Revision, digest: Digest, owner: &BlobOwner) {
        self.blobs.remove_owner(revision, &digest, owner);
    }

    pub(super) fn set_holders(
        &mut self,
        revision: Revision,
        digest: Digest,
        holders: &BTreeSet<NodeId>,
        expected: Revision,
    ) -> Result<(), Refusal> {
        let record = self.blobs.get(&digest).ok_or(Refusal::UnknownBlob { digest })?;
        if record.holders == *holders {
            return Ok(());
        }
        if record.holders_at != expected {
            return Err(Refusal::StaleBlob { digest });
        }
        self.check_holders(digest, holders, Some(&record.holders))?;
        let record = self.blobs.known(digest)?;
        (record.holders, record.holders_at) = (holders.clone(), revision);
        self.blobs.changed = revision;
        Ok(())
    }

    pub(super) fn remove_blob(
        &mut self,
        revision: Revision,
        digest: Digest,
        unowned_since: Revision,
    ) -> Result<(), Refusal> {
        let Some(record) = self.blobs.get(&digest) else { return Ok(()) };
        if record.unowned_since != Some(unowned_since) {
            return Err(Refusal::StaleBlob { digest });
        }
        self.blobs.records.remove(&digest);
        self.blobs.changed = revision;
        Ok(())
    }

    /// A firmware owns the packages that its replicas run, the one before, and no other. So whatever
    /// became of a deployment that was not finished, the next one of that name puts it in order.
    /// Looks at all blobs, which is bearable as often as somebody deploys.
    pub(super) fn own_packages(&mut self, revision: Revision, name: &Name) {
        let kept = self.packages_of(name);
        let owner = BlobOwner::package(name);
        let owned =
            self.blobs.records.iter().filter(|(digest, record)| {
                !kept.contains(digest) && record.owners.contains(&owner)
            });
        let owned: Vec<Digest> = owned.map(|(digest, _)| *digest).collect();
        for digest in owned {
            self.blobs.remove_owner(revision, &digest, &owner);
        }
        for digest in kept {
            self.blobs.add_owner(revision, &digest, owner.clone());
        }
    }

    /// New holders must be nodes of the cluster; old ones may have left it.
    fn check_holders(
        &self,
        digest: Digest,
        holders: &BTreeSet<NodeId>,
        before: Option<&BTreeSet<NodeId>>,
    ) -> Result<(), Refusal> {
        if holders.is_empty() {
            return Err(Refusal::NoHolder { digest });
        }
        at_most("holders of a blob", holders.len(), limits::HOLDERS_PER_BLOB)?;
        let known = |node: &&NodeId| {
            self.nodes.contains_key(*node) || before.is_some_and(|before| before.contains(*node))
        };
        match holders.iter().find(|node| !known(node)) {
            Some(node) => Err(Refusal::UnknownNode { node: node.clone() }),
            None => Ok(()),
        }
    }

    /// Packages are not counted here: there are as many owners of that sort as firmware at most.
    fn check_owner(&self, record: Option<&BlobRecord>, owner: &BlobOwner) -> Result<(), Refusal> {
        let of_it = record.map_or(0, |record| record.owners.len());
        if record.is_some_and(|record| record.owners.contains(owner)) {
            return Ok(());
        }
        at_most("owners of a blob", of_it + 1, limits::OWNERS_PER_BLOB)?;
        let all = usize::try_from(self.blobs.owners).unwrap_or(usize::MAX);
        at_most("owners of all blobs", all.saturating_add(1), limits::BLOB_OWNERS)
    }
}
