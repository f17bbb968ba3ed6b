//! What clients have sent, so that a command that is sent again is applied once.
//!
//! A client is a start of a node. It numbers its commands; the outcomes of those that it may send
//! again are remembered, refusals among them: a client that was told of a refusal must never find
//! out that the same command took effect later.
//!
//! Source: Ongaro 2014 §6.3, with the client's lowest outstanding number in place of sessions that
//! are registered, since nodes and their starts are known.

use std::collections::BTreeMap;

use odeum_proto::session::{DataOutcome, Origin, Quota, SessionRefusal};
use odeum_proto::{Incarnation, LogTime, NodeId, limits};
use serde::{Deserialize, Serialize, Serializer};

use super::draft::{at_most, too_much};

/// What a client costs in a snapshot beside its outcomes.
const CLIENT_OVERHEAD: u64 = 80;

/// What an outcome costs in a snapshot beside itself: its number.
const OUTCOME_OVERHEAD: u64 = 9;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<NodeId, Client>")]
pub(super) struct Clients {
    by_node: BTreeMap<NodeId, Client>,
    bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Client {
    incarnation: Incarnation,
    /// The lowest number that it may send.
    lowest: u64,
    /// When it sent something last.
    seen: LogTime,
    outcomes: BTreeMap<u64, DataOutcome>,
}

/// What is known of a command.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing: it is to be applied.
    New,
    /// It was applied.
    Applied(DataOutcome),
}

impl Clients {
    /// Whether the command of `origin` was applied before. Forgets what its client does not need
    /// any more.
    ///
    /// # Errors
    /// A refusal, when it is no command of a client that is still there or when too much is
    /// outstanding. Nothing was changed then.
    pub(super) fn enter(&mut self, origin: &Origin, now: LogTime) -> Result<Known, SessionRefusal> {
        let node = &origin.client.node;
        let lowest = self.check(origin, now)?;
        if !self.by_node.contains_key(node) {
            self.make_room(now);
        }
        let incarnation = origin.client.incarnation;
        let client = self.by_node.entry(node.clone()).or_insert_with(|| {
            self.bytes += CLIENT_OVERHEAD;
            Client { incarnation, lowest, seen: now, outcomes: BTreeMap::new() }
        });
        let over = client.incarnation < incarnation;
        client.incarnation = incarnation;
        client.lowest = lowest;
        client.seen = now;
        while let Some(oldest) = client.outcomes.first_entry()
            && (over || *oldest.key() < lowest)
        {
            self.bytes -= outcome_bytes(&oldest.remove());
        }
        Ok(client.outcomes.get(&origin.sequence).cloned().map_or(Known::New, Known::Applied))
    }

    /// Remembers the outcome of a command that was entered as new.
    pub(super) fn remember(&mut self, origin: &Origin, outcome: DataOutcome) {
        if let Some(client) = self.by_node.get_mut(&origin.client.node) {
            self.bytes += outcome_bytes(&outcome);
            client.outcomes.insert(origin.sequence, outcome);
        }
    }

    /// What all of them count against the group's quota.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lowest number that is outstanding when the command is entered.
    fn check(&self, origin: &Origin, now: LogTime) -> Result<u64, SessionRefusal> {
        let (node, claimed) = (&origin.client.node, origin.client.incarnation);
        let known = self.by_node.get(node);
        let lowest = match known {
            Some(client) if claimed < client.incarnation => {
                let is = client.incarnation;
                return Err(SessionRefusal::OldIncarnation { node: node.clone(), is, claimed });
            }
            Some(client) if claimed == client.incarnation => {
                client.lowest.max(origin.lowest_outstanding)
            }
            _ => origin.lowest_outstanding,
        };
        let sequence = origin.sequence;
        if sequence < lowest {
            return Err(SessionRefusal::Acknowledged { node: node.clone(), sequence, lowest });
        }
        let Some(client) = known else {
            return self.check_room(now).map(|()| lowest);
        };
        let limit = limits::OUTSTANDING_PER_CLIENT;
        let fresh = claimed == client.incarnation && !client.outcomes.contains_key(&sequence);
        // Counted only when it may matter: those below the lowest leave with this command.
        if fresh && client.outcomes.len() >= limit {
            let got = client.outcomes.range(lowest..).count() + 1;
            at_most(Quota::Outstanding, node, got, limit)?;
        }
        Ok(lowest)
    }

    /// Whether there is room for one more client, or one that may leave.
    fn check_room(&self, now: LogTime) -> Result<(), SessionRefusal> {
        let (got, limit) = (self.by_node.len() + 1, limits::NODES);
        if got > limit && self.idle(now).is_none() {
            return Err(too_much(Quota::Clients, "", got as u64, limit as u64));
        }
        Ok(())
    }

    fn make_room(&mut self, now: LogTime) {
        if self.by_node.len() >= limits::NODES
            && let Some(idle) = self.idle(now)
        {
            let gone = self.by_node.remove(&idle);
            self.bytes -= gone.map_or(0, |client| client.bytes());
        }
    }

    /// The client that has been silent the longest, if that is long.
    fn idle(&self, now: LogTime) -> Option<NodeId> {
        let (node, client) = self.by_node.iter().min_by_key(|(_, client)| client.seen)?;
        (now >= client.seen.after(limits::CLIENT_IDLE)).then(|| node.clone())
    }
}

impl Client {
    fn bytes(&self) -> u64 {
        self.outcomes.values().map(outcome_bytes).sum::<u64>() + CLIENT_OVERHEAD
    }
}

fn outcome_bytes(outcome: &DataOutcome) -> u64 {
    outcome.weight() as u64 + OUTCOME_OVERHEAD
}

impl From<BTreeMap<NodeId, Client>> for Clients {
    fn from(by_node: BTreeMap<NodeId, Client>) -> Self {
        let bytes = by_node.values().map(Client::bytes).sum();
        Self { by_node, bytes }
    }
}

impl Serialize for Clients {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.by_node.serialize(to)
    }
}
