//! A node of the scenario: does what the lines of its input say.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use odeum_cluster::builder::RunningNode;
use odeum_cluster::node::ClusterNode;
use odeum_cluster::store::{Consistency, SessionHandle, StoreHandle, Watch, WatchEvent};
use odeum_proto::Revision;
use odeum_proto::session::{Operation, SessionSettings, Value, What};
use tokio::task::JoinSet;

use super::VARIABLES;
use crate::remote::certs;
use crate::remote::driver::{self, PATIENCE};
use crate::vs::ractor;

/// Bytes of a variable's value.
pub(super) const VALUE: usize = 16;
/// Sessions that are written at a time.
const AT_ONCE: usize = 256;
/// Writes in flight while there are watchers.
const WRITERS: usize = 16;
/// The session with watchers, and its variable.
const WATCHED: &str = "watched";

/// What a node of the scenario is started with.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Its name.
    name: String,
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// The folder of the scenario.
    #[arg(long)]
    stage: PathBuf,
    /// A node to join by.
    #[arg(long)]
    at: Option<String>,
}

/// Runs a node of the scenario until its input ends.
///
/// # Errors
/// If it cannot be started, or cannot do what it is told.
pub async fn run(args: NodeArgs) -> anyhow::Result<()> {
    let NodeArgs { name, listen, stage, at } = args;
    let node = ClusterNode::builder(name.parse()?)
        .data_dir(stage.join("data").join(&name))
        .certs(certs(&stage, &name))
        .listen(listen)
        .join(at)
        .start()
        .await?;
    let mut lines = driver::lines();
    driver::say(&format!("ready {}", node.addr()))?;
    while let Some(line) = lines.recv().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words.as_slice() {
            ["memory"] => ractor::resident()?.to_string(),
            ["fill", from, count] => {
                fill(&node, from.parse()?, count.parse()?).await?;
                "filled".into()
            }
            ["read", last] => {
                read(store(&node), last.parse()?).await?;
                "read".into()
            }
            ["write", changes] => write(&watched(&node)?, changes.parse()?).await?.to_string(),
            ["watch", watchers, changes] => {
                let (given, rate) = watch(&node, watchers.parse()?, changes.parse()?).await?;
                format!("{given} {rate}")
            }
            _ => anyhow::bail!("{line:?} is nothing that a node can do"),
        };
        driver::say(&answer)?;
    }
    Ok(())
}

fn store(node: &RunningNode) -> &StoreHandle {
    &node.cluster().store
}

fn session(store: &StoreHandle, number: usize) -> anyhow::Result<SessionHandle> {
    Ok(store.session(format!("session-{number}").parse()?).deadline(PATIENCE))
}

fn watched(node: &RunningNode) -> anyhow::Result<SessionHandle> {
    Ok(store(node).session(WATCHED.parse()?).deadline(PATIENCE))
}

fn variable(number: usize) -> String {
    format!("variable-{number}")
}

fn value(session: usize) -> Value {
    Value::String(format!("{session:0VALUE$}").into())
}

/// Makes so many sessions, from a number on, each with its variables.
async fn fill(node: &RunningNode, from: usize, count: usize) -> anyhow::Result<()> {
    let store = store(node);
    stream::iter(from..from + count)
        .map(|number| async move {
            let session = session(store, number)?;
            session.create(SessionSettings::default()).await?;
            let set = |n| Operation::Set {
                key: variable(n).into(),
                value: value(number),
                expected: None,
                register: true,
            };
            session.batch((0..VARIABLES).map(set).collect()).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

/// Reads the last variable of the last sessions, enough of them that every group is asked.
async fn read(store: &StoreHandle, last: usize) -> anyhow::Result<()> {
    let groups = store.data_groups()?;
    let mut missing: Vec<_> = groups.iter().collect();
    for number in (0..=last).rev() {
        if missing.is_empty() {
            break;
        }
        let session = session(store, number)?;
        let group = store.group_of(session.id())?;
        if !missing.contains(&&group) {
            continue;
        }
        missing.retain(|other| **other != group);
        let read = session.get(&variable(VARIABLES - 1), Consistency::Linearizable).await?;
        let read = read.with_context(|| format!("session {number} has lost a variable"))?;
        anyhow::ensure!(*read.value() == value(number), "session {number} has {read:?}");
    }
    Ok(())
}

/// Writes a variable so often; writes a second.
async fn write(session: &SessionHandle, changes: usize) -> anyhow::Result<f64> {
    session.create(SessionSettings::default()).await?;
    let began = Instant::now();
    stream::iter(0..changes)
        .map(async |_| session.set(WATCHED, Value::Boolean(true)).await.map(drop))
        .buffer_unordered(WRITERS)
        .try_collect::<()>()
        .await?;
    Ok(changes as f64 / began.elapsed().as_secs_f64())
}

/// As [`write`], with so many watchers; how many changes they were given, and writes a second.
async fn watch(
    node: &RunningNode,
    watchers: usize,
    changes: usize,
) -> anyhow::Result<(usize, f64)> {
    let session = watched(node)?;
    let first = session.get(WATCHED, Consistency::Linearizable).await?;
    let first = first.context("the watched variable is missing")?;
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let watch = session.watch(first.revision())?;
        watching.spawn(follow(watch, first.version(), changes));
    }
    let rate = write(&session, changes).await?;
    let mut given = 0;
    while let Some(followed) = tokio::time::timeout(PATIENCE, watching.join_next())
        .await
        .with_context(|| format!("{} watchers wait for changes", watching.len()))?
    {
        given += followed??;
    }
    Ok((given, rate))
}

/// Takes what a watch gives until it has given so many changes after version `seen`.
async fn follow(mut watch: Watch, seen: u64, changes: usize) -> anyhow::Result<usize> {
    let mut last = (seen, Revision::default());
    let mut given = 0;
    while given < changes {
        let WatchEvent::Changes(batch) = watch.next().await else {
            anyhow::bail!("a watcher was told that it is too slow after {given} changes");
        };
        for change in batch {
            let What::Set { version, .. } = &change.what else { continue };
            let next = (*version, change.revision);
            anyhow::ensure!(
                next.0 == last.0 + 1 && next.1 > last.1,
                "a watcher was given {next:?} after {last:?}",
            );
            last = next;
            given += 1;
        }
    }
    Ok(given)
}
