//! A store of three nodes with a million small variables in a hundred thousand sessions, all of
//! whose processes are killed and started again; and a session with a thousand watchers.
//!
//! | row | what is measured | against |
//! |---|---|---|
//! | restart | from the start of all three processes to the first linearizable read of each group | a budget |
//! | memory | memory of a node for each variable, what its session takes included | a budget |
//! | watchers | changes that all watchers together were given, each once and in order | changes × watchers |
//! | writes beside watchers | writes a second to the watched session | the same without watchers |

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use futures::future::try_join_all;
use tokio::process::Command;

pub mod node;

use crate::remote;
use crate::remote::pair::Process;
use crate::report::{Report, Row, Target};

/// The nodes, in the order in which they are started for the first time.
const NAMES: [&str; 3] = ["first", "second", "third"];
/// Sessions.
const SESSIONS: usize = 100_000;
/// Variables in each session.
const VARIABLES: usize = 10;
/// Sessions that are written with one request to a node.
const PORTION: usize = 10_000;
/// Watchers of one session.
const WATCHERS: usize = 1_000;
/// Changes that each watcher must be given.
const CHANGES: usize = 1_000;
/// What a restart may take, in seconds.
const RESTART: f64 = 10.0;
/// What a small variable may take in memory, in bytes.
const MEMORY: f64 = 500.0;

/// Runs the scenario.
///
/// # Errors
/// If a node cannot be started, fails in the middle, or a watcher is given a change twice, not at
/// all, or out of order.
pub async fn run(rounds: usize, quick: usize) -> anyhow::Result<Report> {
    let sessions = (SESSIONS / quick).max(1);
    let changes = (CHANGES / quick).max(10);
    let watchers = (WATCHERS / quick).max(10);
    let [mut restarts, mut memory, mut watched, mut beside] = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        let round = round(sessions, watchers, changes).await?;
        restarts.push((round.restart, RESTART));
        memory.push((round.memory, MEMORY));
        watched.push((round.given, (watchers * changes) as f64));
        beside.push((round.watched_writes, round.writes));
    }
    let variables = sessions * VARIABLES;
    let at_most = Target::AtMost(1.0);
    Ok(Report {
        peer: "budget or bare",
        conditions: vec![format!(
            "3 nodes on {} CPUs and one disk, fsync before each answer, {variables} variables of \
             {} B in {sessions} sessions",
            std::thread::available_parallelism()?,
            node::VALUE,
        )],
        rows: vec![
            Row::new("from kill -9 of all to serving", "s", at_most, &restarts),
            Row::new("memory of a node for each variable", "bytes", at_most, &memory),
            Row::new(
                format!("changes given to {watchers} watchers"),
                "changes",
                Target::AtLeast(1.0),
                &watched,
            ),
            Row::new("writes beside the watchers", "/s", Target::None, &beside),
        ],
    })
}

struct Round {
    /// Seconds.
    restart: f64,
    /// Bytes.
    memory: f64,
    given: f64,
    /// A second, without watchers and with them.
    writes: f64,
    watched_writes: f64,
}

async fn round(sessions: usize, watchers: usize, changes: usize) -> anyhow::Result<Round> {
    let stage = remote::stage(&NAMES)?;
    let ports = free_ports()?;
    let mut nodes = vec![start(stage.path(), 0, &ports, false).await?];
    for place in 1..NAMES.len() {
        nodes.push(start(stage.path(), place, &ports, true).await?);
    }
    let before = memory(&mut nodes).await?;
    // Any node can drive.
    let place = 0;
    for from in (0..sessions).step_by(PORTION) {
        let count = PORTION.min(sessions - from);
        ask(&mut nodes, place, &format!("fill {from} {count}")).await?;
    }
    // Every node has it all when it has been read there.
    let read = format!("read {}", sessions - 1);
    for place in 0..nodes.len() {
        ask(&mut nodes, place, &read).await?;
    }
    let after = memory(&mut nodes).await?;
    let grown = before.iter().zip(&after).map(|(before, after)| after - before);
    let each = grown.fold(0.0, f64::max) / (sessions * VARIABLES) as f64;

    for node in nodes {
        node.kill().await?;
    }
    let began = Instant::now();
    let starts = (0..NAMES.len()).map(|place| start(stage.path(), place, &ports, false));
    let mut nodes = try_join_all(starts).await?;
    ask(&mut nodes, place, &read).await?;
    let restart = began.elapsed().as_secs_f64();

    let writes = ask(&mut nodes, place, &format!("write {changes}")).await?.parse()?;
    let watched = ask(&mut nodes, place, &format!("watch {watchers} {changes}")).await?;
    let (given, rate) = watched.split_once(' ').context("a node said something else")?;
    let (given, watched_writes) = (given.parse()?, rate.parse()?);
    for node in nodes {
        node.end().await;
    }
    Ok(Round { restart, memory: each, given, writes, watched_writes })
}

async fn ask(nodes: &mut [Process], place: usize, line: &str) -> anyhow::Result<String> {
    nodes.get_mut(place).context("no such node")?.exchange(line).await
}

/// The memory of each node, in bytes.
async fn memory(nodes: &mut [Process]) -> anyhow::Result<Vec<f64>> {
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        all.push(node.exchange("memory").await?.parse()?);
    }
    Ok(all)
}

async fn start(stage: &Path, place: usize, ports: &[u16], joins: bool) -> anyhow::Result<Process> {
    let name = NAMES.get(place).context("no such node")?;
    let listen = |place: usize| {
        let port = ports.get(place).copied().context("no such port")?;
        anyhow::Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string())
    };
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["store-node", name, "--listen", &listen(place)?, "--stage"]).arg(stage);
    if joins {
        command.args(["--at", &listen(0)?]);
    }
    Ok(Process::start(format!("node {name}"), &mut command, None).await?.0)
}

/// Ports that nobody has now, one for each node: a node that is started again listens where it did.
fn free_ports() -> anyhow::Result<Vec<u16>> {
    let bind = |_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    // All at once, so that no port is given twice.
    let sockets = NAMES.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    let ports = sockets.iter().map(|socket| Ok(socket.local_addr()?.port()));
    ports.collect()
}
