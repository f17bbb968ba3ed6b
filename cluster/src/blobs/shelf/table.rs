//! What is on the shelf, as its files say: sizes, uses, and what makes room for what.

use std::collections::BTreeMap;
use std::time::Instant;

use odeum_proto::Digest;

use super::{Listed, Purpose, Usage};

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) used: Instant,
    size: u64,
    purpose: Purpose,
    verified: Option<Instant>,
    /// Which change of the table wrote it: tells a file from a later one of the same name.
    written: u64,
}

impl Item {
    pub(super) fn new(
        size: u64,
        purpose: Purpose,
        used: Instant,
        verified: Option<Instant>,
    ) -> Self {
        Self { used, size, purpose, verified, written: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    items: BTreeMap<Digest, Item>,
    bytes: u64,
    spare: u64,
    /// Bytes that are being written.
    reserved: u64,
    quota: u64,
    damaged: u64,
    changes: u64,
}

impl Table {
    pub(super) fn new(quota: u64) -> Self {
        let items = BTreeMap::new();
        Self { items, bytes: 0, spare: 0, reserved: 0, quota, damaged: 0, changes: 0 }
    }

    pub(super) fn get(&self, digest: Digest) -> Option<&Item> {
        self.items.get(&digest)
    }

    /// A file that is held stays so, whoever fetched it once more.
    pub(super) fn insert(&mut self, digest: Digest, mut item: Item) {
        if let Some(before) = self.remove(digest) {
            item.purpose = item.purpose.max(before.purpose);
        }
        self.bytes += item.size;
        if item.purpose == Purpose::Copy {
            self.spare += item.size;
        }
        self.changes += 1;
        item.written = self.changes;
        self.items.insert(digest, item);
    }

    /// Which change wrote the file, if there is one.
    pub(super) fn written(&self, digest: Digest) -> Option<u64> {
        self.items.get(&digest).map(|item| item.written)
    }

    pub(super) fn remove(&mut self, digest: Digest) -> Option<Item> {
        let gone = self.items.remove(&digest)?;
        self.bytes -= gone.size;
        if gone.purpose == Purpose::Copy {
            self.spare -= gone.size;
        }
        self.changes += 1;
        Some(gone)
    }

    pub(super) fn damaged(&mut self, digest: Digest) {
        self.remove(digest);
        self.damaged += 1;
    }

    /// Notes that a file is used, and for what; `false` when there is none.
    pub(super) fn used(&mut self, digest: Digest, purpose: Purpose, now: Instant) -> bool {
        let Some(item) = self.items.get_mut(&digest) else { return false };
        item.used = now;
        if purpose == Purpose::Held {
            self.set_purpose(digest, purpose);
        }
        true
    }

    /// Notes that a file was read and is right.
    pub(super) fn verified(&mut self, digest: Digest, now: Instant) {
        if let Some(item) = self.items.get_mut(&digest) {
            item.verified = Some(now);
        }
    }

    pub(super) fn set_purpose(&mut self, digest: Digest, purpose: Purpose) -> bool {
        let Some(item) = self.items.get_mut(&digest) else { return false };
        if item.purpose == purpose {
            return false;
        }
        item.purpose = purpose;
        match purpose {
            Purpose::Copy => self.spare += item.size,
            Purpose::Held => self.spare -= item.size,
        }
        self.changes += 1;
        true
    }

    pub(super) fn reserve(&mut self, size: u64) {
        self.reserved += size;
    }

    pub(super) fn unreserve(&mut self, size: u64) {
        self.reserved -= size;
    }

    /// Copies to remove so that `size` more bytes fit into the quota, and all copies with them
    /// into `spare`.
    ///
    /// # Errors
    /// The bytes that are in the way and cannot be removed.
    pub(super) fn room_for(&self, size: u64, spare: u64) -> Result<Vec<Digest>, u64> {
        let held = self.bytes - self.spare + self.reserved;
        if size > spare {
            return Err(0);
        }
        if held + size > self.quota {
            return Err(held);
        }
        let over_quota = (self.bytes + self.reserved + size).saturating_sub(self.quota);
        let over_spare = match spare {
            u64::MAX => 0,
            spare => (self.spare + size).saturating_sub(spare),
        };
        Ok(self.oldest_copies(over_quota.max(over_spare)))
    }

    /// Copies of at least `bytes` together, or all, the least recently used first.
    pub(super) fn oldest_copies(&self, bytes: u64) -> Vec<Digest> {
        let copies = self.items.iter().filter(|(_, item)| item.purpose == Purpose::Copy);
        let mut copies: Vec<_> =
            copies.map(|(digest, item)| (item.used, *digest, item.size)).collect();
        copies.sort_unstable();
        let mut freed = 0;
        let enough = copies.into_iter().take_while(|(_, _, size)| {
            let more = freed < bytes;
            freed += size;
            more
        });
        enough.map(|(_, digest, _)| digest).collect()
    }

    pub(super) fn list(&self) -> Vec<Listed> {
        let listed = |(digest, item): (&Digest, &Item)| Listed {
            digest: *digest,
            size: item.size,
            purpose: item.purpose,
            used: item.used,
            verified: item.verified,
        };
        self.items.iter().map(listed).collect()
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            blobs: self.items.len(),
            bytes: self.bytes,
            spare: self.spare,
            quota: self.quota,
            damaged: self.damaged,
        }
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }
}
