//! Decides which entity belongs on which node: a pure function of the table, the nodes' health
//! and nothing else.
//!
//! It makes the fewest moves that leave every entity on a node that can run it: what is placed on
//! a node that is not known to be gone stays there, whatever the load elsewhere. A plan is only a
//! proposal; each step names the epoch it saw, and the log refuses a step whose table has changed.

use std::collections::BTreeMap;

use odeum_proto::{
    EntityId, Epoch, NodeId,
    store::{Command, Placement},
};

/// Whether a node can be given work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answers probes, or is only suspected not to.
    Alive,
    /// It was never seen or not for long enough to say. It keeps what it has and gets nothing.
    Unknown,
    /// It is gone. What it had is placed elsewhere.
    Down,
}

/// Places to change, in the order of the entities' names.
///
/// * An entity that is not placed goes to the alive node with the fewest entities, ties to the
///   smaller id.
/// * An entity on a node that is [`Health::Down`] or no longer in `nodes` is moved by the same
///   rule.
/// * Without an alive node nothing is planned.
#[must_use]
pub fn plan<'a>(
    entities: impl IntoIterator<Item = EntityId>,
    table: &BTreeMap<EntityId, Placement>,
    nodes: impl IntoIterator<Item = (&'a NodeId, Health)>,
) -> Vec<Command> {
    let nodes: BTreeMap<&NodeId, Health> = nodes.into_iter().collect();
    let health = |node| nodes.get(node).copied().unwrap_or(Health::Down);
    let mut load: BTreeMap<&NodeId, usize> = nodes
        .iter()
        .filter(|&(_, &health)| health == Health::Alive)
        .map(|(&node, _)| (node, table.values().filter(|p| p.node == *node).count()))
        .collect();

    let mut steps = Vec::new();
    for entity in entities {
        let placed = table.get(&entity);
        if placed.is_some_and(|p| health(&p.node) != Health::Down) {
            continue;
        }
        let Some((&node, count)) = load.iter_mut().min_by_key(|(node, count)| (**count, **node))
        else {
            break;
        };
        *count += 1;
        let expected: Option<Epoch> = placed.map(|p| p.epoch);
        steps.push(Command::Place { entity, node: node.clone(), expected });
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(n: u8) -> NodeId {
        format!("n{n}").parse().expect("valid")
    }

    fn entity(n: u8) -> EntityId {
        format!("firmware/e{n}").parse().expect("valid")
    }

    fn on(n: u8, epoch: u64) -> Placement {
        Placement { node: node(n), epoch: Epoch(epoch) }
    }

    fn targets(steps: &[Command]) -> Vec<(EntityId, NodeId)> {
        steps
            .iter()
            .map(|step| match step {
                Command::Place { entity, node, .. } => (entity.clone(), node.clone()),
                other => panic!("a plan only places: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn new_entities_are_spread() {
        let nodes = [node(1), node(2)];
        let steps = plan(
            (0..4).map(entity),
            &BTreeMap::new(),
            nodes.iter().map(|node| (node, Health::Alive)),
        );
        let on_first = targets(&steps).iter().filter(|(_, n)| *n == node(1)).count();
        assert_eq!((steps.len(), on_first), (4, 2));
    }

    #[test]
    fn a_down_node_loses_its_entities_and_an_unknown_one_keeps_them() {
        let nodes = [node(1), node(2), node(3)];
        let health = [Health::Down, Health::Unknown, Health::Alive];
        let table = BTreeMap::from([(entity(1), on(1, 4)), (entity(2), on(2, 9))]);
        let steps = plan([entity(1), entity(2)], &table, nodes.iter().zip(health));
        let expected =
            Command::Place { entity: entity(1), node: node(3), expected: Some(Epoch(4)) };
        assert_eq!(steps, [expected]);
    }

    #[test]
    fn nothing_is_planned_while_nobody_is_alive() {
        let table = BTreeMap::from([(entity(1), on(1, 1))]);
        assert!(plan([entity(1)], &table, [(&node(1), Health::Down)]).is_empty());
    }

    proptest! {
        #[test]
        fn only_the_unplaced_and_the_lost_move_and_only_to_the_alive(
            placed in proptest::collection::btree_map(0_u8..12, (1_u8..6, 1_u64..9), 0..12),
            health in proptest::collection::vec(0_u8..3, 5),
        ) {
            let health_of = |n: u8| match health[usize::from(n - 1)] {
                0 => Health::Alive,
                1 => Health::Unknown,
                _ => Health::Down,
            };
            let nodes: Vec<NodeId> = (1..6).map(node).collect();
            let table: BTreeMap<_, _> =
                placed.iter().map(|(e, (n, epoch))| (entity(*e), on(*n, *epoch))).collect();
            let steps = plan(
                (0..12).map(entity),
                &table,
                nodes.iter().zip((1..6).map(health_of)),
            );
            for (moved, to) in targets(&steps) {
                prop_assert!(nodes.iter().zip((1..6).map(health_of))
                    .any(|(n, h)| *n == to && h == Health::Alive));
                if let Some(at) = table.get(&moved) {
                    let from = nodes.iter().position(|n| *n == at.node).expect("known");
                    prop_assert_eq!(health_of(u8::try_from(from + 1).expect("small")), Health::Down);
                }
            }
        }
    }
}
