//! A whole node: the cluster layer, the firmware and the API under one supervision tree, from
//! its start to its orderly end.
//!
//! ```text
//! Node                     one_for_one; when it gives up, the process ends with an error
//! ├─ StoreSupervisor
//! ├─ ClusterSupervisor
//! ├─ FirmwareSupervisor
//! └─ ApiSupervisor
//! ```
//! Start order is top to bottom and stop order bottom to top: the API closes first, so that
//! nobody is promised anything by a node that is leaving.

mod anew;
mod blobs;
mod facade;
mod facts;
mod identity;
mod links;
mod policy;
mod ports;
mod reports;
mod rollout;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use odeum_actors::{Exit, StartError, Strategy, Supervisor, SupervisorSpec};
use odeum_cluster::{
    entity::{EntitiesHandle, Kind},
    node::{ClusterNode, Entry, NodeOptions},
    store::StoreTiming,
    transport::{Service, pki::PkiError},
};
use odeum_proto::IdError;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

pub(crate) use self::identity::{certificates, certificates_at, name};
pub use self::ports::{PORTS_FILE, Ports};
use self::{
    anew::Life,
    facade::{NodeFacade, Tree},
    reports::{Reports, Told},
};
use crate::{
    api::{self, BindError},
    config::{Broker, FirmwareConfig, MqttConfig, NodeConfig, PackagesConfig},
    firmware::{
        BrokerAccess, Chronicles, Engine, EngineError, FirmwareParts, Grants, Launcher, LogBounds,
        Vault, firmware,
    },
    tls::{Authorities, Identity, TlsError},
};

/// How long a node tries to become a member before it gives up and ends: long enough for the
/// whole cluster to be started by one command in any order.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// How long an orderly stop may take before the process ends anyway: requests under way, hosts
/// and the store have their own, shorter, times within it.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// How long a node that is told to stop has others take its firmware while it still runs here.
const GIVE_AWAY: Duration = Duration::from_secs(10);

/// Why a node did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The node has no usable name. Give one with `--node`.
    #[error(
        "no node name can be made of this machine's name {host:?} ({reason}): give one with --node"
    )]
    Name {
        /// The machine's name.
        host: String,
        /// What is wrong with it.
        reason: IdError,
    },
    /// The node has no certificate and was not told to make one.
    #[error(
        "there is no certificate in {}: make one with `odeum certs init` and `odeum certs issue`, \
         or start with --dev", folder.display()
    )]
    NoCertificate {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A node that joins in development was not shown the authority of those it joins.
    #[error(
        "there is no authority in {}: name the folder of the first node's with --certs (it is \
         `certs` in that node's data folder), and start that node first", folder.display()
    )]
    NoAuthority {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] PkiError),
    /// The API's port cannot be listened on.
    #[error(transparent)]
    Api(#[from] BindError),
    /// The cluster layer did not start or did not find its cluster.
    #[error(transparent)]
    Cluster(#[from] odeum_cluster::node::NodeError),
    /// The engine that runs guests cannot be had on this machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Files of the settings for TLS cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A part of the node did not start.
    #[error("the node did not start: {0}")]
    Start(#[from] StartError),
    /// `ports.json` could not be written, or signals not be received.
    #[error("cannot {what}: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        reason: io::Error,
    },
    /// The node's supervisor gave up: a part of it kept failing.
    #[error("the node ended: it {0}")]
    GaveUp(Exit),
}

/// What ends a node besides signals.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOptions {
    /// End when standard input does: for a parent whose death must be the node's, even by
    /// SIGKILL.
    pub exit_with_stdin: bool,
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Ended {
    /// It was told to stop, or has left its cluster.
    Stopped,
    /// It was told to begin anew: whoever ran it is to run its program again.
    Restarts,
}

/// Runs a node until SIGTERM, SIGINT, what `options` names, its departure from the cluster or until
/// it is told to begin anew, then stops it in good order.
///
/// # Errors
/// [`NodeError`] when it cannot start, cannot find its cluster, or gives up.
pub async fn run(config: NodeConfig, options: RunOptions) -> Result<Ended, NodeError> {
    run_with(config, options, Vec::new(), drop).await
}

/// As [`run`], in a program that has entities of its own: `kinds` are those that the node hosts, and
/// `begun` gets what reaches them before the node enters its cluster.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: NodeConfig,
    options: RunOptions,
    kinds: Vec<Kind>,
    begun: impl FnOnce(EntitiesHandle),
) -> Result<Ended, NodeError> {
    let mut stop = StopSignals::new(options)?;
    let (mut cluster, life, tree, root) = assemble(&config, kinds).await?;
    begun(cluster.entities.clone());
    let entered = tokio::select! {
        biased;
        () = stop.received() => None,
        exit = root.finished() => return Err(NodeError::GaveUp(exit)),
        entered = cluster.enter() => Some(entered),
    };
    let result = match entered {
        None => Ok(Ended::Stopped),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(entry)) => {
            tell(&cluster, entry);
            let catching_up = tokio::spawn(life.clone().catch_up(cluster.store.clone()));
            let ended = tokio::select! {
                biased;
                () = stop.received() => Ok(Ended::Stopped),
                exit = root.finished() => Err(NodeError::GaveUp(exit)),
                left = cluster.left() => left.map(|()| Ended::Stopped).map_err(NodeError::from),
                () = life.over() => {
                    tracing::info!(reason = "it is to begin anew", "stopping");
                    Ok(Ended::Restarts)
                }
            };
            catching_up.abort();
            ended
        }
    };
    if result.is_ok() {
        cluster.departure.give_away(&cluster.lease, GIVE_AWAY).await;
    }
    drop(tree);
    cluster.store.hand_over().await;
    if tokio::time::timeout(STOP_PATIENCE, root.shutdown()).await.is_err() {
        tracing::warn!(elapsed_ms = STOP_PATIENCE.as_millis(), "stop took too long, ending anyway");
    }
    tracing::info!(node = %cluster.record.id, "node stopped");
    result
}

/// Binds everything and starts the tree. The node then answers its API, but belongs to no
/// cluster yet.
async fn assemble(
    config: &NodeConfig,
    kinds: Vec<Kind>,
) -> Result<(ClusterNode, Life, Tree, Supervisor), NodeError> {
    let data_dir = config.node.data_dir.clone();
    let node = identity::name(config)?;
    let certs = identity::certificates(config, &node)?;
    let listening = api::bind(config.api.listen)?;
    let (cluster, supervisors) = ClusterNode::prepare(NodeOptions {
        node: node.clone(),
        data_dir: data_dir.clone(),
        certs: certs.clone(),
        listen: config.cluster.listen,
        advertise: config.cluster.advertise,
        api_addr: listening.addr(),
        join: config.cluster.join.clone(),
        patience: JOIN_PATIENCE,
        snapshot_every: config.store.snapshot_every.get(),
        store_timing: StoreTiming::default(),
        kinds,
        labels: config.node.labels.clone(),
        zone: config.node.zone.clone(),
        capacity: config.node.capacity,
        blobs: (&config.blobs).into(),
    })?;
    let (firmware, firmware_supervisor) = firmware(FirmwareParts {
        node,
        life: cluster.record.incarnation,
        engine: Engine::with_vault(vault(config))?,
        source: Arc::new(reports::Packages(cluster.blobs.clone())),
        trust: config.packages.trust(config.node.dev),
        ledger: Arc::new(cluster.store.clone()),
        activate: Arc::new(reports::Announcer(cluster.router.activations().clone())),
        lease: cluster.lease.clone(),
        grants: grants(config)?,
        reach: Arc::new(reports::Cluster {
            own: cluster.record.id.clone(),
            router: cluster.router.clone(),
            topics: cluster.topics.clone(),
            membership: cluster.membership.clone(),
            transport: cluster.transport.clone(),
        }),
        launcher: Launcher::this_executable(),
        chronicles: Chronicles::new(log_bounds(config)),
    });
    cluster.migration.carry_with(Arc::clone(&firmware.carrier));
    let services = cluster.transport.services();
    services.insert(Service::Firmware, Arc::new(Reports(firmware.coordinator.clone())));
    let told = Told(firmware.chronicles.clone(), firmware.keepers.clone());
    services.insert(Service::Chronicle, Arc::new(told));
    let life = Life::new(cluster.record.incarnation);
    services.insert(Service::Restart, Arc::new(life.clone()));

    Ports::of(&listening, &cluster.transport)
        .write(&data_dir)
        .map_err(|reason| NodeError::System { what: "write ports.json", reason })?;

    let tree = Tree::default();
    let places = facts::Places { certs, data: data_dir };
    let reports = rollout::Reports {
        local: cluster.record.id.clone(),
        coordinator: firmware.coordinator.clone(),
        membership: cluster.membership.clone(),
        transport: cluster.transport.clone(),
    };
    let rollout = rollout::spec(rollout::RolloutParts {
        store: cluster.store.clone(),
        reports: reports.clone(),
        chronicles: firmware.chronicles.clone(),
    });
    // It comes last: a crash of it touches no firmware.
    let firmware_supervisor = firmware_supervisor.child(rollout);
    let facade =
        NodeFacade::new(&cluster, (firmware, reports), config, places, &life, tree.clone());
    let http = api::spec(listening, Arc::new(facade), config.api.drain.0);
    let mut root = SupervisorSpec::new("Node", Strategy::OneForOne);
    for supervisor in supervisors {
        root = root.supervisor(supervisor);
    }
    let api_supervisor = SupervisorSpec::new("ApiSupervisor", Strategy::OneForOne).child(http);
    let root = root.supervisor(firmware_supervisor).supervisor(api_supervisor).start().await?;
    tree.set(root.clone());
    Ok((cluster, life, tree, root))
}

/// How much of what a firmware logs is kept.
fn log_bounds(config: &NodeConfig) -> LogBounds {
    let (lines, size) = (config.firmware.log_lines.get(), config.firmware.log_size.0);
    LogBounds {
        lines: usize::try_from(lines).unwrap_or(usize::MAX),
        bytes: usize::try_from(size).unwrap_or(usize::MAX),
    }
}

/// What this node gives to guests.
fn grants(config: &NodeConfig) -> Result<Grants, NodeError> {
    let MqttConfig { broker, user, password_file, ca_file, cert_file, key_file } = &config.mqtt;
    let password =
        password_file.as_deref().map(std::fs::read_to_string).transpose().map_err(|reason| {
            NodeError::System { what: "read the file of `mqtt.password-file`", reason }
        })?;
    let authorities = |file: Option<&Path>| match file {
        Some(file) => Authorities::with_file(file),
        None => Ok(Authorities::default()),
    };
    let tls = match broker.as_ref().filter(|broker| broker.has_tls()) {
        Some(_) => {
            let files = cert_file.as_deref().zip(key_file.as_deref());
            let identity = files.map(|(cert, key)| Identity::read(cert, key)).transpose()?;
            Some(authorities(ca_file.as_deref())?.client_as(identity)?)
        }
        None => None,
    };
    let access = |broker: &Broker| BrokerAccess {
        broker: broker.clone(),
        user: user.clone(),
        password: password.as_deref().map(|text| text.trim_end_matches(['\r', '\n']).to_owned()),
        tls,
    };
    let PackagesConfig { folders, environment, ca_file, .. } = config.packages.clone();
    let authorities = authorities(ca_file.as_deref())?;
    Ok(Grants { folders, environment, authorities, broker: broker.as_ref().map(access) })
}

/// Where a node with these settings keeps compiled modules.
pub(crate) fn vault(config: &NodeConfig) -> Vault {
    let FirmwareConfig { cache_dir, cache_size, .. } = &config.firmware;
    let folder = cache_dir.clone().unwrap_or_else(|| Vault::default_folder(&config.node.data_dir));
    Vault::new(folder, cache_size.0)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn tell(cluster: &ClusterNode, entry: Entry) {
    let text = match entry {
        Entry::Founded => "node is up, first of a new cluster",
        Entry::Joined => "node is up, joined its cluster",
        Entry::Resumed => "node is up, back in its cluster",
    };
    let record = &cluster.record;
    tracing::info!(
        node = %record.id,
        incarnation = %record.incarnation,
        cluster = cluster.cluster().map(tracing::field::display),
        api = %record.api_addr,
        addr = %record.cluster_addr,
        "{text}"
    );
}

/// The events that end a node in good order.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Closes when standard input ends, if that counts.
    stdin: Option<oneshot::Receiver<()>>,
}

impl StopSignals {
    fn new(options: RunOptions) -> Result<Self, NodeError> {
        let listen = |kind| {
            signal(kind).map_err(|reason| NodeError::System { what: "receive signals", reason })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            stdin: options.exit_with_stdin.then(end_of_stdin),
        })
    }

    async fn received(&mut self) {
        let stdin_ended = async {
            match &mut self.stdin {
                Some(ended) => drop(ended.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!(reason = "SIGTERM", "stopping"),
            _ = self.interrupt.recv() => tracing::info!(reason = "SIGINT", "stopping"),
            () = stdin_ended => tracing::info!(reason = "standard input ended", "stopping"),
        }
    }
}

/// A receiver that closes when standard input ends. A thread reads it, not tokio's blocking pool:
/// the process must be able to end while the read still waits.
fn end_of_stdin() -> oneshot::Receiver<()> {
    let (ended, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // What a parent writes means nothing; only the end does.
        let copied = io::copy(&mut io::stdin().lock(), &mut io::sink());
        tracing::debug!(failed = copied.is_err(), "standard input ended");
        drop(ended);
    });
    receiver
}
