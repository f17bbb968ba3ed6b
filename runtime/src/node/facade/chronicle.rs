//! What firmware has logged and what became of it, wherever it ran: asked of the nodes that know.

mod merged;
mod reader;

use std::time::Duration;

use futures::{StreamExt, future::join_all, stream};
use odeum_cluster::{
    membership::MembershipHandle,
    transport::{Class, Service, TransportHandle},
};
use odeum_proto::{
    Epoch, Name, NodeId, Recipient, ReplicaId,
    chronicle::{Begin, Happening, Lines, Question, What},
};
use serde::de::DeserializeOwned;

pub(super) use self::reader::LAST_ANSWERS;
use self::{merged::Merged, reader::Reader};
use super::{super::rollout::REPORT_DEADLINE, NodeFacade};
use crate::{
    api::{
        LogFeed, Problem,
        types::{FirmwareEvent, LogLine, LogOptions, moment},
    },
    firmware::Chronicles,
};

/// What an answer may take longer than its reader waits for a line.
const READ_SLACK: Duration = Duration::from_secs(2);

/// How many questions are asked at once.
pub(super) const QUESTIONS: usize = 64;

/// How many digits of a package are shown: as many as tables show.
const DIGITS: usize = 12;

/// Who is asked, and how.
#[derive(Clone)]
pub(super) struct Witnesses {
    own: NodeId,
    chronicles: Chronicles,
    membership: MembershipHandle,
    transport: TransportHandle,
}

impl Witnesses {
    /// The asked node itself.
    pub(super) fn own(&self) -> &NodeId {
        &self.own
    }

    /// Lines from `node`; `None` when it does not answer.
    pub(super) async fn lines(
        &self,
        node: &NodeId,
        name: &ReplicaId,
        from: Begin,
        wait: Duration,
    ) -> Option<Lines> {
        if *node == self.own {
            return Some(self.chronicles.lines(name, from, wait).await);
        }
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let slack = if wait.is_zero() { REPORT_DEADLINE } else { READ_SLACK };
        let question = Question::Log { name: name.clone(), from, wait_ms };
        self.ask(node, &question, wait + slack).await
    }

    async fn events(&self, node: &NodeId, name: &ReplicaId) -> Vec<Happening> {
        if *node == self.own {
            return self.chronicles.events(name);
        }
        let question = Question::Events { name: name.clone() };
        self.ask(node, &question, REPORT_DEADLINE).await.unwrap_or_default()
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        node: &NodeId,
        question: &Question,
        deadline: Duration,
    ) -> Option<T> {
        if !self.membership.now().is_live(node) {
            return None;
        }
        let answer =
            self.transport.call(node, Service::Chronicle, Class::Lane, question, deadline).await;
        answer.inspect_err(|error| tracing::debug!(%node, %error, "no answer")).ok()
    }
}

impl NodeFacade {
    pub(super) fn witnesses(&self) -> Witnesses {
        Witnesses {
            own: self.record.id.clone(),
            chronicles: self.firmware.chronicles.clone(),
            membership: self.membership.clone(),
            transport: self.transport.clone(),
        }
    }

    /// Keeps that something was done to a firmware through this node.
    pub(super) fn happened(&self, name: &ReplicaId, epoch: Option<Epoch>, what: What) {
        self.firmware.chronicles.happened(name, epoch.unwrap_or(Epoch(0)), what);
    }

    /// What became of a firmware on any of the nodes that are there.
    pub(super) async fn events(&self, of: &Recipient) -> Result<Vec<FirmwareEvent>, Problem> {
        let replicas = self.meant(of)?;
        let witnesses = self.witnesses();
        let live = self.membership.now();
        let others = live.live().filter(|node| **node != witnesses.own);
        let nodes: Vec<&NodeId> = std::iter::once(&witnesses.own).chain(others).collect();
        let mut each: Vec<(&NodeId, &ReplicaId)> = Vec::new();
        for node in nodes {
            each.extend(replicas.iter().map(|replica| (node, replica)));
        }
        let mut all: Vec<(Happening, &NodeId, u32)> = Vec::new();
        for some in each.chunks(QUESTIONS) {
            let asked = some.iter().map(|(node, replica)| witnesses.events(node, replica));
            for ((node, replica), events) in some.iter().zip(join_all(asked).await) {
                let number = replica.number();
                all.extend(events.into_iter().map(|event| (event, *node, number)));
            }
        }
        // Stable: what one node saw in the same millisecond stays in its order.
        all.sort_by_key(|(event, ..)| (event.at_ms, event.epoch));
        Ok(all.into_iter().map(|(event, node, number)| told(event, node, number)).collect())
    }

    /// The lines of a firmware, from wherever it is: those of all replicas as they come, or of one.
    pub(super) async fn logs(
        &self,
        of: Recipient,
        options: LogOptions,
    ) -> Result<LogFeed, Problem> {
        let mut replicas = self.meant(&of)?;
        if !options.follow && options.after.is_none() {
            return self.kept_lines(replicas, &options).await;
        }
        if options.follow && of.replica().is_none() {
            return Ok(self.follow_all(of.firmware().clone(), options));
        }
        match (replicas.len(), replicas.pop()) {
            (1, Some(replica)) => self.reader(replica, &options).begun().await,
            (_, last) => Ok(self.lines_of(replicas.into_iter().chain(last), &options).await),
        }
    }

    /// The lines that are there of all of these, by their times.
    async fn lines_of(
        &self,
        replicas: impl Iterator<Item = ReplicaId>,
        options: &LogOptions,
    ) -> LogFeed {
        let readers = replicas.map(|it| stream::unfold(self.reader(it, options), Reader::next));
        let all: Vec<LogLine> = stream::select_all(readers.map(StreamExt::boxed)).collect().await;
        let (mut lines, mut others): (Vec<LogLine>, Vec<LogLine>) =
            all.into_iter().partition(|line| matches!(line, LogLine::Line { .. }));
        let at = |line: &LogLine| match line {
            LogLine::Line { at, .. } => at.clone(),
            _ => String::new(),
        };
        // Stable: what one replica said in the same millisecond stays in its order.
        lines.sort_by_key(at);
        let tail = options.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
        lines.drain(..lines.len().saturating_sub(tail));
        // What ends the answer comes last.
        others.sort_by_key(|line| matches!(line, LogLine::End { .. }));
        lines.extend(others);
        stream::iter(lines).boxed()
    }

    fn reader(&self, replica: ReplicaId, options: &LogOptions) -> Reader {
        Reader::new(self.store.clone(), self.witnesses(), replica, options)
    }

    /// The lines of all replicas as they come; those of later ones from their beginning.
    fn follow_all(&self, name: Name, options: LogOptions) -> LogFeed {
        let known = self.replicas(&name);
        let readers = ReplicaId::all(&name, known)
            .map(|it| stream::unfold(self.reader(it, &options), Reader::next).boxed());
        let readers = stream::select_all(readers);
        let later = LogOptions { tail: None, since: None, after: None, ..options };
        let template = self.reader(ReplicaId::first(name.clone()), &later);
        let all = Merged { name, known, readers, template, is_over: false };
        stream::unfold(all, Merged::next).boxed()
    }
}

/// An event in words.
fn told(event: Happening, node: &NodeId, replica: u32) -> FirmwareEvent {
    let Happening { at_ms, first_ms, count, epoch, what } = event;
    let short =
        |digest: odeum_proto::Digest| digest.to_string().chars().take(DIGITS).collect::<String>();
    let (event, text) = match what {
        What::Deployed { digest } => {
            ("deployed", format!("package {}, through {node}", short(digest)))
        }
        What::Started => ("started", "an activation begins".to_owned()),
        What::Waits { reason } => ("waits", reason),
        What::Running => ("running", "it does what it is for".to_owned()),
        What::Crashed { reason } => ("crashed", reason),
        What::Restarted { times: 1 } => ("restarted", "for the first time".to_owned()),
        What::Restarted { times } => ("restarted", format!("{times} times by now")),
        What::GivenUp { reason } => ("given-up", reason),
        What::RolledBack { from, to, reason } => {
            let what = format!("package {} is undone, {} comes back", short(from), short(to));
            ("rolled-back", if reason.is_empty() { what } else { format!("{what}: {reason}") })
        }
        What::Updating { to, done: 0, of } => {
            ("updating", format!("{of} replicas are to run package {}", short(to)))
        }
        What::Updating { to, done, of } => {
            ("updating", format!("{done} of {of} have begun with package {}", short(to)))
        }
        What::Updated { to } => {
            ("updated", format!("all replicas run package {}, and are ready", short(to)))
        }
        What::Scaled { replicas: 1 } => ("scaled", "there is to be 1 replica".to_owned()),
        What::Scaled { replicas } => ("scaled", format!("there are to be {replicas} replicas")),
        What::NotAlive { reason } => ("not-alive", reason),
        What::Idle => ("idle", "no message for a while: its instance ended".to_owned()),
        What::Woken => ("woken", "a message came".to_owned()),
        What::Exceeded { reason } => ("exceeded", reason),
        What::Completed { code } => ("completed", format!("exit code {code}")),
        What::Stopped => ("stopped", "its activation here ended".to_owned()),
        What::Renewed => ("renewed", format!("asked for through {node}")),
        What::Configured { keys } => {
            ("configured", format!("other settings through {node}: {}", keys.join(", ")))
        }
        What::Moved { to, next, live } => {
            let with = if live { "with its memory" } else { "with what it has in the store" };
            ("moved", format!("to {to} {with}; its epoch there is {next}"))
        }
    };
    FirmwareEvent {
        at: moment(at_ms),
        first_at: moment(first_ms),
        count,
        node: node.clone(),
        replica,
        epoch,
        event: event.to_owned(),
        text,
    }
}
