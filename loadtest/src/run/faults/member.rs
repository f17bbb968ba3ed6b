//! A node of the cluster: this program, started once more. It is asked by lines on its input and
//! does what it is asked as a program does that has Odeum built in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use odeum_cluster::builder::RunningNode;
use odeum_cluster::node::ClusterNode;
use odeum_cluster::store::{Consistency, Health, SessionError, SessionHandle, WatchEvent};
use odeum_proto::session::{
    DataAction, DataOutcome, Done, Ended, Operation, SessionRefusal, SessionSettings, Value,
    What as Told,
};
use odeum_proto::{GroupId, Revision};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{AbortHandle, JoinSet};
use tracing_subscriber::EnvFilter;

use super::wire::{Ask, Do, GROUPS, LOAD, Said, Seen, VARIABLE, What};
use crate::check::operation::{Answer, At, Op};
use crate::remote::driver::{lines, say};

/// How long anything may take here. Longer than an election: most that meet one succeed.
pub(super) const DEADLINE: Duration = Duration::from_secs(4);

/// How long the others may take to let a node go.
const REMOVAL: Duration = Duration::from_secs(60);

/// What it logs: as `odeum up` does.
const LOGGED: &str = "info,openraft=error,ractor=warn,ractor_cluster=warn";

/// What a node is started with.
#[derive(Debug, Args)]
pub struct MemberArgs {
    /// Its name.
    #[arg(long)]
    name: String,
    /// Its data folder.
    #[arg(long)]
    data: PathBuf,
    /// The folder of its certificates.
    #[arg(long)]
    certs: PathBuf,
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
    /// A member to join by.
    #[arg(long)]
    join: Vec<String>,
}

/// Runs a node until its input ends or it is told to stop.
///
/// # Errors
/// If it cannot be started, or ends by itself.
pub async fn run(args: MemberArgs) -> anyhow::Result<()> {
    // Also one that is stopped when the harness is killed.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let filter = EnvFilter::new(LOGGED);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let mut stop = signal(SignalKind::terminate())?;
    let node = ClusterNode::builder(args.name.parse()?)
        .data_dir(args.data)
        .certs(args.certs)
        .listen(args.listen)
        .join(args.join)
        .start()
        .await?;
    let node = Arc::new(node);
    let mut lines = lines();
    say("ready")?;
    let mut doing = JoinSet::new();
    let mut watches: HashMap<u64, AbortHandle> = HashMap::new();
    loop {
        let line = tokio::select! {
            biased;
            _ = stop.recv() => break,
            exit = node.finished() => anyhow::bail!("the node has ended: {exit:?}"),
            Some(_) = doing.join_next() => continue,
            line = lines.recv() => line.context("nobody asks any more")?,
        };
        match serde_json::from_str(&line).with_context(|| line.clone())? {
            Ask::Do { id, what } => {
                let node = Arc::clone(&node);
                doing.spawn(async move {
                    let answer = attempt(&node, what).await;
                    tell(&Said::Answer { id, answer });
                });
            }
            Ask::Watch { id, group, after } => {
                let node = Arc::clone(&node);
                let watch = doing.spawn(async move { watch(&node, id, group, after).await });
                watches.insert(id, watch);
            }
            Ask::Unwatch { id } => {
                if let Some(watch) = watches.remove(&id) {
                    watch.abort();
                }
            }
        }
    }
    doing.shutdown().await;
    let node = Arc::into_inner(node).context("something of the node is still at work")?;
    node.shutdown().await;
    Ok(())
}

fn tell(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        // When nobody listens any more, this process is about to end.
        let _ = say(&line);
    }
}

async fn watch(node: &RunningNode, id: u64, group: u16, after: u64) {
    let Ok(all) = "*".parse() else { return };
    let store = &node.cluster().store;
    let mut watch = store.watch_group(GroupId::Data(group), all, Revision(after));
    loop {
        match watch.next().await {
            WatchEvent::Changes(changes) => {
                let changes = changes.iter().map(|change| Seen {
                    revision: change.revision.0,
                    index: change.index,
                    session: change.session.to_string(),
                    what: what(&change.what),
                });
                tell(&Said::Changes { id, changes: changes.collect() });
            }
            WatchEvent::State { .. } => return tell(&Said::Lapsed { id }),
        }
    }
}

fn what(told: &Told) -> What {
    match told {
        Told::Created => What::Created,
        Told::Deleted(Ended::Expired) => What::Expired,
        Told::Set { value: Value::Integer(value), version, .. } => {
            What::Set { version: *version, value: *value }
        }
        Told::Removed { .. } => What::Removed,
        _ => What::Other,
    }
}

async fn attempt(node: &RunningNode, what: Do) -> Answer {
    match perform(node, what).await {
        Ok(answer) => answer,
        Err(error) => match error.downcast::<SessionError>() {
            Ok(SessionError::Refused(SessionRefusal::VersionConflict { is, .. })) => {
                Answer::Conflict { is }
            }
            Ok(SessionError::Refused(SessionRefusal::UnknownSession { .. })) => Answer::NoSession,
            Ok(SessionError::Refused(refusal)) => Answer::Refused(refusal.to_string()),
            Ok(SessionError::Store(error)) => Answer::Failed(error.to_string()),
            Err(error) => Answer::Failed(format!("{error:#}")),
        },
    }
}

async fn perform(node: &RunningNode, what: Do) -> anyhow::Result<Answer> {
    let store = &node.cluster().store;
    let of = |session: &str| anyhow::Ok(store.session(session.parse()?).deadline(DEADLINE));
    Ok(match what {
        Do::Create { session, ttl_ms } => {
            let ttl = ttl_ms.map(Duration::from_millis);
            let settings = SessionSettings { ttl, ..SessionSettings::default() };
            of(&session)?.create(settings).await?;
            Answer::Done
        }
        Do::Touch { session } => {
            of(&session)?.touch().await?;
            Answer::Done
        }
        Do::Look { session } => {
            let look = of(&session)?;
            Answer::Is(look.read(Consistency::Linearizable, |found, _| found.is_some()).await?)
        }
        Do::Operate { session, op, request } => {
            let mut session = of(&session)?;
            if let Some(request) = request {
                session = session.request(request.parse()?);
            }
            operate(node, session, op).await?
        }
        Do::Load { session, bytes } => {
            let session = of(&session)?;
            session.create(SessionSettings::default()).await?;
            session.set(LOAD, Value::Bytes(vec![7; bytes].into())).await?;
            Answer::Done
        }
        Do::IsFull => {
            Answer::Is(store.statuses().iter().any(|group| group.health == Health::NoSpace))
        }
        Do::Leaders => {
            let leader = |group| store.status_of(GroupId::Data(group)).leader;
            Answer::Leaders((0..GROUPS).map(|n| leader(n).map(|node| node.to_string())).collect())
        }
        Do::Remove { node: gone } => {
            node.cluster().departure.leave(&gone.parse()?, REMOVAL).await?;
            Answer::Done
        }
    })
}

async fn operate(node: &RunningNode, session: SessionHandle, op: Op) -> anyhow::Result<Answer> {
    let key = VARIABLE.into();
    let write = |value, expected| Operation::Set {
        key: VARIABLE.into(),
        value: Value::Integer(value),
        expected,
        register: true,
    };
    let operation = match op {
        Op::Get { lease } => return get(&session, lease).await,
        Op::Set { value } => write(value, None),
        Op::CompareAndSet { expected, value } => write(value, Some(expected)),
        Op::Delete => Operation::Delete { key, expected: None },
    };
    let group = match node.cluster().store.group_of(session.id())? {
        GroupId::Data(group) => group,
        GroupId::Control => anyhow::bail!("the cluster has no groups of sessions"),
    };
    let outcome = session.act(|session| DataAction::Operate { session, operation }).await?;
    let DataOutcome::Operated { revision, done } = outcome else {
        anyhow::bail!("{outcome:?} to another request");
    };
    let at = Some(At { group, revision: revision.0 });
    Ok(match done {
        Done::Written { version } => Answer::Written { version, at },
        Done::Removed { existed } => Answer::Removed { existed, at },
        other => anyhow::bail!("{other:?} to another request"),
    })
}

async fn get(session: &SessionHandle, lease: bool) -> anyhow::Result<Answer> {
    let consistency = if lease { Consistency::Lease } else { Consistency::Linearizable };
    let found = session.read(consistency, |session, _| {
        session.map(|session| session.variables().get(VARIABLE).cloned())
    });
    Ok(match found.await? {
        None => Answer::NoSession,
        Some(None) => Answer::Found(None),
        Some(Some(variable)) => match variable.value() {
            Value::Integer(value) => Answer::Found(Some((variable.version(), *value))),
            other => anyhow::bail!("{other:?} was never written"),
        },
    })
}
