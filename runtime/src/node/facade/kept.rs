//! All lines that any node still has of replicas of a firmware, for one who does not follow it.
//!
//! A firmware that was moved has logged on several nodes, and each keeps what it saw. Lines are put in
//! order by their times, which are those of the nodes' clocks: where these differ by more than it took
//! to move, the order of lines of different nodes is that of the clocks.

use std::time::Duration;

use futures::{StreamExt as _, future::join_all, stream};
use odeum_proto::{
    NodeId, ReplicaId,
    chronicle::{Begin, Line, Lines},
    store::Placement,
};

use super::{
    NodeFacade,
    chronicle::{LAST_ANSWERS, QUESTIONS, Witnesses},
};
use crate::api::{
    LogFeed, Problem,
    types::{LogLine, LogOptions},
};

/// What one node has of one replica.
struct Kept {
    node: NodeId,
    replica: ReplicaId,
    /// `None` when it does not answer.
    lines: Option<Vec<(u64, Line)>>,
}

impl NodeFacade {
    /// The last lines of these replicas on all nodes that are there.
    pub(super) async fn kept_lines(
        &self,
        replicas: Vec<ReplicaId>,
        options: &LogOptions,
    ) -> Result<LogFeed, Problem> {
        let places: Vec<(ReplicaId, Option<Placement>)> = self.store.view(|state| {
            let at = |it: ReplicaId| {
                let at = state.placements().get(&it.entity()).cloned();
                (it, at)
            };
            replicas.into_iter().map(at).collect()
        });
        let witnesses = self.witnesses();
        let live = self.membership.now();
        let others = live.live().filter(|node| *node != witnesses.own());
        let nodes: Vec<&NodeId> = std::iter::once(witnesses.own()).chain(others).collect();
        let begin = Begin::Last {
            lines: options.tail.unwrap_or(u32::MAX),
            within_ms: options.since.map(|since| super::super::millis(since.0)),
        };
        let mut each: Vec<(&NodeId, &ReplicaId)> = Vec::new();
        for node in nodes {
            each.extend(places.iter().map(|(replica, _)| (node, replica)));
        }
        let mut all = Vec::new();
        for some in each.chunks(QUESTIONS) {
            let asked = some.iter().map(|(node, replica)| witnesses.kept(node, replica, begin));
            all.extend(join_all(asked).await);
        }
        let silent: Vec<String> =
            places.iter().filter_map(|(it, at)| silence(it, at.as_ref(), &all)).collect();
        let reason = silent.join("; ");
        let mut lines: Vec<LogLine> = merged(all, options.tail);
        match (silent.is_empty(), lines.is_empty()) {
            (true, _) => {}
            // What cannot be read at all is told by the status of the answer.
            (false, true) => return Err(Problem::Unavailable { reason: reason.into() }),
            (false, false) => lines.push(LogLine::End { reason }),
        }
        Ok(stream::iter(lines).boxed())
    }
}

impl Witnesses {
    /// All that `node` has of a replica, in as many answers as it takes.
    async fn kept(&self, node: &NodeId, replica: &ReplicaId, begin: Begin) -> Kept {
        let (mut begin, mut all) = (begin, Vec::new());
        let kept = |lines| Kept { node: node.clone(), replica: replica.clone(), lines };
        for _ in 0..LAST_ANSWERS {
            let answer = self.lines(node, replica, begin, Duration::ZERO).await;
            let Some(Lines { ring, number, lines, .. }) = answer else {
                // What was read before it went is not all, and no less true.
                return kept((!all.is_empty()).then_some(all));
            };
            let Some(epoch) = lines.last().map(|line| line.epoch) else { break };
            all.extend(lines.into_iter().map(|line| (ring, line)));
            begin = Begin::Behind { ring, number, epoch };
        }
        kept(Some(all))
    }
}

/// Why the newest lines of a replica may be missing; `None` when they are not.
fn silence(replica: &ReplicaId, at: Option<&Placement>, all: &[Kept]) -> Option<String> {
    let Some(Placement { node, .. }) = at else {
        return Some(format!("firmware {replica} waits for a node"));
    };
    let of = all.iter().find(|kept| kept.node == *node && kept.replica == *replica);
    let answers = of.is_some_and(|kept| kept.lines.is_some());
    (!answers).then(|| format!("{node}, which runs {replica}, does not answer"))
}

/// The last of all lines, the oldest first.
fn merged(all: Vec<Kept>, tail: Option<u32>) -> Vec<LogLine> {
    let mut lines: Vec<(NodeId, u64, u32, Line)> = all
        .into_iter()
        .flat_map(|Kept { node, replica, lines }| {
            let (lines, number) = (lines.unwrap_or_default().into_iter(), replica.number());
            lines.map(move |(ring, line)| (node.clone(), ring, number, line))
        })
        .collect();
    // Stable: what one node has of one replica stays in its order.
    lines.sort_by_key(|(.., line)| line.at_ms);
    let most = tail.map_or(usize::MAX, |tail| usize::try_from(tail).unwrap_or(usize::MAX));
    let first = lines.len().saturating_sub(most);
    lines.drain(..first);
    let told = |(node, ring, number, line)| LogLine::of(&node, ring, number, line);
    lines.into_iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use odeum_proto::{
        Epoch,
        chronicle::{Level, Stream},
    };

    use super::*;

    fn kept(node: &str, replica: &str, lines: Option<&[(u64, &str)]>) -> Kept {
        let line = |(number, (at_ms, text)): (usize, &(u64, &str))| {
            let (level, stream) = (Level::Info, Stream::Log);
            let number = number as u64 + 1;
            let text = (*text).to_owned();
            (7, Line { number, at_ms: *at_ms, epoch: Epoch(1), level, stream, text })
        };
        let lines = lines.map(|lines| lines.iter().enumerate().map(line).collect());
        let replica = replica.parse().expect("a name");
        Kept { node: node.parse().expect("a name"), replica, lines }
    }

    fn texts(lines: &[LogLine]) -> Vec<String> {
        let text = |line: &LogLine| match line {
            LogLine::Line { node, replica, text, .. } => format!("{node} {replica} {text}"),
            other => panic!("{other:?}"),
        };
        lines.iter().map(text).collect()
    }

    #[test]
    fn lines_of_all_nodes_and_replicas_are_in_the_order_of_their_times() {
        let all = || {
            vec![
                kept("n1", "x", Some(&[(1, "a"), (5, "d"), (5, "e")])),
                kept("n1", "x.2", Some(&[(3, "f")])),
                kept("n2", "x", Some(&[(2, "b"), (4, "c")])),
                kept("n2", "x.2", Some(&[])),
                kept("n3", "x", None),
            ]
        };
        let texts_of = |tail| texts(&merged(all(), tail));
        assert_eq!(texts_of(None), ["n1 1 a", "n2 1 b", "n1 2 f", "n2 1 c", "n1 1 d", "n1 1 e"]);
        assert_eq!(texts_of(Some(2)), ["n1 1 d", "n1 1 e"]);
        assert_eq!(texts_of(Some(0)), [""; 0]);
    }

    #[test]
    fn what_may_be_missing_is_said_of_each_replica() {
        let all = [kept("n1", "x", Some(&[])), kept("n2", "x.2", None), kept("n1", "x.2", None)];
        let at = |node: &str| Placement { node: node.parse().expect("a name"), epoch: Epoch(1) };
        let said = |replica: &str, node: Option<&str>| {
            silence(&replica.parse().expect("a name"), node.map(at).as_ref(), &all)
        };
        assert_eq!(said("x", Some("n1")), None);
        assert_eq!(said("x.2", Some("n2")).as_deref(), Some("n2, which runs x.2, does not answer"));
        assert_eq!(said("x.3", None).as_deref(), Some("firmware x.3 waits for a node"));
    }
}
