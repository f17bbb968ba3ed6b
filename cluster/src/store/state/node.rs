//! The nodes that belong to the cluster.

use odeum_proto::store::{NodeRecord, Placement, Refusal};
use odeum_proto::{EntityId, Epoch, NodeId, limits};

use super::{KindState, State, at_most};

impl State {
    /// Whether anything changed by it.
    pub(super) fn put_node(&mut self, record: &NodeRecord) -> Result<bool, Refusal> {
        let node = || record.id.clone();
        self.check_identity(record)?;
        self.check_bounds(record)?;
        self.disks.insert(node(), record.disk);
        for (kind, shards) in &record.kinds {
            self.kinds.entry(kind.clone()).or_insert_with(|| KindState::new(*shards));
        }
        let before = self.nodes.insert(node(), record.clone());
        if before.as_ref().is_none_or(|before| before.incarnation < record.incarnation) {
            // What its former life left under way must not come late. One that comes back after
            // its removal may find its places as they were.
            self.renew_placements(|_, placement| placement.node == record.id);
            self.renew_shards(&record.id);
            self.end_former_lease(&record.id, record.incarnation);
        }
        Ok(before.as_ref() != Some(record))
    }

    fn check_identity(&self, record: &NodeRecord) -> Result<(), Refusal> {
        let node = || record.id.clone();
        match self.disks.get(&record.id) {
            Some(&is) if is != record.disk => {
                return Err(Refusal::OtherDisk { node: node(), is, claimed: record.disk });
            }
            Some(_) => {}
            None => at_most("node ids ever", self.disks.len() + 1, limits::NODE_IDS_EVER)?,
        }
        match self.nodes.get(&record.id) {
            Some(known) if known.incarnation > record.incarnation => {
                let (is, claimed) = (known.incarnation, record.incarnation);
                Err(Refusal::OldIncarnation { node: node(), is, claimed })
            }
            Some(_) => Ok(()),
            None => at_most("nodes", self.nodes.len() + 1, limits::NODES),
        }
    }

    fn check_bounds(&self, record: &NodeRecord) -> Result<(), Refusal> {
        at_most("bytes of a version text", record.version.len(), limits::VERSION_BYTES)?;
        at_most("labels of a node", record.labels.len(), limits::LABELS_PER_NODE)?;
        for (kind, shards) in &record.kinds {
            self.check_kind(kind, *shards)?;
        }
        let new = record.kinds.keys().filter(|kind| !self.kinds.contains_key(*kind)).count();
        at_most("kinds of entities", self.kinds.len() + new, limits::KINDS)
    }

    /// Gives new epochs to placements where they are: a commit under an old one is refused from
    /// now on.
    pub(super) fn renew_placements(&mut self, which: impl Fn(&EntityId, &Placement) -> bool) {
        for (entity, placement) in &mut self.placements {
            if which(entity, placement) {
                self.last_epoch = self.last_epoch.next();
                placement.epoch = self.last_epoch;
                self.moves.remove(entity);
            }
        }
    }

    /// Gives one new epoch to all shards of a node.
    pub(super) fn renew_shards(&mut self, node: &NodeId) {
        let epoch = self.last_epoch.next();
        if self.put_shards_anew(node, epoch) {
            self.last_epoch = epoch;
        }
    }

    /// Gives all shards of a node this epoch; whether it has any.
    pub(super) fn put_shards_anew(&mut self, node: &NodeId, epoch: Epoch) -> bool {
        let mut has_some = false;
        for kind in self.kinds.values_mut() {
            let shards: Vec<u16> = kind.shards_of(node).map(|(shard, _)| shard).collect();
            for shard in shards {
                kind.put(shard, Placement { node: node.clone(), epoch });
                has_some = true;
            }
        }
        has_some
    }

    pub(super) fn remove_node(&mut self, node: &NodeId) -> Result<(), Refusal> {
        self.leaving.remove(node);
        self.draining.remove(node);
        match self.nodes.remove(node) {
            Some(_) => {
                self.forget_lease(node);
                Ok(())
            }
            None => Err(Refusal::UnknownNode { node: node.clone() }),
        }
    }

    /// Whether anything changed by it.
    pub(super) fn set_leaving(&mut self, node: &NodeId, leaving: bool) -> Result<bool, Refusal> {
        if !self.nodes.contains_key(node) {
            return Err(Refusal::UnknownNode { node: node.clone() });
        }
        Ok(if leaving { self.leaving.insert(node.clone()) } else { self.leaving.remove(node) })
    }

    /// Whether anything changed by it.
    pub(super) fn set_draining(&mut self, node: &NodeId, draining: bool) -> Result<bool, Refusal> {
        if !self.nodes.contains_key(node) {
            return Err(Refusal::UnknownNode { node: node.clone() });
        }
        Ok(if draining { self.draining.insert(node.clone()) } else { self.draining.remove(node) })
    }
}
