//! A node among nodes: puts the parts of this layer together and brings the node into its
//! cluster.
//!
//! [`ClusterNode::prepare`] opens the data folder, binds the socket and gives the supervisors of
//! the parts, which the caller starts as the first children of its root. When they run,
//! [`ClusterNode::enter`] founds a cluster, joins one, or resumes the one on the disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use odeum_actors::{ChildSpec, StartError, SupervisorSpec};
use odeum_proto::{
    ClusterId, EntityKind, Label, NodeId,
    store::{NodeRecord, Refusal},
};

use crate::{
    blobs::{BlobDoor, Blobs, BlobsConfig, BlobsParts, shelf::ShelfError},
    clock::Clock,
    control_plane::ControlPlaneHandle,
    departure::{DepartureHandle, LeaveError, departure},
    entity::{EntitiesHandle, HubParts, Kind, entities},
    lease::{LeaseConfig, LeaseHandle, lease},
    membership::{MembershipConfig, MembershipHandle},
    migration::{MigrationHandle, migration},
    network::{Network, network},
    placement,
    roster::{self, Gate, JoinError},
    router::{Activations, Doorway, RouterHandle, RouterParts, router},
    store::{
        DataFolder, FolderError, Health, State, StoreConfig, StoreError, StoreHandle, StoreTiming,
        store,
    },
    topic::{TopicsHandle, topics},
    transport::{ClusterCell, Service, Services, TransportConfig, TransportError, TransportHandle},
};

/// How long a node tries to become a member by default: long enough for the whole cluster to be
/// started by one command in any order.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// Log entries between two snapshots by default: some seconds of writes at full speed, which are
/// read again in less than one.
const SNAPSHOT_EVERY: u64 = 100_000;

/// How a node takes part in a cluster.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Its name.
    pub node: NodeId,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// The folder with its certificate and the cluster's authority.
    pub certs: PathBuf,
    /// The UDP address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach it, when that is not where it listens.
    pub advertise: Option<SocketAddr>,
    /// Where its HTTP API listens, for others to know.
    pub api_addr: SocketAddr,
    /// Members to join by, each `HOST:PORT`.
    pub join: Vec<String>,
    /// How long joining may take before it is given up.
    pub patience: Duration,
    /// Log entries between two snapshots of the store.
    pub snapshot_every: u64,
    /// How long the members of the store wait for each other.
    pub store_timing: StoreTiming,
    /// The kinds of entities it hosts besides firmware. Into how many shards each is divided is
    /// the same on every node, for ever.
    pub kinds: Vec<Kind>,
    /// What its operator says of it, for others to see.
    pub labels: BTreeMap<Label, Label>,
    /// What it shares its fate with: a rack, a building.
    pub zone: Option<Label>,
    /// How much it takes on in proportion to others, usually [`NodeRecord::CAPACITY`]; with 0 it
    /// hosts nothing.
    pub capacity: u32,
    /// How it keeps blobs.
    pub blobs: BlobsConfig,
}

impl NodeOptions {
    /// Those of a node called `node` with everything else in the folder `odeum-data`, listening
    /// on a free port, and of the usual size.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        let data_dir = PathBuf::from("odeum-data");
        Self {
            node,
            certs: data_dir.join("certs"),
            data_dir,
            listen: (Ipv4Addr::UNSPECIFIED, 0).into(),
            advertise: None,
            api_addr: (Ipv4Addr::UNSPECIFIED, 0).into(),
            join: Vec::new(),
            patience: JOIN_PATIENCE,
            snapshot_every: SNAPSHOT_EVERY,
            store_timing: StoreTiming::default(),
            kinds: Vec::new(),
            labels: BTreeMap::new(),
            zone: None,
            capacity: NodeRecord::CAPACITY,
            blobs: BlobsConfig::default(),
        }
    }
}

/// Why a node cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A part of the node did not start.
    #[error("the node did not start: {0}")]
    Start(#[from] StartError),
    /// The data folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The cluster's socket or certificates cannot be used.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder of the blobs cannot be used.
    #[error(transparent)]
    Blobs(#[from] ShelfError),
    /// The cluster was not joined.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The folder belongs to another cluster than the place to join by. Nothing was changed.
    #[error(
        "{source}: to join that cluster, choose another folder than {} with --data-dir",
        folder.display()
    )]
    WrongFolder {
        /// The data folder.
        folder: PathBuf,
        /// Who said so, with both clusters.
        source: TransportError,
    },
    /// The cluster will not have this node as it is set up now. Correct what the reason names.
    #[error("the cluster refuses this node: {0}")]
    Refused(Refusal),
    /// The node did not leave its cluster.
    #[error(transparent)]
    Leave(#[from] LeaveError),
    /// The node left its cluster, and nobody was named to take it in again.
    #[error(
        "{} is of a node that left cluster {cluster}: name a member with --join to be taken in \
         again, or remove the folder", folder.display()
    )]
    Left {
        /// The data folder.
        folder: PathBuf,
        /// The cluster.
        cluster: ClusterId,
    },
    /// The folder belongs to a cluster that never let this node in, and nobody was named to ask
    /// again.
    #[error(
        "{} was about to join cluster {cluster} and never did: name a member with --join, or \
         remove the folder to found a new cluster", folder.display()
    )]
    HalfJoined {
        /// The data folder.
        folder: PathBuf,
        /// The cluster.
        cluster: ClusterId,
    },
}

/// How a node came to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It is the first node of a new one.
    Founded,
    /// It was taken in.
    Joined,
    /// It was in it before.
    Resumed,
}

/// The parts of a node in this layer. Its handles are valid at once and across restarts of the
/// actors behind them.
#[derive(Debug)]
pub struct ClusterNode {
    /// The replicated store.
    pub store: StoreHandle,
    /// The way to other nodes.
    pub transport: TransportHandle,
    /// Who is there.
    pub membership: MembershipHandle,
    /// Remote calls between the few cluster-level actors.
    pub control_plane: ControlPlaneHandle,
    /// Until when what is placed on this node may be active here.
    pub lease: LeaseHandle,
    /// How nodes leave.
    pub departure: DepartureHandle,
    /// Calls to entities.
    pub router: RouterHandle,
    /// What moves from here and to here.
    pub migration: MigrationHandle,
    /// Entities of a program's own kinds.
    pub entities: EntitiesHandle,
    /// Messages to all who subscribe.
    pub topics: TopicsHandle,
    /// Bytes that outlive the node they came to.
    pub blobs: Blobs,
    /// This node as the cluster will know it.
    pub record: NodeRecord,
    folder: DataFolder,
    cluster: ClusterCell,
    join: Vec<String>,
    patience: Duration,
}

impl ClusterNode {
    /// Opens the data folder, binds the socket, and gives the node with the supervisors of its
    /// parts, in start order. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`NodeError`] when the folder belongs to another node or is in use, when the address is
    /// taken, or when the certificates are not what they should be.
    pub fn prepare(options: NodeOptions) -> Result<(Self, [SupervisorSpec; 2]), NodeError> {
        let folder = DataFolder::open(&options.data_dir, &options.node)?;
        let cluster = folder.cluster().map_or_else(ClusterCell::default, ClusterCell::known);
        let config = TransportConfig {
            cluster: cluster.clone(),
            ..TransportConfig::new(
                options.node.clone(),
                folder.incarnation(),
                options.listen,
                &options.certs,
            )
        };
        let version = env!("CARGO_PKG_VERSION");
        let (network, supervisor) =
            network(config, Services::default(), MembershipConfig::default(), version)?;
        let Network { transport, control_plane, membership } = network;
        let record = record_of(&options, &folder, transport.local_addr(), version);
        let (store, store_supervisor) =
            store(store_config(&options, &folder), Arc::new(transport.clone()));
        let (lease, lease_spec) = lease_of(&options, &folder, &store);

        let blobs = Blobs::open(BlobsParts {
            folder: options.data_dir.join("blobs"),
            store: store.clone(),
            transport: transport.clone(),
            live: membership.live(),
            config: options.blobs,
        })?;
        let (departure, departure_spec) =
            departure(store.clone(), transport.clone(), blobs.copies());
        let activations = Activations::default();
        let (router, router_spec) = router(RouterParts {
            local: options.node.clone(),
            transport: transport.clone(),
            store: store.clone(),
            live: membership.live(),
            activations: activations.clone(),
        });
        let doorway = Doorway::new(options.node.clone(), activations.clone(), store.clone());
        serve(transport.services(), &store, doorway, &blobs);
        let (entities, entities_supervisor) = entities(HubParts {
            node: options.node.clone(),
            transport: transport.clone(),
            store: store.clone(),
            live: membership.live(),
            lease: lease.clone(),
            kinds: options.kinds,
        });
        let resident = entities.clone();
        membership.count_residents(move || {
            (resident.residents().values().sum::<usize>() + activations.count()) as u64
        });
        let (migration, migrator_spec) = migration(
            options.node.clone(),
            store.clone(),
            transport.clone(),
            router.activations().clone(),
        );
        let (topics, topics_spec) = topics(transport.clone(), membership.live());
        let [repair, keeper] = blobs.children();
        let (known, join) = (record.clone(), options.join.clone());
        let cluster_supervisor = supervisor
            .child(roster::spec(store.clone(), transport.clone(), known, join))
            .child(departure_spec)
            .child(lease_spec)
            .child(placement::spec(store.clone(), membership.live(), options.node, blobs.copies()))
            .child(router_spec)
            .child(migrator_spec)
            .supervisor(entities_supervisor)
            .child(topics_spec)
            .child(repair)
            .child(keeper);

        let (join, patience) = (options.join, options.patience);
        #[rustfmt::skip]
        let node = Self {
            store, transport, membership, control_plane, lease, departure, router, migration, entities, topics, blobs, record,
            folder, cluster, join, patience,
        };
        Ok((node, [store_supervisor, cluster_supervisor]))
    }

    /// Founds a cluster, joins one, or resumes the one on the disk. To be called once, when the
    /// supervisors run.
    ///
    /// # Errors
    /// [`NodeError`]; the node then belongs to no cluster and should end.
    pub async fn enter(&mut self) -> Result<Entry, NodeError> {
        let is_member = self.store.status().health != Health::NotMember;
        let entry = match (self.folder.cluster(), is_member) {
            (Some(cluster), _) if self.folder.left() && self.join.is_empty() => {
                Err(NodeError::Left { folder: self.folder.dir().to_owned(), cluster })
            }
            (Some(_), true) if self.folder.left() => self.join_cluster().await,
            (Some(_), true) => {
                self.check_kinds()?;
                self.refuse_strangers().await?;
                Ok(Entry::Resumed)
            }
            (None, true) => self.finish_founding().await,
            (_, false) if !self.join.is_empty() => self.join_cluster().await,
            (None, false) => {
                self.found(ClusterId::random()).await?;
                Ok(Entry::Founded)
            }
            (Some(cluster), false) => {
                Err(NodeError::HalfJoined { folder: self.folder.dir().to_owned(), cluster })
            }
        }?;
        self.folder.set_left(false)?;
        // What is on the disk of a member that is back may be of any former life.
        let since = if entry == Entry::Resumed { 0 } else { self.record.incarnation.0 };
        self.departure.entered(since);
        Ok(entry)
    }

    /// Returns when this node has left its cluster, which is then on the disk: its process should
    /// end. With the same data folder it may join again.
    ///
    /// # Errors
    /// [`NodeError::Folder`] when that cannot be written.
    pub async fn left(&mut self) -> Result<(), NodeError> {
        self.departure.left().await;
        Ok(self.folder.set_left(true)?)
    }

    /// The cluster this node belongs to, once it has entered one.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster.get()
    }

    /// The store is founded before the folder says so: a crash in between is finished by
    /// [`finish_founding`](Self::finish_founding), while the other order would leave a folder
    /// that claims a cluster which does not exist.
    async fn found(&mut self, cluster: ClusterId) -> Result<(), NodeError> {
        self.store.found(cluster, self.record.clone()).await?;
        self.folder.set_cluster(cluster)?;
        self.cluster.set(cluster);
        Ok(())
    }

    async fn finish_founding(&mut self) -> Result<Entry, NodeError> {
        self.store.barrier(self.patience).await?;
        let cluster = self.store.view(State::cluster).unwrap_or_else(ClusterId::random);
        self.found(cluster).await?;
        Ok(Entry::Founded)
    }

    async fn join_cluster(&mut self) -> Result<Entry, NodeError> {
        let (folder, cell) = (&mut self.folder, &self.cluster);
        let learnt = |cluster| {
            folder.set_cluster(cluster)?;
            cell.set(cluster);
            Ok::<(), NodeError>(())
        };
        let record = self.record.clone();
        let joined = roster::join(&self.transport, &self.join, record, self.patience, learnt).await;
        joined.map_err(|error| match error {
            NodeError::Join(JoinError::Transport {
                source: source @ TransportError::OtherCluster { .. },
                ..
            }) => self.wrong_folder(source),
            other => other,
        })?;
        if !self.store.settled(self.patience).await {
            tracing::warn!(waited_ms = self.patience.as_millis(), "sessions are not here yet");
        }
        Ok(Entry::Joined)
    }

    /// A member that is back says what it hosts when there is a leader; what cannot be is known
    /// before. A new one is told when it is taken in.
    fn check_kinds(&self) -> Result<(), NodeError> {
        let mut kinds = self.record.kinds.iter();
        self.store
            .view(|state| kinds.try_for_each(|(kind, shards)| state.check_kind(kind, *shards)))
            .map_err(NodeError::Refused)
    }

    /// A member that is told to join a node of another cluster was given the wrong folder or the
    /// wrong place, and whoever told it would wait for nothing.
    async fn refuse_strangers(&self) -> Result<(), NodeError> {
        let known = self.store.view(|state| {
            state.nodes().values().map(|node| node.cluster_addr).collect::<BTreeSet<_>>()
        });
        match roster::stranger(&self.transport, &self.join, &known).await {
            Some(source) => Err(self.wrong_folder(source)),
            None => Ok(()),
        }
    }

    fn wrong_folder(&self, source: TransportError) -> NodeError {
        NodeError::WrongFolder { folder: self.folder.dir().to_owned(), source }
    }
}

fn store_config(options: &NodeOptions, folder: &DataFolder) -> StoreConfig {
    StoreConfig {
        snapshot_every: options.snapshot_every,
        timing: options.store_timing,
        incarnation: folder.incarnation(),
        ..StoreConfig::new(options.data_dir.join("store"), options.node.clone())
    }
}

/// The lease of this start of the node.
fn lease_of(
    options: &NodeOptions,
    folder: &DataFolder,
    store: &StoreHandle,
) -> (LeaseHandle, ChildSpec) {
    let holder = (options.node.clone(), folder.incarnation());
    lease(store.clone(), holder, LeaseConfig::of(options.store_timing))
}

/// What other nodes may ask of this one.
fn serve(services: &Services, store: &StoreHandle, doorway: Doorway, blobs: &Blobs) {
    store.register(services);
    services.insert(Service::Call, Arc::new(doorway));
    services.insert(Service::Join, Arc::new(Gate::new(store.clone())));
    services.insert(Service::Clock, Arc::new(Clock));
    services.insert(Service::Blob, Arc::new(BlobDoor(blobs.clone())));
}

/// A node as the cluster will know it, when its socket is bound to `bound`.
fn record_of(
    options: &NodeOptions,
    folder: &DataFolder,
    bound: SocketAddr,
    version: &str,
) -> NodeRecord {
    NodeRecord {
        id: options.node.clone(),
        disk: folder.disk(),
        incarnation: folder.incarnation(),
        cluster_addr: options.advertise.unwrap_or_else(|| reachable(bound)),
        api_addr: options.api_addr,
        version: version.to_owned(),
        kinds: shards_of(&options.kinds),
        labels: options.labels.clone(),
        zone: options.zone.clone(),
        capacity: options.capacity,
    }
}

fn shards_of(kinds: &[Kind]) -> BTreeMap<EntityKind, u16> {
    kinds.iter().map(|kind| (kind.name().clone(), kind.shard_count())).collect()
}

/// Where others reach a socket that listens on `bound`: itself, or for a wildcard address the
/// interface that leads outside. No packet is sent to find out.
fn reachable(bound: SocketAddr) -> SocketAddr {
    if !bound.ip().is_unspecified() {
        return bound;
    }
    let outside = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        // An address of the documentation range: never used, always routed.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    SocketAddr::new(outside().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), bound.port())
}
