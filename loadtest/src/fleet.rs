//! Whole nodes, each a process of this very program, and what can be done to them: started, killed,
//! stopped, started again on their data and at their addresses.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use odeum_cluster::netns::Net;
use odeum_cluster::transport::pki::Authority;
use odeum_proto::NodeId;
use odeum_runtime::api::client::ApiClient;
use odeum_runtime::api::types::{NodeState, NodeSummary};
use odeum_runtime::config::NodeConfig;
use odeum_runtime::node::{self as whole, Ended, RunOptions};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tracing_subscriber::EnvFilter;

use crate::door;
use crate::fault::defect::Defect;
use crate::fault::disk::Disk;
use crate::fault::shim::Shim;

/// How long a node may take until it answers, on a machine that does other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often is looked whether it does.
const LOOK: Duration = Duration::from_millis(20);

/// How long a node that is told to stop may take: it gives away what it has first.
const FAREWELL: Duration = Duration::from_secs(45);

/// What nodes log: as `odeum up` does.
const LOGGED: &str = "info,openraft=error,ractor=warn,ractor_cluster=warn";

/// Members of a group of the store, at most.
const VOTERS: usize = 5;

/// The port of the API where a node has an address of its own.
const API_PORT: u16 = 7070;

/// The port of the door to entities there.
const DOOR_PORT: u16 = 7080;

/// What a node is started with.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Its name.
    name: String,
    /// Its data folder.
    #[arg(long)]
    data: PathBuf,
    /// The folder of its certificates.
    #[arg(long)]
    certs: PathBuf,
    /// Where its API listens.
    #[arg(long)]
    api: SocketAddr,
    /// Where it listens for others.
    #[arg(long)]
    cluster: SocketAddr,
    /// A node to join by.
    #[arg(long)]
    at: Option<String>,
    /// Where it lets generators in to its entities.
    #[arg(long)]
    door: Option<SocketAddr>,
    /// Defects that checks must find.
    #[arg(long = "defect")]
    defects: Vec<Defect>,
    /// The folder of the sockets at which its moves wait.
    #[arg(long)]
    steps: Option<PathBuf>,
}

/// Runs a node until its input ends or it is told to stop.
///
/// # Errors
/// If it cannot be started, or fails.
pub async fn node(args: NodeArgs) -> anyhow::Result<()> {
    // Also one that is stopped when the harness is killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(LOGGED))
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let NodeArgs { name, data, certs, api, cluster, at, door, defects, steps } = args;
    let mut config = NodeConfig::default();
    config.node.name = Some(name.parse()?);
    config.node.data_dir = data;
    config.node.dev = true;
    config.api.listen = api;
    // Whoever else is on this machine reaches loopback as well.
    config.api.allow_remote = true;
    config.cluster.listen = cluster;
    config.cluster.certs = Some(certs);
    config.cluster.join = at.into_iter().collect();
    config.packages.allow_unsigned = Some(true);
    defects.into_iter().for_each(Defect::order);
    if let Some(folder) = steps {
        odeum_cluster::migration::halt::by_sockets_in(folder);
    }
    let options = RunOptions { exit_with_stdin: true };
    // Asked for now: the system does not name a file any more that was replaced.
    let program = std::env::current_exe()?;
    let ended = match door {
        None => whole::run(config, options).await?,
        Some(door) => {
            let opened = |entities| door::open(entities, door);
            whole::run_with(config, options, vec![door::kind()?], opened).await?
        }
    };
    match ended {
        Ended::Stopped => Ok(()),
        Ended::Restarts => {
            // It returns only when that cannot be.
            let error =
                std::process::Command::new(program).args(std::env::args_os().skip(1)).exec();
            Err(error).context("the node cannot begin anew")
        }
    }
}

/// What a node tells when it listens.
#[derive(Debug, Deserialize)]
struct Ports {
    pid: u32,
}

/// Where the nodes of a fleet are, and what is done to them later.
#[derive(Debug, Default)]
pub(crate) struct FleetOptions {
    /// Their names.
    pub(crate) names: Vec<String>,
    /// A network in which each has an address of its own; on loopback when there is none.
    pub(crate) net: Option<Net>,
    /// The place of a node that has a small disk of its own.
    pub(crate) small_disk: Option<usize>,
    /// Whether their time of day and the speed of their disks can be changed, if there is a C compiler.
    pub(crate) shim: bool,
    /// Whether they let generators in to their entities.
    pub(crate) doors: bool,
    /// What goes wrong in them.
    pub(crate) defects: Vec<Defect>,
    /// Whether their moves can be made to wait at a step.
    pub(crate) steps: bool,
}

/// The processes of the nodes that run, by name, for whoever looks at them while others start and end them.
pub(crate) type Pids = Arc<Mutex<BTreeMap<String, u32>>>;

/// The nodes. Everything of them ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Fleet {
    // In this order: processes end before the network, the disk and the folder go.
    seats: Vec<Seat>,
    pids: Pids,
    net: Option<Net>,
    disk: Option<(usize, Disk)>,
    shim: Option<Shim>,
    defects: Vec<Defect>,
    has_steps: bool,
    authority: Authority,
    stage: TempDir,
}

/// The place of a node.
#[derive(Debug)]
struct Seat {
    name: String,
    id: NodeId,
    /// How often one was started in it.
    starts: usize,
    /// Where it listens.
    api: SocketAddr,
    cluster: SocketAddr,
    door: Option<SocketAddr>,
    client: Option<ApiClient>,
    child: Option<Child>,
}

impl Fleet {
    /// Starts all of them, and waits until they are one cluster.
    ///
    /// # Errors
    /// If they do not come to be one.
    pub(crate) async fn start(options: FleetOptions) -> anyhow::Result<Self> {
        let FleetOptions { names, net, small_disk, shim, doors, defects, steps: has_steps } =
            options;
        let stage = tempfile::Builder::new().prefix("odeum-loadtest-").tempdir()?;
        let authority = Authority::create(stage.path())?;
        let disk = match small_disk {
            Some(place) => Some((place, Disk::mount(&stage.path().join("disk"))?)),
            None => None,
        };
        let shim = if shim { Shim::build(stage.path()).ok() } else { None };
        let mut seats = Vec::new();
        for name in names {
            let ip = match &net {
                Some(net) => Some(net.addr(&name)?),
                None => None,
            };
            // Named, so that a node that begins anew is where it was.
            let (api, cluster) = match ip {
                Some(addr) => ((addr.ip(), API_PORT).into(), addr),
                None => (free_tcp()?, free_udp()?),
            };
            let door = match ip {
                _ if !doors => None,
                Some(addr) => Some((addr.ip(), DOOR_PORT).into()),
                None => Some(free_tcp()?),
            };
            seats.push(Seat {
                id: name.parse()?,
                name,
                starts: 0,
                api,
                cluster,
                door,
                client: None,
                child: None,
            });
        }
        let pids = Pids::default();
        let mut fleet = Self { seats, pids, net, disk, shim, defects, has_steps, authority, stage };
        for place in 0..fleet.seats.len() {
            fleet.run(place).await?;
        }
        fleet.whole(PATIENCE).await?;
        Ok(fleet)
    }

    fn seat(&self, place: usize) -> anyhow::Result<&Seat> {
        self.seats.get(place).context("no such node")
    }

    fn seat_mut(&mut self, place: usize) -> anyhow::Result<&mut Seat> {
        self.seats.get_mut(place).context("no such node")
    }

    /// Its network, where nodes have addresses of their own.
    pub(crate) fn net(&self) -> Option<&Net> {
        self.net.as_ref()
    }

    /// The small disk, and the place of the node that has it.
    pub(crate) fn disk(&self) -> Option<&(usize, Disk)> {
        self.disk.as_ref()
    }

    /// Whether the time of day and the speed of the disk of nodes can be changed.
    pub(crate) fn has_shim(&self) -> bool {
        self.shim.is_some()
    }

    /// The file by which those of a node are changed.
    pub(crate) fn shim_file(&self, place: usize) -> anyhow::Result<PathBuf> {
        Ok(self.stage.path().join(format!("{}.shim", self.seat(place)?.name)))
    }

    /// The folder of the sockets at which moves of a node wait.
    pub(crate) fn steps(&self, place: usize) -> anyhow::Result<PathBuf> {
        Ok(self.stage.path().join(format!("{}.steps", self.seat(place)?.name)))
    }

    /// Where everything is that the nodes leave behind.
    pub(crate) fn stage(&self) -> &Path {
        self.stage.path()
    }

    /// Leaves that there for people to look at.
    pub(crate) fn keep(&mut self) {
        self.stage.disable_cleanup(true);
    }

    /// The name of a node.
    pub(crate) fn name(&self, place: usize) -> anyhow::Result<&str> {
        Ok(&self.seat(place)?.name)
    }

    /// The names of all nodes.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &NodeId> {
        self.seats.iter().map(|seat| &seat.id)
    }

    /// The clients of all nodes, running or not.
    pub(crate) fn clients(&self) -> Vec<ApiClient> {
        self.seats.iter().filter_map(|seat| seat.client.clone()).collect()
    }

    /// Where all nodes let generators in to their entities.
    pub(crate) fn doors(&self) -> Vec<Option<SocketAddr>> {
        self.seats.iter().map(|seat| seat.door).collect()
    }

    /// The client of a node.
    ///
    /// # Errors
    /// If it was never started.
    pub(crate) fn client(&self, place: usize) -> anyhow::Result<&ApiClient> {
        self.seat(place)?.client.as_ref().context("it was never started")
    }

    /// The process of a node; `None` while it does not run.
    pub(crate) fn pid(&self, place: usize) -> Option<u32> {
        self.seats.get(place)?.child.as_ref()?.id()
    }

    /// The processes of the nodes that run.
    pub(crate) fn pids(&self) -> Pids {
        Arc::clone(&self.pids)
    }

    fn has_pid(&self, name: &str, pid: Option<u32>) {
        let mut pids = self.pids.lock().unwrap_or_else(PoisonError::into_inner);
        match pid {
            Some(pid) => pids.insert(name.to_owned(), pid),
            None => pids.remove(name),
        };
    }

    /// How often a node was started.
    pub(crate) fn starts(&self, name: &str) -> usize {
        self.seats.iter().find(|seat| seat.name == name).map_or(0, |seat| seat.starts)
    }

    /// The places of the nodes that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.seats.len()).filter(|place| self.pid(*place).is_some()).collect()
    }

    fn data(&self, place: usize) -> anyhow::Result<PathBuf> {
        let folder = match &self.disk {
            Some((with, disk)) if *with == place => disk.dir().to_owned(),
            _ => self.stage.path().join("data"),
        };
        Ok(folder.join(&self.seat(place)?.name))
    }

    /// The end of what the node said in its present or last start.
    pub(crate) fn last_words(&self, place: usize) -> String {
        const LINES: usize = 12;
        let text = self
            .seat(place)
            .and_then(|seat| Ok(std::fs::read_to_string(self.log(&seat.name, seat.starts))?));
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default().join("\n")
    }

    fn log(&self, name: &str, start: usize) -> PathBuf {
        self.stage.path().join(format!("{name}.{start}.log"))
    }

    /// A line of the logs of all nodes that tells of a panic.
    pub(crate) fn panic(&self) -> Option<String> {
        let logs = self
            .seats
            .iter()
            .flat_map(|seat| (1..=seat.starts).map(|start| self.log(&seat.name, start)));
        logs.into_iter().find_map(|log| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("panicked at"))?;
            Some(format!("{line} ({})", log.display()))
        })
    }

    /// Starts a node, new or again on its data, and waits until it has its ports.
    ///
    /// # Errors
    /// If it does not come to have them.
    pub(crate) async fn run(&mut self, place: usize) -> anyhow::Result<()> {
        let mut command = self.command(place)?;
        let data = self.data(place)?;
        let seat = self.seat_mut(place)?;
        let name = seat.name.clone();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().context("it has ended")?;
        let told = data.join(whole::PORTS_FILE);
        let begin = Instant::now();
        loop {
            if let Ok(bytes) = std::fs::read(&told)
                && let Ok(ports) = serde_json::from_slice::<Ports>(&bytes)
                && ports.pid == pid
            {
                break;
            }
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("{name} ended with {status}: {}", self.last_words(place));
            }
            if begin.elapsed() > PATIENCE {
                let words = self.last_words(place);
                anyhow::bail!("{name} does not say where it listens: {words}");
            }
            sleep(LOOK).await;
        }
        self.has_pid(&name, Some(pid));
        let seat = self.seat_mut(place)?;
        seat.client = Some(ApiClient::new(&format!("http://{}", seat.api))?);
        seat.child = Some(child);
        Ok(())
    }

    fn command(&mut self, place: usize) -> anyhow::Result<Command> {
        let (data, shim_file) = (self.data(place)?, self.shim_file(place)?);
        let name = self.name(place)?.to_owned();
        let certs = self.stage.path().join("certs").join(&name);
        if !certs.exists() {
            self.authority.issue(&name.parse()?, &certs)?;
        }
        std::fs::create_dir_all(data.parent().context("a folder of data has a parent")?)?;
        let exe = std::env::current_exe()?;
        let mut command = match &self.net {
            Some(net) => net.command(&name, &exe),
            None => std::process::Command::new(exe),
        };
        // A node that has been a member finds the others by what it knows of them.
        let joined = data.exists();
        let others = self.seats.iter().find(|seat| seat.child.is_some());
        let join = others.map(|seat| seat.cluster).filter(|_| !joined);
        let defects = self.defects.clone();
        let steps = self.has_steps.then(|| self.steps(place)).transpose()?;
        let seat = self.seat_mut(place)?;
        command.args(["fleet-node", &name, "--data"]).arg(&data).arg("--certs").arg(certs);
        command.arg("--api").arg(seat.api.to_string());
        command.arg("--cluster").arg(seat.cluster.to_string());
        if let Some(join) = join {
            command.arg("--at").arg(join.to_string());
        }
        if let Some(door) = seat.door {
            command.arg("--door").arg(door.to_string());
        }
        if let Some(steps) = steps {
            command.arg("--steps").arg(steps);
        }
        for defect in defects {
            command.arg("--defect").arg(defect.to_string());
        }
        seat.starts += 1;
        let start = seat.starts;
        let log = self.log(&name, start);
        if let Some(shim) = &self.shim {
            shim.apply(&mut command, &shim_file)?;
        }
        let log = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        Ok(command)
    }

    /// Sends a node a signal.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) fn signal(&self, place: usize, signal: Signal) -> anyhow::Result<()> {
        let pid = self.pid(place).with_context(|| format!("node {place} does not run"))?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("no process has the number 0")?;
        Ok(kill_process(pid, signal)?)
    }

    /// kill -9.
    ///
    /// # Errors
    /// If it does not run.
    pub(crate) async fn kill(&mut self, place: usize) -> anyhow::Result<()> {
        let name = self.name(place)?.to_owned();
        self.has_pid(&name, None);
        let child = self.seat_mut(place)?.child.take();
        Ok(child.context("it does not run")?.kill().await?)
    }

    /// SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    /// If it does not end, or not well.
    pub(crate) async fn stop(&mut self, place: usize) -> anyhow::Result<()> {
        self.signal(place, Signal::TERM)?;
        let name = self.name(place)?.to_owned();
        self.has_pid(&name, None);
        let mut child = self.seat_mut(place)?.child.take().context("it does not run")?;
        let status = timeout(FAREWELL, child.wait()).await;
        let status = status
            .with_context(|| format!("{name}, told to stop, goes on after {FAREWELL:?}"))??;
        anyhow::ensure!(status.success(), "{name}, told to stop, ended with {status}");
        Ok(())
    }

    /// Waits until every node takes requests and sees every other one alive, and each group of the store
    /// has a vote of each: what is lost then is a node and no majority. How long that took.
    ///
    /// # Errors
    /// If it is not so in time, or a node has ended by itself.
    pub(crate) async fn whole(&mut self, patience: Duration) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        for place in 0..self.seats.len() {
            loop {
                let seat = self.seat_mut(place)?;
                let child = seat.child.as_mut().with_context(|| format!("node {place} is down"))?;
                if let Some(status) = child.try_wait()? {
                    let words = self.last_words(place);
                    anyhow::bail!("{} ended by itself with {status}: {words}", self.name(place)?);
                }
                if sees_all(self.client(place)?, self.seats.len()).await {
                    break;
                }
                anyhow::ensure!(
                    begin.elapsed() < patience,
                    "{} is not one of a whole cluster after {patience:?}: {}",
                    self.name(place)?,
                    self.last_words(place)
                );
                sleep(LOOK).await;
            }
        }
        Ok(begin.elapsed())
    }

    /// Ends all nodes and gives back the network. The folder goes, unless it is kept.
    pub(crate) async fn end(mut self) {
        self.stop_all().await;
    }

    /// Kills all nodes that run.
    pub(crate) async fn stop_all(&mut self) {
        for seat in &mut self.seats {
            if let Some(mut child) = seat.child.take() {
                // An error means that it has ended by itself.
                let _ = child.kill().await;
            }
        }
    }
}

/// Whether a node takes requests, sees all nodes alive, and sees a vote of each in each group of the store.
pub(crate) async fn sees_all(client: &ApiClient, all: usize) -> bool {
    let (Ok(store), Ok(nodes), Ok(())) =
        (client.store().await, client.nodes().await, client.ready().await)
    else {
        return false;
    };
    let votes = store
        .groups
        .iter()
        .all(|group| group.members.iter().filter(|member| member.voter).count() >= all.min(VOTERS));
    let is_well = |node: &&NodeSummary| {
        node.state == NodeState::Alive && node.link.as_ref().is_none_or(|link| link.up)
    };
    votes && nodes.iter().filter(is_well).count() == all
}

/// A port of TCP that nobody has now. Somebody may take it before it is used, which is seen then.
fn free_tcp() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// The same of UDP.
fn free_udp() -> anyhow::Result<SocketAddr> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
