//! A million entities by name, a hundred thousand of them in memory on one node, a node that talks
//! to all of them and one that talks to none: what each costs.
//!
//! | row | what is measured | against |
//! |---|---|---|
//! | resident | memory of the node for each entity that is active and idle | one ractor actor, in a process of its own |
//! | passed | memory that stays there for each entity that was active and has ended | a budget |
//! | talked to | memory of the node that talks for each name: the ways it remembers for a while | nothing |
//! | elsewhere | memory of the third node for each name | a budget |
//! | passive | until a node has given away ten thousand entities that are not active | 1 s |
//! | movable | the same of ten thousand that are, with what each has in memory | nothing |
//!
//! The budgets are for what an allocator does not give back at once; what grows with the number
//! of names exceeds them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use odeum_actors::ActorError;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::entity::{Entity, EntityContext, EntityMessage, Kind};
use odeum_cluster::node::ClusterNode;
use odeum_proto::{EntityId, EntityKind};
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
/// Entities that a node gives away.
const GIVEN: usize = 10_000;
/// What that may take when they are not active, in seconds.
const GIVING: f64 = 1.0;
/// Entities of each kind before anything is measured.
const WARM_UP: usize = 100;
/// Entities that are made at a time.
const AT_ONCE: usize = 64;

const STAYS: &str = "stays";
const PASSES: &str = "passes";
const MOVES: &str = "moves";

/// Which of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Has the entities.
    Hold,
    /// Talks to them.
    Talk,
    /// Has nothing to do with them.
    Bystand,
    /// Has them as well, and gets those that the first one gives away.
    Take,
}

/// What a node of the scenario is started with.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Which of the nodes.
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
    let given = (GIVEN / quick).max(1);
    let [mut stays, mut passes, mut talks, mut elsewhere] = [const { Vec::new() }; 4];
    let [mut passive, mut movable] = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        let grown = round(resident, passing).await?;
        stays.push((grown.stays, ractor::memory_of(ractor::Side::Theirs, resident)?));
        passes.push((grown.passes, PASSED));
        talks.push((grown.talks, grown.talks));
        elsewhere.push((grown.elsewhere, ELSEWHERE));
        passive.push((gives_away(PASSES, given).await?, GIVING));
        let took = gives_away(MOVES, given).await?;
        movable.push((took, took));
    }
    let actor = crate::report::median(stays.iter().map(|(_, actor)| *actor));
    let at_most = Target::AtMost(1.1 + EXTRA / actor);
    let names = resident + passing;
    Ok(Report {
        peer: "ractor or budget",
        conditions: Vec::new(),
        rows: vec![
            Row::new(format!("memory of each of {resident} resident"), "bytes", at_most, &stays),
            Row::new(
                format!("memory left by each of {passing} passed"),
                "bytes",
                Target::AtMost(1.0),
                &passes,
            ),
            Row::new(
                format!("memory of the talker for each of {names} names"),
                "bytes",
                Target::None,
                &talks,
            ),
            Row::new(
                format!("memory elsewhere for each of {names} names"),
                "bytes",
                Target::AtMost(1.0),
                &elsewhere,
            ),
            Row::new(
                format!("some {given} passive given away"),
                "s",
                Target::AtMost(1.0),
                &passive,
            ),
            Row::new(
                format!("some {given} active given away, with memory"),
                "s",
                Target::None,
                &movable,
            ),
        ],
    })
}

/// What each entity or name added to the memory of a node, in bytes.
struct Grown {
    stays: f64,
    passes: f64,
    talks: f64,
    elsewhere: f64,
}

async fn round(resident: usize, passing: usize) -> anyhow::Result<Grown> {
    let stage = remote::stage(&[Role::Hold, Role::Talk, Role::Bystand].map(name))?;
    let (mut hold, at) = start(stage.path(), Role::Hold, None).await?;
    let (mut talk, _) = start(stage.path(), Role::Talk, Some(&at)).await?;
    let (mut bystand, _) = start(stage.path(), Role::Bystand, Some(&at)).await?;
    // Whatever is made once, such as queues and the shards' places.
    for kind in [STAYS, PASSES] {
        fill(&mut talk, &mut hold, kind, (0, WARM_UP)).await?;
    }
    let before = [memory(&mut hold).await?, memory(&mut talk).await?, memory(&mut bystand).await?];
    fill(&mut talk, &mut hold, STAYS, (WARM_UP, resident)).await?;
    let filled = memory(&mut hold).await?;
    fill(&mut talk, &mut hold, PASSES, (WARM_UP, passing)).await?;
    let after = [memory(&mut hold).await?, memory(&mut talk).await?, memory(&mut bystand).await?];
    for node in [talk, bystand, hold] {
        node.end().await;
    }
    let ([held, talked, stood_by], [holds, talks, stands_by]) = (before, after);
    let each = |grown: f64, count: usize| grown.max(0.0) / count as f64;
    Ok(Grown {
        stays: each(filled - held, resident),
        passes: each(holds - filled, passing),
        talks: each(talks - talked, resident + passing),
        elsewhere: each(stands_by - stood_by, resident + passing),
    })
}

/// Has a node give away the half that it has of twice as many entities of a kind; in how many seconds.
async fn gives_away(kind: &str, count: usize) -> anyhow::Result<f64> {
    let stage = remote::stage(&[Role::Hold, Role::Talk, Role::Take].map(name))?;
    let (mut hold, at) = start(stage.path(), Role::Hold, None).await?;
    let (mut take, _) = start(stage.path(), Role::Take, Some(&at)).await?;
    let (mut talk, _) = start(stage.path(), Role::Talk, Some(&at)).await?;
    // Both have their share of the shards then.
    take.exchange("share").await?;
    talk.exchange(&format!("touch {kind} 0 {}", 2 * count)).await?;
    let took: f64 = hold.exchange("leave").await?.parse()?;
    if kind == MOVES {
        talk.exchange(&format!("count {kind} 0 {} 1", 2 * count)).await?;
    }
    for node in [talk, take, hold] {
        node.end().await;
    }
    Ok(took)
}

/// Talks to so many entities of a kind, from a number on, and waits until those are there that
/// stay.
async fn fill(
    talk: &mut Process,
    hold: &mut Process,
    kind: &str,
    (from, count): (usize, usize),
) -> anyhow::Result<()> {
    talk.exchange(&format!("touch {kind} {from} {count}")).await?;
    let there = if kind == STAYS { from + count } else { 0 };
    hold.exchange(&format!("settle {kind} {there}")).await.map(drop)
}

async fn start(stage: &Path, role: Role, at: Option<&str>) -> anyhow::Result<(Process, String)> {
    let name = name(role);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["entities-node", name, "--stage"]).arg(stage);
    if let Some(at) = at {
        command.args(["--at", at]);
    }
    Process::start(format!("node {name}"), &mut command, None).await
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Hold => "hold",
        Role::Talk => "talk",
        Role::Bystand => "bystand",
        Role::Take => "take",
    }
}

/// The memory of a node, in bytes.
async fn memory(node: &mut Process) -> anyhow::Result<f64> {
    Ok(node.exchange("memory").await?.parse()?)
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
    if matches!(role, Role::Hold | Role::Take) {
        let stays = |_: &EntityId| Counter { passes: false, counted: 0 };
        builder = builder
            .kind(Kind::new(STAYS.parse()?, stays))
            .kind(Kind::new(PASSES.parse()?, |_| Counter { passes: true, counted: 0 }))
            .kind(Kind::new(MOVES.parse()?, stays).movable());
    }
    let node = builder.start().await?;
    let mut lines = driver::lines();
    driver::say(&format!("ready {}", node.addr()))?;
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["touch", kind, from, count] => {
                touch(&node, kind, (from.parse()?, count.parse()?), 1).await?;
            }
            ["count", kind, from, count, times] => {
                touch(&node, kind, (from.parse()?, count.parse()?), times.parse::<u64>()? + 1)
                    .await?;
            }
            ["share"] => has_share(&node).await?,
            ["leave"] => {
                let began = std::time::Instant::now();
                node.entities().hand_off(PATIENCE).await;
                driver::say(&began.elapsed().as_secs_f64().to_string())?;
                continue;
            }
            ["settle", kind, there] => settle(&node, kind, there.parse()?).await?,
            _ => {}
        }
        driver::say(&ractor::resident()?.to_string())?;
    }
    Ok(())
}

/// Adds one to so many entities of a kind, from a number on; each must have counted so many then.
async fn touch(
    node: &RunningNode,
    kind: &str,
    (from, count): (usize, usize),
    expected: u64,
) -> anyhow::Result<()> {
    let ids = (from..from + count).map(|n| format!("{kind}/entity-{n}").parse());
    stream::iter(ids)
        .map(|id| async {
            let entity = node.entity::<Add>(id?);
            anyhow::Ok(entity.ask(Add(1), PATIENCE).await?)
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|counted| async move {
            anyhow::ensure!(counted == expected, "an entity has counted {counted}, not {expected}");
            Ok(())
        })
        .await
}

/// Waits until a node has half of the shards of each kind.
async fn has_share(node: &RunningNode) -> anyhow::Result<()> {
    let has = || {
        node.cluster().store.view(|state| {
            state
                .kinds()
                .values()
                .all(|row| row.shards_of(node.id()).count() * 2 == usize::from(row.shards()))
        })
    };
    let shared = async {
        while !has() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, shared).await.context("it has not its share of the shards")
}

/// Waits until exactly so many of a kind are in memory.
async fn settle(node: &RunningNode, kind: &str, there: usize) -> anyhow::Result<()> {
    let kind: EntityKind = kind.parse()?;
    let settled = async {
        while node.residents().get(&kind).copied().unwrap_or_default() != there {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled)
        .await
        .with_context(|| format!("not {there}, but {:?}", node.residents()))
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

    async fn freeze(&mut self, _: &mut EntityContext<'_, Self>) -> Result<Bytes, ActorError> {
        Ok(Bytes::copy_from_slice(&self.counted.to_le_bytes()))
    }

    async fn thaw(
        &mut self,
        _: &mut EntityContext<'_, Self>,
        state: Bytes,
    ) -> Result<(), ActorError> {
        let counted = state.first_chunk().ok_or_else(|| ActorError::msg("not as it was frozen"))?;
        self.counted = u64::from_le_bytes(*counted);
        Ok(())
    }
}
