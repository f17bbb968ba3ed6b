//! The sections and keys of a node's configuration, with their defaults.
//!
//! The keys in a file are these fields in kebab-case: `[api] listen` is [`ApiConfig::listen`].

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use odeum_cluster::blobs::BlobsConfig;
use odeum_proto::{Label, NodeId, store::NodeRecord};
use serde::{Deserialize, Serialize};

use super::{ByteSize, HumanDuration, MqttConfig, PackagesConfig};

/// All settings of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// Who it is and where its data is.
    pub node: NodeSection,
    /// Its HTTP API.
    pub api: ApiConfig,
    /// Its place among other nodes.
    pub cluster: ClusterConfig,
    /// Bounds on firmware.
    pub firmware: FirmwareConfig,
    /// Which packages it takes.
    pub packages: PackagesConfig,
    /// The replicated store.
    pub store: StoreConfig,
    /// Packages and other bytes that are kept on several nodes.
    pub blobs: BlobConfig,
    /// The MQTT broker that firmware reaches.
    pub mqtt: MqttConfig,
    /// What it logs.
    pub log: LogConfig,
}

/// `[node]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeSection {
    /// The node's name in the cluster. When left out: the name the data folder has already, else
    /// one made from the host's name.
    pub name: Option<NodeId>,
    /// Where everything it keeps is: log, packages, certificates.
    pub data_dir: PathBuf,
    /// Makes a certificate authority and the node's certificate when there are none. Whoever can
    /// read that folder can join the cluster, so this is for development.
    pub dev: bool,
    /// What you want to say of it, for others to see: `labels.disk = "ssd"`.
    pub labels: BTreeMap<Label, Label>,
    /// What it shares its fate with, such as its rack or its building.
    pub zone: Option<Label>,
    /// How much it takes on in proportion to other nodes. More gives it more of the entities, 0
    /// none: it still keeps the store and answers the API.
    pub capacity: u32,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            name: None,
            data_dir: PathBuf::from("odeum-data"),
            dev: false,
            labels: BTreeMap::new(),
            zone: None,
            capacity: NodeRecord::CAPACITY,
        }
    }
}

/// `[api]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ApiConfig {
    /// Where it listens (TCP). Port 0 takes any free one; `ports.json` in the data folder tells
    /// which.
    pub listen: SocketAddr,
    /// Whether it may listen elsewhere than on loopback. It asks nobody for a password: who
    /// reaches it controls the cluster.
    pub allow_remote: bool,
    /// How long a stopping node waits for requests that are under way. More lets slow calls
    /// finish, less stops sooner.
    pub drain: HumanDuration,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            allow_remote: false,
            drain: HumanDuration(Duration::from_secs(5)),
        }
    }
}

/// `[cluster]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClusterConfig {
    /// Where it listens for other nodes (UDP). Port 0 takes any free one.
    pub listen: SocketAddr,
    /// The address other nodes reach it at. When left out: the listening address, or with
    /// `0.0.0.0` the address of the interface that leads to the node it joins.
    pub advertise: Option<SocketAddr>,
    /// Nodes to join by, each `HOST:PORT`; one that answers is enough. When empty, a new data
    /// folder founds a cluster of its own and an old one resumes its cluster.
    pub join: Vec<String>,
    /// Folder with `ca.pem`, `node.pem` and `node.key`. When left out: `certs` in the data
    /// folder.
    pub certs: Option<PathBuf>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 7071)),
            advertise: None,
            join: Vec::new(),
            certs: None,
        }
    }
}

/// `[firmware]`: bounds for what does not state its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct FirmwareConfig {
    /// Linear memory of one instance. More lets larger guests run, less lets more of them run.
    pub memory: ByteSize,
    /// Time for one message. More lets slow guests finish, less stops endless loops sooner.
    pub message_time: HumanDuration,
    /// Restarts of a crashing guest within 90 s before it is given up until it is deployed again.
    /// More bears a guest that crashes often, less sooner ends one that cannot run.
    pub max_restarts: NonZeroU32,
    /// Restarts of a crashing guest within an hour before it is given up until it is deployed
    /// again, however slowly they follow each other.
    pub max_restarts_per_hour: NonZeroU32,
    /// Pause before the first restart; it doubles with every crash in a row. More spares the node,
    /// less lets callers wait shorter.
    pub restart_pause: HumanDuration,
    /// The longest of these pauses.
    pub longest_restart_pause: HumanDuration,
    /// Folder of compiled modules, which all nodes of a user on a machine share whatever their data
    /// folders. It holds nothing else and may be removed at any time. When left out:
    /// `odeum/compiled` in `$XDG_CACHE_HOME` or else in `~/.cache`; for a user without a home,
    /// `odeum-compiled` beside the data folder.
    pub cache_dir: Option<PathBuf>,
    /// Bytes on disk that compiled modules may take together; the least recently used make room. More
    /// compiles less often after a change; 0 keeps none, and each start compiles anew. It should be
    /// the same for all that share the folder: the least of them counts.
    pub cache_size: ByteSize,
    /// Lines that each firmware has logged that are kept in memory for `odeum logs`. More shows
    /// more of the past.
    pub log_lines: NonZeroU32,
    /// Bytes of these lines, for each firmware that has run here.
    pub log_size: ByteSize,
}

impl Default for FirmwareConfig {
    fn default() -> Self {
        Self {
            memory: ByteSize::mebibytes(64),
            message_time: HumanDuration(Duration::from_secs(1)),
            // With these a guest that cannot run is given up after a minute.
            max_restarts: const { NonZeroU32::new(12).unwrap() },
            max_restarts_per_hour: const { NonZeroU32::new(60).unwrap() },
            restart_pause: HumanDuration(Duration::from_millis(250)),
            longest_restart_pause: HumanDuration(Duration::from_secs(8)),
            cache_dir: None,
            // Code is some times as large as its module: this is room for dozens of the largest.
            cache_size: ByteSize::mebibytes(4 * 1_024),
            log_lines: const { NonZeroU32::new(1_000).unwrap() },
            log_size: ByteSize(256 << 10),
        }
    }
}

/// `[store]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoreConfig {
    /// Log entries between two snapshots. More writes the whole state less often, less keeps the
    /// log and a restart short.
    pub snapshot_every: NonZeroU64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { snapshot_every: const { NonZeroU64::new(100_000).unwrap() } }
    }
}

/// `[blobs]`: packages and other bytes that are kept on several nodes. What is said of the whole
/// cluster should be the same on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BlobConfig {
    /// On how many nodes each is, at most 8. More survives the loss of more nodes at a time, less
    /// costs less disk and fewer transfers.
    pub copies: NonZeroU32,
    /// Bytes on this node's disk that they may take together.
    pub quota: ByteSize,
    /// Bytes of these for copies of what other nodes hold, kept because it was needed once. More
    /// saves transfers.
    pub spare: ByteSize,
    /// How long a node may be away until others take what it held. Less is sooner safe again, more
    /// saves transfers when nodes are merely restarted.
    pub lost_after: HumanDuration,
    /// How long one is kept that nobody needs any more. It must be longer than a deployment takes.
    pub unowned_for: HumanDuration,
    /// How long a file is kept of one that the cluster knows nothing of. It must be longer than a
    /// deployment takes.
    pub stray_for: HumanDuration,
    /// How often each file is read to see whether the disk has damaged it.
    pub verify_every: HumanDuration,
}

impl Default for BlobConfig {
    fn default() -> Self {
        let BlobsConfig { copies, quota, spare, lost_after, unowned_for, stray_for, verify_every } =
            BlobsConfig::default();
        Self {
            copies: u32::try_from(copies).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN),
            quota: ByteSize(quota),
            spare: ByteSize(spare),
            lost_after: HumanDuration(lost_after),
            unowned_for: HumanDuration(unowned_for),
            stray_for: HumanDuration(stray_for),
            verify_every: HumanDuration(verify_every),
        }
    }
}

impl From<&BlobConfig> for BlobsConfig {
    fn from(config: &BlobConfig) -> Self {
        Self {
            copies: usize::try_from(config.copies.get()).unwrap_or(usize::MAX),
            quota: config.quota.0,
            spare: config.spare.0,
            lost_after: config.lost_after.0,
            unowned_for: config.unowned_for.0,
            stray_for: config.stray_for.0,
            verify_every: config.verify_every.0,
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, as `tracing` filter directives such as `info,odeum_cluster=debug`. The
    /// variables `ODEUM_LOG` and, below it, `RUST_LOG` set it too.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        // openraft reports every election and every lost peer in its own words, and ractor puts a
        // span with a bare number around every line of an actor; ours are enough.
        Self {
            format: LogFormat::Text,
            filter: "info,openraft=error,ractor=warn,ractor_cluster=warn".to_owned(),
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line, for machines
    Json,
}
