//! Gives shards of this node to others: keeps what comes for them, lets their entities handle
//! what they have and end, commits the new owners, and sends on what was kept.
//!
//! Whatever fails before the commit leaves the shards here with nothing lost. After it, the table
//! alone says whose they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use odeum_proto::EntityKind;
use odeum_proto::store::{Command, Outcome as Applied, ShardMove};
use tokio::time::timeout;

use super::hub::Hub;
use crate::store::StoreHandle;

/// How long the entities of the shards may take to end. Their senders wait so long.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the commit may take.
const COMMIT: Duration = Duration::from_secs(3);

/// How long this node may take to see what was committed.
const SEEN: Duration = Duration::from_secs(5);

/// What became of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// So many shards have another owner.
    Moved(usize),
    /// They stayed; why.
    Stayed(Box<str>),
}

/// See the module.
pub(super) async fn hand_off(
    hub: &Arc<Hub>,
    store: &StoreHandle,
    kind: &EntityKind,
    moves: Vec<ShardMove>,
) -> Outcome {
    let Some(host) = hub.host(kind) else { return Outcome::Stayed("no such kind".into()) };
    let shards: BTreeSet<u16> = moves.iter().map(|of| of.shard).collect();
    let closed = Closed { hub, kind, shards: &shards };
    let drained = host.close(&shards);
    if timeout(DRAIN, drained.all()).await.is_err() {
        drop(closed);
        return Outcome::Stayed(format!("its entities did not end within {DRAIN:?}").into());
    }
    let command = Command::PlaceShards { kind: kind.clone(), moves };
    let outcome = match store.write(command, COMMIT).await {
        Ok(Applied::ShardsPlaced { placed, .. }) => {
            let gone: BTreeSet<u16> = placed.into_iter().collect();
            if timeout(SEEN, has_left(hub, kind, &gone)).await.is_err() {
                tracing::warn!(%kind, "a move is committed and not seen here");
            }
            Outcome::Moved(gone.len())
        }
        Ok(other) => Outcome::Stayed(format!("{other:?}").into()),
        Err(error) => {
            // It may have been committed all the same: the table is asked before it is believed.
            let _ = store.barrier(COMMIT).await;
            hub.nudge();
            Outcome::Stayed(error.to_string().into())
        }
    };
    drop(closed);
    outcome
}

/// Opens the shards again however the handoff ends, also when its task is aborted.
struct Closed<'a> {
    hub: &'a Arc<Hub>,
    kind: &'a EntityKind,
    shards: &'a BTreeSet<u16>,
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        if let Some(host) = self.hub.host(self.kind) {
            host.reopen(self.shards);
        }
        self.hub.changed();
    }
}

/// Waits until the table of this node shows none of these shards here.
async fn has_left(hub: &Arc<Hub>, kind: &EntityKind, shards: &BTreeSet<u16>) {
    let mut changes = hub.changes();
    loop {
        changes.mark_unchanged();
        let table = hub.table();
        let left = table.row(kind).is_none_or(|row| {
            shards.iter().all(|shard| {
                row.shard(*shard).is_none_or(|placement| placement.node != *hub.node())
            })
        });
        drop(table);
        if left || changes.changed().await.is_err() {
            return;
        }
    }
}
