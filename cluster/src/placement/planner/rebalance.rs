//! The moves that make nodes equally busy: only when somebody asks for it, because each move holds
//! up what it moves for a moment.

use std::collections::BTreeMap;

use odeum_proto::{EntityId, NodeId, store::Command};

use super::{
    Host, Leased, Table, Wish,
    rank::{Crowd, Load},
};

/// At most `most` moves, the most useful first: each takes an entity from the node that has most for
/// its weight to the one that has least, when that one has less with it than the other had. Who
/// `stays` is not moved, nor who is on its way; replicas of one firmware come no closer together, in
/// zones or on nodes, and nothing comes beside what it is to be apart from.
#[must_use]
pub fn rebalance(
    wishes: &[Wish<'_>],
    table: Table<'_>,
    hosts: &[Host<'_>],
    leased: &Leased,
    most: usize,
    stays: impl Fn(&EntityId) -> bool,
) -> Vec<Command> {
    let mut loads: BTreeMap<&NodeId, Load<'_>> = hosts
        .iter()
        .filter(|host| host.takes(leased) > 0)
        .map(|host| (&host.record.id, Load::of(host, table, leased)))
        .collect();
    let mut crowd = Crowd::of(table, hosts);
    let mut left: Vec<(&Wish<'_>, &NodeId)> = wishes
        .iter()
        .filter(|wish| !table.is_moving(&wish.entity) && !stays(&wish.entity))
        .filter_map(|wish| Some((wish, &table.placements.get(&wish.entity)?.node)))
        .collect();
    let mut steps = Vec::new();
    while steps.len() < most {
        let best = left.iter().enumerate().filter_map(|(place, (wish, at))| {
            let from = loads.get(at)?;
            let view = crowd.view(&wish.entity, table.apart);
            let gains = |to: &&Load<'_>| {
                // With it less busy than the other is with it.
                let after = (to.count + 1).saturating_mul(from.weight.into());
                let (zones, nodes) = view.closer(from.record, to.record);
                after < from.count.saturating_mul(to.weight.into())
                    && wish.fits(to.record)
                    && zones <= 0
                    && nodes <= 0
                    && !view.comes_beside(at, &to.record.id)
            };
            let to = loads.values().filter(gains).min()?;
            Some((place, from, to))
        });
        // The last of the busiest: the first ones are those that most callers know.
        let busiest = best.max_by(|(_, a, to_a), (_, b, to_b)| {
            let busy = |a: &Load<'_>, b: &Load<'_>| {
                let cross = |a: &Load<'_>, b: &Load<'_>| a.count.saturating_mul(b.weight.into());
                cross(a, b).cmp(&cross(b, a))
            };
            busy(a, b).then_with(|| to_b.cmp(to_a))
        });
        let Some((place, from, to)) = busiest else { break };
        let (from, to) = (from.record.id.clone(), to.record.id.clone());
        let (wish, _) = left.remove(place);
        let Some(at) = table.placements.get(&wish.entity) else { break };
        for (node, change) in [(&from, -1_i64), (&to, 1)] {
            if let Some(load) = loads.get_mut(node) {
                load.count = load.count.saturating_add_signed(change);
            }
            crowd.change(&wish.entity, node, change);
        }
        steps.push(Command::BeginMove { entity: wish.entity.clone(), to, expected: at.epoch });
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use odeum_proto::{
        Epoch, Label,
        store::{NodeRecord, Placement},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::placement::fixtures::{leases, node, record};
    use crate::placement::planner::{Apart, Health};

    static ALL: BTreeSet<NodeId> = BTreeSet::new();
    static ANYWHERE: BTreeMap<Label, Label> = BTreeMap::new();

    fn entity(n: usize) -> EntityId {
        format!("firmware/e{n}").parse().expect("valid")
    }

    fn host(record: &NodeRecord) -> Host<'_> {
        let health = Health::Alive;
        Host { record, health, leaving: false, stopping: false, draining: false }
    }

    fn placed(at: &[u8]) -> BTreeMap<EntityId, Placement> {
        let place =
            |(n, at): (usize, &u8)| (entity(n), Placement { node: node(*at), epoch: Epoch(1) });
        at.iter().enumerate().map(place).collect()
    }

    fn steps(
        placements: &BTreeMap<EntityId, Placement>,
        hosts: &[Host<'_>],
        most: usize,
        stays: impl Fn(&EntityId) -> bool,
    ) -> Vec<(EntityId, NodeId)> {
        let wish =
            |entity: &EntityId| Wish { entity: entity.clone(), nodes: &ALL, labels: &ANYWHERE };
        let wishes: Vec<Wish<'_>> = placements.keys().map(wish).collect();
        let apart = Apart::default();
        let table = Table { placements, moves: &BTreeMap::new(), apart: &apart };
        rebalance(&wishes, table, hosts, &leases(hosts), most, stays)
            .into_iter()
            .map(|step| match step {
                Command::BeginMove { entity, to, .. } => (entity, to),
                other => panic!("only moves: {other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_node_that_came_back_gets_its_share_and_no_more_than_was_allowed() {
        let records = [record(1, 100), record(2, 100), record(3, 100)];
        let hosts = records.each_ref().map(host);
        let table = placed(&[1, 1, 1, 2, 2, 2]);
        assert_eq!(steps(&table, &hosts, 9, |_| false).len(), 2);
        assert_eq!(steps(&table, &hosts, 1, |_| false).len(), 1);
        let moved: Vec<_> = (0..6).map(entity).collect();
        assert!(steps(&table, &hosts, 9, |entity| moved.contains(entity)).is_empty());
        assert!(steps(&placed(&[1, 2, 3, 1]), &hosts, 9, |_| false).is_empty());
    }

    proptest! {
        #[test]
        fn afterwards_no_move_would_gain_anything_and_none_was_made_twice(
            at in proptest::collection::vec(1_u8..5, 0..20),
            capacities in proptest::collection::vec(1_u32..300, 4),
        ) {
            let records: Vec<NodeRecord> =
                (1..).zip(&capacities).map(|(n, capacity)| record(n, *capacity)).collect();
            let hosts: Vec<Host<'_>> = records.iter().map(host).collect();
            let mut table = placed(&at);
            let made = steps(&table, &hosts, usize::MAX, |_| false);
            let mut moved: Vec<_> = made.iter().map(|(entity, _)| entity.clone()).collect();
            moved.sort();
            moved.dedup();
            prop_assert_eq!(moved.len(), made.len());
            for (entity, to) in made {
                table.insert(entity, Placement { node: to, epoch: Epoch(2) });
            }
            prop_assert_eq!(steps(&table, &hosts, 9, |_| false), []);
        }
    }
}
