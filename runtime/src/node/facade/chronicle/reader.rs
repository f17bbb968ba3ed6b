//! The lines of one replica of a firmware, from whatever node it is on.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use futures::{StreamExt, stream};
use odeum_cluster::store::StoreHandle;
use odeum_proto::{
    EntityId, Epoch, NodeId, ReplicaId,
    chronicle::{Begin, Lines},
    store::Placement,
};
use tokio::time::{Instant, sleep, timeout};

use super::Witnesses;
use crate::{
    api::{
        LogFeed, Problem,
        types::{LogCursor, LogLine, LogOptions},
    },
    node::millis,
};

/// How long a node waits for the next line before it answers that there is none.
const READ_WAIT: Duration = Duration::from_secs(5);

/// Pause before a node that did not answer is asked again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// How long a reader hears nothing before it is told that there is nothing.
const QUIET: Duration = Duration::from_secs(15);

/// Answers of a node that no longer runs a firmware that are read: all that its ring has.
pub(in crate::node::facade) const LAST_ANSWERS: usize = 64;

/// Reads the lines of one firmware for one reader, who asks for each: nothing is kept for one who
/// is slow but what the ring of the node keeps.
pub(super) struct Reader {
    pub(super) store: StoreHandle,
    witnesses: Witnesses,
    replica: ReplicaId,
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
    pub(super) fn new(
        store: StoreHandle,
        witnesses: Witnesses,
        replica: ReplicaId,
        options: &LogOptions,
    ) -> Self {
        let after = options.after.as_ref().and_then(|after| after.of(replica.number())).cloned();
        let mut reader = Self {
            store,
            witnesses,
            entity: replica.entity(),
            replica,
            follow: options.follow,
            at: None,
            first: Some(Begin::Last {
                lines: options.tail.unwrap_or(u32::MAX),
                within_ms: options.since.map(|since| millis(since.0)),
            }),
            cursors: BTreeMap::new(),
            seen: Epoch(0),
            lines: VecDeque::new(),
            has_begun: false,
            quiet_since: Instant::now(),
            is_waiting: false,
            is_over: false,
        };
        if let Some(LogCursor { node, ring, number, epoch, .. }) = after {
            reader.first = None;
            reader.seen = epoch;
            reader.cursors.insert(node, (ring, number));
        }
        reader
    }

    /// One for another replica, which begins with the first of its lines.
    pub(super) fn of(&self, replica: ReplicaId) -> Self {
        let options = LogOptions { follow: self.follow, ..LogOptions::default() };
        Self::new(self.store.clone(), self.witnesses.clone(), replica, &options)
    }

    /// The lines of this replica alone. What cannot be read at all is told by the status of the
    /// answer.
    pub(super) async fn begun(mut self) -> Result<LogFeed, Problem> {
        if !self.follow {
            self.step().await;
            if let (true, Some(LogLine::End { reason })) = (self.is_over, self.lines.front()) {
                return Err(Problem::Unavailable { reason: reason.as_str().into() });
            }
        }
        Ok(stream::unfold(self, Self::next).boxed())
    }

    pub(super) async fn next(mut self) -> Option<(LogLine, Self)> {
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
            _ if !is_deployed => self.end(format!("firmware {} is deleted", self.replica)),
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
            let replica = self.replica.number();
            Some(LogCursor { node: at.node.clone(), ring, number, epoch: self.seen, replica })
        });
        self.lines.push_back(LogLine::Progress { cursor });
    }

    fn placement(&self) -> (bool, Option<Placement>) {
        self.store.view(|state| {
            let is_deployed = state.spec_of(&self.replica).is_some();
            (is_deployed, state.placements().get(&self.entity).cloned())
        })
    }

    fn end(&mut self, reason: String) {
        // Who does not follow has seen all there is, and needs no word for that.
        self.lines.push_back(LogLine::End { reason });
        self.is_over = true;
    }

    async fn wait_for_a_node(&mut self) {
        let reason = format!("firmware {} waits for a node", self.replica);
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
            let replica = self.replica.number();
            self.lines.push_back(LogLine::Moved { node: node.clone(), epoch: *epoch, replica });
        }
        let wait = if self.follow && self.has_begun && self.lines.is_empty() {
            READ_WAIT
        } else {
            Duration::ZERO
        };
        let answer = tokio::select! {
            lines = self.witnesses.lines(node, &self.replica, self.begin(node), wait) => lines,
            // The line that was waited for comes from elsewhere. None is lost: it is asked for
            // again.
            () = self.until_placed_otherwise(Some(&placement)), if self.follow => return,
        };
        let Some(lines) = answer else {
            if self.follow {
                sleep(RETRY_PAUSE).await;
            } else {
                self.end(format!("{node}, which runs {}, does not answer", self.replica));
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
            let lines = self.witnesses.lines(node, &self.replica, begin, Duration::ZERO).await;
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
        let replica = self.replica.number();
        self.first = None;
        self.cursors.insert(node.clone(), (ring, number));
        if missed > 0 {
            self.lines.push_back(LogLine::Missed { node: node.clone(), lines: missed });
        }
        self.lines.extend(lines.into_iter().map(|line| LogLine::of(node, ring, replica, line)));
    }
}
