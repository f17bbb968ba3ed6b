//! A node for a program that brings its own entities: the cluster layer alone, started and
//! stopped as one thing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use odeum_actors::{ChildSpec, Exit, Strategy, Supervisor, SupervisorSpec};
use odeum_proto::{EntityId, EntityKind, Label, NodeId};

use crate::blobs::{Blobs, BlobsConfig};
use crate::entity::{EntitiesHandle, EntityMessage, EntityRef, Kind};
use crate::node::{ClusterNode, Entry, NodeError, NodeOptions};
use crate::store::StoreTiming;
use crate::topic::{Topic, TopicError};

/// The port that nodes listen on by default (UDP).
pub const CLUSTER_PORT: u16 = 7071;

/// How long the entities of a node that stops may take to handle what they have.
const HAND_OFF: Duration = Duration::from_secs(10);

/// Describes a node; made by [`ClusterNode::builder`].
#[derive(Debug)]
#[must_use]
pub struct ClusterNodeBuilder {
    options: NodeOptions,
    children: Vec<ChildSpec>,
}

impl ClusterNode {
    /// A node called `node`, with its data in `odeum-data` and its certificates in `certs` there,
    /// listening on [`CLUSTER_PORT`].
    pub fn builder(node: NodeId) -> ClusterNodeBuilder {
        ClusterNodeBuilder {
            options: NodeOptions {
                listen: (Ipv4Addr::UNSPECIFIED, CLUSTER_PORT).into(),
                ..NodeOptions::new(node)
            },
            children: Vec::new(),
        }
    }
}

impl ClusterNodeBuilder {
    /// Its data folder: who it is, and its part of the replicated store. One folder belongs to
    /// one node and is locked while that runs.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.options.data_dir = dir.into();
        self
    }

    /// The folder with `ca.pem`, `node.pem` and `node.key`, as
    /// [`Authority::issue`](crate::transport::pki::Authority::issue) and `odeum certs` make them.
    pub fn certs(mut self, dir: impl Into<PathBuf>) -> Self {
        self.options.certs = dir.into();
        self
    }

    /// The UDP address to listen on; port 0 takes a free one.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.options.listen = addr;
        self
    }

    /// Where others reach it, when that is not where it listens.
    pub fn advertise(mut self, addr: SocketAddr) -> Self {
        self.options.advertise = Some(addr);
        self
    }

    /// Members to join by, each `HOST:PORT`. Without any it founds a cluster, or goes on in the
    /// one of its data folder.
    pub fn join(mut self, places: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.options.join.extend(places.into_iter().map(Into::into));
        self
    }

    /// How long joining may take before it is given up; 60 s by default.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.options.patience = patience;
        self
    }

    /// How long the members of the store wait for each other; the same on all nodes.
    pub fn store_timing(mut self, timing: StoreTiming) -> Self {
        self.options.store_timing = timing;
        self
    }

    /// A kind of entity that this node can host. What it does not host it can still talk to.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.options.kinds.push(kind);
        self
    }

    /// What its operator says of it, for all to see.
    pub fn label(mut self, key: Label, value: Label) -> Self {
        self.options.labels.insert(key, value);
        self
    }

    /// What it shares its fate with: a rack, a building.
    pub fn zone(mut self, zone: Label) -> Self {
        self.options.zone = Some(zone);
        self
    }

    /// How much it takes on in proportion to others, 100 by default. With 0 it hosts nothing.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.options.capacity = capacity;
        self
    }

    /// How it keeps blobs; how many copies there are of each should be the same on all nodes.
    pub fn blobs(mut self, config: BlobsConfig) -> Self {
        self.options.blobs = config;
        self
    }

    /// An actor or supervisor of the program, supervised beside the node's own and stopped
    /// before them.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// Starts the node and brings it into its cluster.
    ///
    /// # Errors
    /// [`NodeError`]; nothing runs then.
    pub async fn start(self) -> Result<RunningNode, NodeError> {
        let (mut cluster, supervisors) = ClusterNode::prepare(self.options)?;
        let mut root = SupervisorSpec::new("Node", Strategy::OneForOne);
        for supervisor in supervisors {
            root = root.supervisor(supervisor);
        }
        for child in self.children {
            root = root.child(child);
        }
        let root = root.start().await?;
        match cluster.enter().await {
            Ok(entry) => Ok(RunningNode { cluster, root, entry }),
            Err(error) => {
                root.shutdown().await;
                Err(error)
            }
        }
    }
}

/// A node that runs. Dropped, it goes on until the runtime ends: see
/// [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct RunningNode {
    cluster: ClusterNode,
    root: Supervisor,
    entry: Entry,
}

impl RunningNode {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> &NodeId {
        &self.cluster.record.id
    }

    /// How it came to its cluster.
    #[must_use]
    pub fn entry(&self) -> Entry {
        self.entry
    }

    /// Where it listens (UDP).
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.cluster.transport.local_addr()
    }

    /// Its parts: the store, the membership, the transport.
    #[must_use]
    pub fn cluster(&self) -> &ClusterNode {
        &self.cluster
    }

    /// Its supervision tree.
    #[must_use]
    pub fn root(&self) -> &Supervisor {
        &self.root
    }

    /// A reference to an entity, wherever in the cluster it is.
    #[must_use]
    pub fn entity<M: EntityMessage>(&self, id: EntityId) -> EntityRef<M> {
        self.cluster.entities.entity(id)
    }

    /// A reference to the one entity of a [`Kind::singleton`].
    #[must_use]
    pub fn singleton<M: EntityMessage>(&self, name: EntityKind) -> EntityRef<M> {
        self.cluster.entities.singleton(name)
    }

    /// The way to entities, to be kept by the program's own parts.
    #[must_use]
    pub fn entities(&self) -> &EntitiesHandle {
        &self.cluster.entities
    }

    /// Publishes and subscribes to messages of type `T` across the cluster.
    ///
    /// # Errors
    /// [`TopicError`] when the name cannot be one.
    pub fn topic<T>(&self, name: &str) -> Result<Topic<T>, TopicError> {
        self.cluster.topics.topic(name)
    }

    /// Bytes that outlive the node they came to.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.cluster.blobs
    }

    /// How many entities of each kind are in memory on this node.
    #[must_use]
    pub fn residents(&self) -> BTreeMap<EntityKind, usize> {
        self.cluster.entities.residents()
    }

    /// Waits until the node ends because a part of it kept failing.
    pub async fn finished(&self) -> Exit {
        self.root.finished().await
    }

    /// Leaves the cluster for good: its entities go to others, then it is removed. To be followed
    /// by [`shutdown`](Self::shutdown). With the same data folder and a member to join by it may
    /// come back.
    ///
    /// # Errors
    /// [`NodeError::Leave`]; it is then a member as before, or still on its way out.
    pub async fn leave(&mut self, patience: Duration) -> Result<(), NodeError> {
        let node = self.id().clone();
        self.cluster.departure.leave(&node, patience).await?;
        self.cluster.left().await
    }

    /// Returns when the node has left the cluster, by its own or another's word; the program
    /// should then call [`shutdown`](Self::shutdown).
    ///
    /// # Errors
    /// [`NodeError::Folder`] when that cannot be noted on the disk.
    pub async fn left(&mut self) -> Result<(), NodeError> {
        self.cluster.left().await
    }

    /// Hands its entities' shards and the leadership of Raft groups to other nodes and stops. It stays a member: started again with
    /// the same data folder, it goes on.
    pub async fn shutdown(self) {
        self.cluster.entities.hand_off(HAND_OFF).await;
        self.cluster.store.hand_over().await;
        self.root.shutdown().await;
    }
}
