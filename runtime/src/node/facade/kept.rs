//! All lines that any node still has of a firmware, for one who does not follow it.
//!
//! A firmware that was moved has logged on several nodes, and each keeps what it saw. Lines are put in
//! order by their times, which are those of the nodes' clocks: where these differ by more than it took
//! to move, the order of lines of different nodes is that of the clocks.

use futures::{StreamExt as _, future::join_all, stream};
use odeum_proto::{
    EntityId, Name, NodeId,
    chronicle::{Begin, Line, Lines},
};
use std::time::Duration;

use super::{
    NodeFacade,
    chronicle::{LAST_ANSWERS, Witnesses},
};
use crate::api::{
    LogFeed, Problem,
    types::{LogLine, LogOptions},
};

/// What one node has.
struct Kept {
    node: NodeId,
    /// `None` when it does not answer.
    lines: Option<Vec<(u64, Line)>>,
}

impl NodeFacade {
    /// The last lines of a firmware on all nodes that are there.
    pub(super) async fn kept_lines(
        &self,
        name: Name,
        options: &LogOptions,
    ) -> Result<LogFeed, Problem> {
        let entity = EntityId::firmware(name.clone());
        let at = self.store.view(|state| state.placements().get(&entity).cloned());
        let witnesses = self.witnesses();
        let live = self.membership.now();
        let others = live.live().filter(|node| *node != witnesses.own());
        let nodes: Vec<&NodeId> = std::iter::once(witnesses.own()).chain(others).collect();
        let begin = Begin::Last {
            lines: options.tail.unwrap_or(u32::MAX),
            within_ms: options.since.map(|since| super::super::millis(since.0)),
        };
        let asked = nodes.into_iter().map(|node| witnesses.kept(node, &name, begin));
        let all = join_all(asked).await;
        let silent = match &at {
            None => Some(format!("firmware {name} waits for a node")),
            Some(at) => {
                let of = all.iter().find(|kept| kept.node == at.node);
                let answers = of.is_some_and(|kept| kept.lines.is_some());
                (!answers).then(|| format!("{}, which runs {name}, does not answer", at.node))
            }
        };
        let mut lines: Vec<LogLine> = merged(all, options.tail);
        match (silent, lines.is_empty()) {
            // What cannot be read at all is told by the status of the answer.
            (Some(reason), true) => return Err(Problem::Unavailable { reason: reason.into() }),
            (Some(reason), false) => lines.push(LogLine::End { reason }),
            (None, _) => {}
        }
        Ok(stream::iter(lines).boxed())
    }
}

impl Witnesses {
    /// All that `node` has, in as many answers as it takes.
    async fn kept(&self, node: &NodeId, name: &Name, begin: Begin) -> Kept {
        let (mut begin, mut all) = (begin, Vec::new());
        for _ in 0..LAST_ANSWERS {
            let answer = self.lines(node, name, begin, Duration::ZERO).await;
            let Some(Lines { ring, number, lines, .. }) = answer else {
                // What was read before it went is not all, and no less true.
                let lines = (!all.is_empty()).then_some(all);
                return Kept { node: node.clone(), lines };
            };
            let Some(epoch) = lines.last().map(|line| line.epoch) else { break };
            all.extend(lines.into_iter().map(|line| (ring, line)));
            begin = Begin::Behind { ring, number, epoch };
        }
        Kept { node: node.clone(), lines: Some(all) }
    }
}

/// The last of all lines, the oldest first.
fn merged(all: Vec<Kept>, tail: Option<u32>) -> Vec<LogLine> {
    let mut lines: Vec<(NodeId, u64, Line)> = all
        .into_iter()
        .flat_map(|Kept { node, lines }| {
            let lines = lines.unwrap_or_default().into_iter();
            lines.map(move |(ring, line)| (node.clone(), ring, line))
        })
        .collect();
    // Stable: the lines of one node stay in their order.
    lines.sort_by_key(|(_, _, line)| line.at_ms);
    let most = tail.map_or(usize::MAX, |tail| usize::try_from(tail).unwrap_or(usize::MAX));
    let first = lines.len().saturating_sub(most);
    lines.drain(..first);
    lines.into_iter().map(|(node, ring, line)| LogLine::of(&node, ring, line)).collect()
}

#[cfg(test)]
mod tests {
    use odeum_proto::{
        Epoch,
        chronicle::{Level, Stream},
    };

    use super::*;

    fn kept(node: &str, lines: Option<&[(u64, &str)]>) -> Kept {
        let line = |(number, (at_ms, text)): (usize, &(u64, &str))| {
            let (level, stream) = (Level::Info, Stream::Log);
            let number = number as u64 + 1;
            let text = (*text).to_owned();
            (7, Line { number, at_ms: *at_ms, epoch: Epoch(1), level, stream, text })
        };
        let lines = lines.map(|lines| lines.iter().enumerate().map(line).collect());
        Kept { node: node.parse().expect("a name"), lines }
    }

    fn texts(lines: &[LogLine]) -> Vec<String> {
        let text = |line: &LogLine| match line {
            LogLine::Line { node, text, .. } => format!("{node} {text}"),
            other => panic!("{other:?}"),
        };
        lines.iter().map(text).collect()
    }

    #[test]
    fn lines_of_all_nodes_are_in_the_order_of_their_times() {
        let all = || {
            vec![
                kept("n1", Some(&[(1, "a"), (5, "d"), (5, "e")])),
                kept("n2", Some(&[(2, "b"), (4, "c")])),
                kept("n3", None),
            ]
        };
        assert_eq!(texts(&merged(all(), None)), ["n1 a", "n2 b", "n2 c", "n1 d", "n1 e"]);
        assert_eq!(texts(&merged(all(), Some(2))), ["n1 d", "n1 e"]);
        assert_eq!(texts(&merged(all(), Some(0))), [""; 0]);
    }
}
