//! A million entities by name, a hundred thousand of them in memory on one node, and another node
//! that talks to none of them: what each costs.
//!
//! | row | what is measured | against |
//! |---|---|---|
//! | resident | memory of the node for each entity that is active and idle | one ractor actor, in a process of its own |
//! | passed | memory that stays for each entity that was active and has ended | a budget |
//! | elsewhere | memory of the other node for each of all the names | a budget |
//!
//! The budgets are for what an allocator does not give back at once; what grows with the number
//! of names exceeds them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, Kind};
use odeum_cluster::node::ClusterNode;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::remote::driver::{self, PATIENCE};
use crate::remote::pair::Process;
use crate::remote::{self, certs};
use crate::report::{Report, Row, Target};
use crate::vs::ractor;

/// Entities that stay.
const RESIDENT: usize = 100_000;
/// Entities that come and go.
const PASSING: usize = 900_000;
/// What an entity may cost beyond 1.1 times a ractor actor, in bytes: its name, its place in the
/// table, its gate.
const EXTRA: f64 = 1_000.0;
/// What may stay of an entity that has ended, in bytes.
const PASSED: f64 = 64.0;
/// What a name may cost a node that does not talk to it, in bytes.
const ELSEWHERE: f64 = 8.0;
/// Entities that are made at a time.
const AT_ONCE: usize = 64;

const STAYS: &str = "stays";
const PASSES: &str = "passes";

/// Which of the two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Has the entities.
    Hold,
    /// Has nothing to do with them.
    Bystand,
}

/// What a node of the scenario is started with.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Which of the two.
    role: Role,
    /// The folder of the scenario.
    #[arg(long)]
    stage: PathBuf,
    /// Where the holding node listens.
    #[arg(long)]
    at: Option<String>,
}

/// Runs the scenario.
///
/// # Errors
/// If a node cannot be started or fails in the middle.
pub async fn run(rounds: usize, quick: usize) -> anyhow::Result<Report> {
    let (resident, passing) = ((RESIDENT / quick).max(1), (PASSING / quick).max(1));
    let (mut stays, mut passes, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let stage = remote::stage(&[name(Role::Hold), name(Role::Bystand)])?;
        let (mut hold, at) = start(stage.path(), Role::Hold, None).await?;
        let (mut bystand, _) = start(stage.path(), Role::Bystand, Some(&at)).await?;
        let before = memory(&mut bystand).await?;
        let stayed = memory_of(&mut hold, STAYS, resident).await?;
        passes.push((memory_of(&mut hold, PASSES, passing).await?.max(0.0), PASSED));
        let grown = memory(&mut bystand).await? - before;
        elsewhere.push((grown.max(0.0) / (resident + passing) as f64, ELSEWHERE));
        stays.push((stayed, ractor::memory_of(ractor::Side::Theirs, resident)?));
        bystand.end().await;
        hold.end().await;
    }
    let actor = crate::report::median(stays.iter().map(|(_, actor)| *actor));
    let at_most = Target::AtMost(1.1 + EXTRA / actor);
    let names = resident + passing;
    Ok(Report {
        peer: "ractor or budget",
        rows: vec![
            Row::new(format!("memory of each of {resident} resident"), "bytes", at_most, &stays),
            Row::new(
                format!("memory left by each of {passing} passed"),
                "bytes",
                Target::AtMost(1.0),
                &passes,
            ),
            Row::new(
                format!("memory elsewhere for each of {names} names"),
                "bytes",
                Target::AtMost(1.0),
                &elsewhere,
            ),
        ],
    })
}

async fn start(stage: &Path, role: Role, at: Option<&str>) -> anyhow::Result<(Process, String)> {
    let name = name(role);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["entities-node", name, "--stage"]).arg(stage);
    if let Some(at) = at {
        command.args(["--at", at]);
    }
    Process::start(format!("node {name}"), &mut command).await
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Hold => "hold",
        Role::Bystand => "bystand",
    }
}

/// The memory of a node, in bytes.
async fn memory(node: &mut Process) -> anyhow::Result<f64> {
    Ok(node.exchange("memory").await?.parse()?)
}

/// What each of `count` entities adds to the memory of the node.
async fn memory_of(node: &mut Process, kind: &str, count: usize) -> anyhow::Result<f64> {
    Ok(node.exchange(&format!("{kind} {count}")).await?.parse()?)
}

/// Runs a node of the scenario until its input ends.
///
/// # Errors
/// If it cannot be started.
pub async fn node(args: NodeArgs) -> anyhow::Result<()> {
    let NodeArgs { role, stage, at } = args;
    let mut builder = ClusterNode::builder(name(role).parse()?)
        .data_dir(stage.join("data").join(name(role)))
        .certs(certs(&stage, name(role)))
        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .join(at);
    if role == Role::Hold {
        builder = builder
            .kind(Kind::new(STAYS.parse()?, |_| Counter { passes: false, counted: 0 }))
            .kind(Kind::new(PASSES.parse()?, |_| Counter { passes: true, counted: 0 }));
    }
    let node = builder.start().await?;
    let mut lines = driver::lines();
    driver::say(&format!("ready {}", node.addr()))?;
    while let Some(line) = lines.recv().await {
        let said = match line.split_once(' ') {
            None => ractor::resident()?,
            Some((kind, count)) => touch(&node, kind, count.parse()?).await?,
        };
        driver::say(&said.to_string())?;
    }
    Ok(())
}

/// Makes so many entities of a kind active, and returns what each adds to the memory.
async fn touch(node: &RunningNode, kind: &str, count: usize) -> anyhow::Result<f64> {
    let before = ractor::resident()?;
    let ids = (0..count).map(|n| format!("{kind}/entity-{n}").parse());
    stream::iter(ids)
        .map(|id| async {
            let entity = node.entity::<Add>(id?);
            anyhow::Ok(entity.ask(Add(1), PATIENCE).await?)
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|counted| async move {
            anyhow::ensure!(counted == 1, "an entity that is new has counted {counted}");
            Ok(())
        })
        .await?;
    let expected = if kind == STAYS { count } else { 0 };
    tokio::time::timeout(PATIENCE, settled(node, kind, expected))
        .await
        .with_context(|| format!("{:?} are there", node.residents()))?;
    Ok((ractor::resident()? - before) / count as f64)
}

/// Waits until exactly so many are in memory.
async fn settled(node: &RunningNode, kind: &str, expected: usize) {
    let there = |residents: BTreeMap<_, usize>| {
        residents
            .iter()
            .find(|(name, _): &(&odeum_proto::EntityKind, _)| name.as_str() == kind)
            .map_or(0, |(_, count)| *count)
    };
    while there(node.residents()) != expected {
        tokio::time::sleep(LOOK).await;
    }
}

/// How often the number of entities in memory is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

#[derive(Serialize, Deserialize)]
struct Add(u64);

impl EntityMessage for Add {
    type Reply = u64;
}

struct Counter {
    /// Whether it ends with its first message.
    passes: bool,
    counted: u64,
}

impl Entity for Counter {
    type Message = Add;

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        Add(n): Add,
    ) -> Result<u64, ActorError> {
        self.counted += n;
        if self.passes {
            ctx.passivate();
        }
        Ok(self.counted)
    }
}
