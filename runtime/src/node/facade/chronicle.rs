//! What firmware has logged and what became of it, wherever it ran: asked of the nodes that know.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures::{StreamExt as _, future::join_all, stream};
use odeum_cluster::{
    membership::MembershipHandle,
    store::StoreHandle,
    transport::{Class, Service, TransportHandle},
};
use odeum_proto::{
    EntityId, Epoch, Name, NodeId,
    chronicle::{Begin, Happening, Lines, Question, What},
    store::Placement,
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout};

use super::{NodeFacade, REPORT_DEADLINE};
use crate::{
    api::{
        LogFeed, Problem,
        types::{FirmwareEvent, LogCursor, LogLine, LogOptions, moment},
    },
    firmware::Chronicles,
};

/// How long a node waits for the next line before it answers that there is none.
const READ_WAIT: Duration = Duration::from_secs(5);

/// What the answer may take longer than that.
const READ_SLACK: Duration = Duration::from_secs(2);

/// Pause before a node that did not answer is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How long a reader hears nothing before it is told that there is nothing.
const QUIET: Duration = Duration::from_secs(15);

/// Answers of a node that no longer runs a firmware that are read: all that its ring has.
pub(super) const LAST_ANSWERS: usize = 64;

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
        name: &Name,
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

    async fn events(&self, node: &NodeId, name: &Name) -> Vec<Happening> {
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
    pub(super) fn happened(&self, name: &Name, epoch: Option<Epoch>, what: What) {
        self.firmware.chronicles.happened(name, epoch.unwrap_or(Epoch(0)), what);
    }

    /// What became of a firmware on any of the nodes that are there.
    pub(super) async fn events(&self, name: &Name) -> Result<Vec<FirmwareEvent>, Problem> {
        self.check_deployed(name)?;
        let witnesses = self.witnesses();
        let live = self.membership.now();
        let others = live.live().filter(|node| **node != witnesses.own);
        let nodes: Vec<&NodeId> = std::iter::once(&witnesses.own).chain(others).collect();
        let asked = nodes.into_iter().map(|node| {
            let witnesses = &witnesses;
            async move { (node, witnesses.events(node, name).await) }
        });
        let mut all: Vec<(Happening, &NodeId)> = Vec::new();
        for (node, events) in join_all(asked).await {
            all.extend(events.into_iter().map(|event| (event, node)));
        }
        // Stable: what one node saw in the same millisecond stays in its order.
        all.sort_by_key(|(event, _)| (event.at_ms, event.epoch));
        Ok(all.into_iter().map(|(event, node)| told(event, node)).collect())
    }

    /// The lines of a firmware, from wherever it is.
    pub(super) async fn logs(&self, name: Name, options: LogOptions) -> Result<LogFeed, Problem> {
        self.check_deployed(&name)?;
        if !options.follow && options.after.is_none() {
            return self.kept_lines(name, &options).await;
        }
        let LogOptions { tail, since, follow, after } = options;
        let mut reader = Reader {
            store: self.store.clone(),
            witnesses: self.witnesses(),
            entity: EntityId::firmware(name.clone()),
            name,
            follow,
            at: None,
            first: Some(Begin::Last {
                lines: tail.unwrap_or(u32::MAX),
                within_ms: since.map(|since| super::super::millis(since.0)),
            }),
            cursors: BTreeMap::new(),
            seen: Epoch(0),
            lines: VecDeque::new(),
            has_begun: false,
            quiet_since: Instant::now(),
            is_waiting: false,
            is_over: false,
        };
        if let Some(LogCursor { node, ring, number, epoch }) = after {
            reader.first = None;
            reader.seen = epoch;
            reader.cursors.insert(node, (ring, number));
        }
        if !follow {
            // What cannot be read at all is told by the status of the answer.
            reader.step().await;
            if let (true, Some(LogLine::End { reason })) = (reader.is_over, reader.lines.front()) {
                return Err(Problem::Unavailable { reason: reason.as_str().into() });
            }
        }
        Ok(stream::unfold(reader, Reader::next).boxed())
    }
}

/// Reads the lines of one firmware for one reader, who asks for each: nothing is kept for one who
/// is slow but what the ring of the node keeps.
struct Reader {
    store: StoreHandle,
    witnesses: Witnesses,
    name: Name,
    entity: EntityId,
    follow: bool,
    /// Where it was when it was read last.
    at: Option<Placement>,
    /// Where to begin; `None` once something was read.
    first: Option<Begin>,
    /// Up to where each node was read: its ring, and the line.
    cursors: BTreeMap<NodeId, (u64, u64)>,
    /// The last activation that was read.
    seen: Epoch,
    lines: VecDeque<LogLine>,
    /// Whether a follower was told anything yet.
    has_begun: bool,
    quiet_since: Instant,
    /// Whether it was told that the firmware has no node.
    is_waiting: bool,
    is_over: bool,
}

impl Reader {
    async fn next(mut self) -> Option<(LogLine, Self)> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                self.quiet_since = Instant::now();
                return Some((line, self));
            }
            if self.is_over {
                return None;
            }
            self.step().await;
        }
    }

    /// Gets more lines, or finds out that there are none at present.
    async fn step(&mut self) {
        let (is_deployed, placement) = self.placement();
        match placement {
            _ if !is_deployed => self.end(format!("firmware {} is deleted", self.name)),
            None => self.wait_for_a_node().await,
            Some(placement) => self.read(placement).await,
        }
        if self.lines.is_empty() && !self.is_over && self.quiet_since.elapsed() >= QUIET {
            self.say_progress();
        }
    }

    /// Says that there is nothing new, and where to read on.
    fn say_progress(&mut self) {
        let cursor = self.at.as_ref().and_then(|at| {
            let (ring, number) = self.cursors.get(&at.node).copied()?;
            Some(LogCursor { node: at.node.clone(), ring, number, epoch: self.seen })
        });
        self.lines.push_back(LogLine::Progress { cursor });
    }

    fn placement(&self) -> (bool, Option<Placement>) {
        self.store.view(|state| {
            let is_deployed = state.firmware().contains_key(&self.name);
            (is_deployed, state.placements().get(&self.entity).cloned())
        })
    }

    fn end(&mut self, reason: String) {
        // Who does not follow has seen all there is, and needs no word for that.
        self.lines.push_back(LogLine::End { reason });
        self.is_over = true;
    }

    async fn wait_for_a_node(&mut self) {
        let reason = format!("firmware {} waits for a node", self.name);
        if !self.follow {
            return self.end(reason);
        }
        if !std::mem::replace(&mut self.is_waiting, true) {
            self.lines.push_back(LogLine::Waiting { reason });
            return;
        }
        let _ = timeout(QUIET, self.until_placed_otherwise(None)).await;
    }

    /// Returns when it is not placed so any more, or the node ends.
    async fn until_placed_otherwise(&self, at: Option<&Placement>) {
        let mut changes = self.store.changes();
        while self.placement() == (true, at.cloned()) && changes.changed().await.is_ok() {}
    }

    async fn read(&mut self, placement: Placement) {
        let Placement { node, epoch } = &placement;
        self.is_waiting = false;
        if let Some(before) = self.at.replace(placement.clone()).filter(|at| at.node != *node) {
            self.read_the_rest_of(&before.node).await;
            self.lines.push_back(LogLine::Moved { node: node.clone(), epoch: *epoch });
        }
        let wait = if self.follow && self.has_begun && self.lines.is_empty() {
            READ_WAIT
        } else {
            Duration::ZERO
        };
        let answer = tokio::select! {
            lines = self.witnesses.lines(node, &self.name, self.begin(node), wait) => lines,
            // The line that was waited for comes from elsewhere. None is lost: it is asked for
            // again.
            () = self.until_placed_otherwise(Some(&placement)), if self.follow => return,
        };
        let Some(lines) = answer else {
            if self.follow {
                sleep(RETRY_PAUSE).await;
            } else {
                self.end(format!("{node}, which runs {}, does not answer", self.name));
            }
            return;
        };
        if lines.ring != 0 {
            self.seen = *epoch;
        }
        self.is_over |= !self.follow && lines.lines.is_empty();
        self.take(node, lines);
        if self.follow && !std::mem::replace(&mut self.has_begun, true) && self.lines.is_empty() {
            self.say_progress();
        }
    }

    /// What a node still has of it that does not run it any more, if it is there.
    async fn read_the_rest_of(&mut self, node: &NodeId) {
        for _ in 0..LAST_ANSWERS {
            let begin = self.begin(node);
            let lines = self.witnesses.lines(node, &self.name, begin, Duration::ZERO).await;
            let Some(lines) = lines.filter(|lines| !lines.lines.is_empty()) else { return };
            self.take(node, lines);
        }
    }

    fn begin(&self, node: &NodeId) -> Begin {
        let (ring, number) = self.cursors.get(node).copied().unwrap_or_default();
        self.first.unwrap_or(Begin::Behind { ring, number, epoch: self.seen })
    }

    fn take(&mut self, node: &NodeId, lines: Lines) {
        let Lines { ring, number, missed, lines } = lines;
        if ring == 0 {
            return;
        }
        self.first = None;
        self.cursors.insert(node.clone(), (ring, number));
        if missed > 0 {
            self.lines.push_back(LogLine::Missed { node: node.clone(), lines: missed });
        }
        self.lines.extend(lines.into_iter().map(|line| LogLine::of(node, ring, line)));
    }
}

/// An event in words.
fn told(event: Happening, node: &NodeId) -> FirmwareEvent {
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
        What::RolledBack { from, to } => {
            ("rolled-back", format!("package {} is undone, {} is back", short(from), short(to)))
        }
        What::Idle => ("idle", "no message for a while: its instance ended".to_owned()),
        What::Woken => ("woken", "a message came".to_owned()),
        What::Exceeded { reason } => ("exceeded", reason),
        What::Completed { code } => ("completed", format!("exit code {code}")),
        What::Stopped => ("stopped", "its activation here ended".to_owned()),
        What::Renewed => ("renewed", format!("asked for through {node}")),
        What::Configured { keys } => {
            ("configured", format!("other settings through {node}: {}", keys.join(", ")))
        }
    };
    FirmwareEvent {
        at: moment(at_ms),
        first_at: moment(first_ms),
        count,
        node: node.clone(),
        epoch,
        event: event.to_owned(),
        text,
    }
}
