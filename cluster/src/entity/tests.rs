//! Real nodes on loopback, several in one process, that host entities.

mod delivery;
mod leases;
mod lives;
mod moves;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use odeum_actors::ActorError;
use odeum_proto::{EntityId, NodeId, codec};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{CallError, Entity, EntityContext, EntityMessage, EntityRef, EntityTimer, Kind};
use crate::builder::RunningNode;
use crate::node::ClusterNode;
use crate::transport::pki::Authority;

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

/// What every activation of a test has done, for its assertions.
#[derive(Debug, Default)]
struct Record {
    /// What each entity was told by whom, in order, with the node it was on.
    told: BTreeMap<String, Vec<(u32, u32)>>,
    activated: Vec<(String, NodeId)>,
    passivated: Vec<String>,
    thawed: Vec<String>,
    asked: u32,
    /// Tasks of entities that run.
    tasks: u32,
}

type Log = Arc<Mutex<Record>>;

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Note {
    /// The n-th message of a sender.
    Tell { sender: u32, n: u32 },
    /// How many messages it was told since it was made.
    Count,
    /// On which node it is.
    Where,
    /// Fails.
    Fail,
    /// Panics.
    Panic,
    /// Takes its time.
    Wait(Duration),
    /// Ends itself.
    End,
    /// Begins a task that does not end by itself.
    Begin,
    /// Will not be frozen, or will again.
    Cling(bool),
    /// Tells itself something after a while.
    Alarm(Duration),
}

/// What an entity tells itself.
const ALARM: Note = Note::Tell { sender: 99, n: 0 };

impl EntityMessage for Note {
    type Reply = Answer;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Done,
    Count(u32),
    Where(NodeId),
}

/// Counts for as long as it is there.
struct Task(Log);

impl Task {
    fn new(log: &Log) -> Self {
        log.lock().expect("not poisoned").tasks += 1;
        Self(Arc::clone(log))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.lock().expect("not poisoned").tasks -= 1;
    }
}

struct Notebook {
    log: Log,
    count: u32,
    clings: bool,
    alarm: Option<EntityTimer>,
}

impl Entity for Notebook {
    type Message = Note;

    async fn activated(&mut self, ctx: &mut EntityContext<'_, Self>) -> Result<(), ActorError> {
        let activated = (ctx.id().to_string(), ctx.node().clone());
        self.log.lock().expect("not poisoned").activated.push(activated);
        if ctx.id().key().as_str() == "broken" {
            return Err(ActorError::msg("it cannot start"));
        }
        Ok(())
    }

    async fn handle(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        note: Note,
    ) -> Result<Answer, ActorError> {
        match note {
            Note::Tell { sender, n } => {
                self.count += 1;
                let mut log = self.log.lock().expect("not poisoned");
                log.told.entry(ctx.id().to_string()).or_default().push((sender, n));
            }
            Note::Count => {
                self.log.lock().expect("not poisoned").asked += 1;
                return Ok(Answer::Count(self.count));
            }
            Note::Where => return Ok(Answer::Where(ctx.node().clone())),
            Note::Fail => return Err(ActorError::msg("as told")),
            Note::Panic => panic!("as told"),
            Note::Wait(time) => tokio::time::sleep(time).await,
            Note::End => ctx.passivate(),
            Note::Cling(clings) => self.clings = clings,
            Note::Alarm(after) => self.alarm = Some(ctx.tell_after(after, ALARM)),
            Note::Begin => {
                let task = Task::new(&self.log);
                ctx.spawn(async move {
                    let _task = task;
                    std::future::pending().await
                });
            }
        }
        Ok(Answer::Done)
    }

    async fn freeze(&mut self, _: &mut EntityContext<'_, Self>) -> Result<Bytes, ActorError> {
        match self.clings {
            true => Err(ActorError::msg("it clings to its node")),
            false => {
                let alarm = self.alarm.as_ref().and_then(EntityTimer::remaining);
                Ok(codec::encode(&(self.count, alarm)).expect("two numbers").into())
            }
        }
    }

    async fn thaw(
        &mut self,
        ctx: &mut EntityContext<'_, Self>,
        state: Bytes,
    ) -> Result<(), ActorError> {
        let (count, alarm): (u32, Option<Duration>) =
            codec::decode(&state).expect("as it was frozen");
        self.count = count;
        self.alarm = alarm.map(|after| ctx.tell_after(after, ALARM));
        self.log.lock().expect("not poisoned").thawed.push(ctx.id().to_string());
        Ok(())
    }

    async fn passivating(&mut self, ctx: &mut EntityContext<'_, Self>) {
        self.log.lock().expect("not poisoned").passivated.push(ctx.id().to_string());
    }
}

/// A cluster of nodes that host notebooks.
struct Realm {
    dir: TempDir,
    authority: Authority,
    log: Log,
}

impl Realm {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let authority = Authority::create(dir.path()).expect("authority");
        Self { dir, authority, log: Log::default() }
    }

    fn notebooks(&self) -> Kind {
        let log = Arc::clone(&self.log);
        let make = move |_: &EntityId| Notebook {
            log: Arc::clone(&log),
            count: 0,
            clings: false,
            alarm: None,
        };
        Kind::new("note".parse().expect("valid"), make)
    }

    async fn node(&self, name: &str, join: &[SocketAddr], kinds: Vec<Kind>) -> RunningNode {
        let certs = self.dir.path().join(format!("{name}-certs"));
        if !certs.exists() {
            self.authority.issue(&id(name), &certs).expect("certificate");
        }
        let mut builder = ClusterNode::builder(id(name))
            .data_dir(self.dir.path().join(name))
            .certs(certs)
            .listen(([127, 0, 0, 1], 0).into())
            .join(join.iter().map(ToString::to_string));
        for kind in kinds {
            builder = builder.kind(kind);
        }
        builder.start().await.expect("starts")
    }

    /// Nodes that all host notebooks; the first has founded the cluster.
    async fn nodes(&self, names: &[&str], kind: impl Fn() -> Kind) -> Vec<RunningNode> {
        let mut nodes: Vec<RunningNode> = Vec::new();
        for name in names {
            let join: Vec<_> = nodes.first().map(RunningNode::addr).into_iter().collect();
            nodes.push(self.node(name, &join, vec![kind()]).await);
        }
        nodes
    }

    fn told(&self, entity: &str) -> Vec<(u32, u32)> {
        self.log.lock().expect("not poisoned").told.get(entity).cloned().unwrap_or_default()
    }
}

fn id(name: &str) -> NodeId {
    name.parse().expect("valid")
}

fn note(node: &RunningNode, key: &str) -> EntityRef<Note> {
    node.entity(format!("note/{key}").parse().expect("valid"))
}

async fn count(entity: &EntityRef<Note>) -> u32 {
    match entity.ask(Note::Count, PATIENCE).await.expect("answers") {
        Answer::Count(count) => count,
        other => panic!("{other:?}"),
    }
}

async fn place(entity: &EntityRef<Note>) -> NodeId {
    match entity.ask(Note::Where, PATIENCE).await.expect("answers") {
        Answer::Where(node) => node,
        other => panic!("{other:?}"),
    }
}

/// A key whose entity is on `node`, by asking.
async fn key_on(node: &RunningNode, owner: &NodeId) -> String {
    key_from(0, node, owner).await
}

/// As [`key_on`], none of the first ones.
async fn key_from(first: u32, node: &RunningNode, owner: &NodeId) -> String {
    for n in first..first + 1_000 {
        let key = format!("k{n}");
        if place(&note(node, &key)).await == *owner {
            return key;
        }
    }
    panic!("{owner} owns nothing");
}

/// Waits until a node owns some entity.
async fn owns_some(asked: &RunningNode, owner: &NodeId) {
    let looked = async {
        loop {
            for n in 0..64 {
                if place(&note(asked, &format!("k{n}"))).await == *owner {
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("in time");
}

async fn stop(nodes: Vec<RunningNode>) {
    for node in nodes {
        node.root().shutdown().await;
    }
}
