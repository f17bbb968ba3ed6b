//! A cluster that changes all the time, and what its groups make of it, step by step.

use super::*;
use crate::store::StoreConfig;
use crate::store::seeds::{Random, from_each_seed};

const SEEDS: u64 = 10_000;

/// Nodes that there ever are.
const NODES: u64 = 8;

/// More than any way to what is wanted takes.
const LONG_ENOUGH: usize = 200;

fn node(n: u64) -> NodeId {
    format!("n{n}").parse().expect("valid")
}

fn is_majority(of: &BTreeSet<NodeId>, there: &BTreeSet<NodeId>) -> bool {
    of.intersection(there).count() > of.len() / 2
}

/// A group as its log says, and who of it knows that.
#[derive(Debug, Clone)]
struct Replicas {
    number: u16,
    voters: BTreeSet<NodeId>,
    learners: BTreeSet<NodeId>,
    leader: Option<NodeId>,
    /// Members that have nearly all of the log.
    close: BTreeSet<NodeId>,
    /// Members that were there when the leader last looked: some of them may be gone.
    heard: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Cluster {
    /// Nodes whose process runs.
    up: BTreeSet<NodeId>,
    /// Those that nobody reaches nevertheless.
    cut: BTreeSet<NodeId>,
    /// The nodes on record that are not about to leave.
    wanted: BTreeSet<NodeId>,
    /// Nodes that were let go of; their names do not come back.
    gone: BTreeSet<NodeId>,
    groups: Vec<Replicas>,
}

impl Cluster {
    fn new() -> Self {
        let first = BTreeSet::from([node(0)]);
        let group = |number| Replicas {
            number,
            voters: first.clone(),
            learners: BTreeSet::new(),
            leader: Some(node(0)),
            close: first.clone(),
            heard: first.clone(),
        };
        Self {
            up: first.clone(),
            cut: BTreeSet::new(),
            wanted: first.clone(),
            gone: BTreeSet::new(),
            groups: (0..StoreConfig::GROUPS + 1).map(group).collect(),
        }
    }

    fn reachable(&self) -> BTreeSet<NodeId> {
        &self.up - &self.cut
    }

    /// Something happens to the cluster.
    fn happens(&mut self, random: &mut Random) {
        let some = node(random.below(NODES));
        match random.below(8) {
            0 | 1 if !self.gone.contains(&some) => {
                self.up.insert(some.clone());
                self.wanted.insert(some);
            }
            2 if self.wanted.len() > 1 && self.wanted.remove(&some) => {
                self.gone.insert(some);
            }
            3 => _ = self.up.remove(&some),
            4 | 5 if self.wanted.contains(&some) => _ = self.up.insert(some),
            6 => _ = self.cut.insert(some),
            _ => _ = self.cut.remove(&some),
        }
    }

    /// Something happens in a group: an election, a look of its leader, a member that catches up.
    fn goes_on(&mut self, random: &mut Random) {
        let reachable = self.reachable();
        let number = random.below(self.groups.len() as u64) as usize;
        let group = &mut self.groups[number];
        if group.leader.as_ref().is_some_and(|leader| !reachable.contains(leader)) {
            group.leader = None;
        }
        if group.leader.is_none() && is_majority(&group.voters, &reachable) {
            let able = group.voters.iter().filter(|voter| reachable.contains(*voter));
            let able: Vec<_> = able.filter(|voter| group.close.contains(*voter)).cloned().collect();
            let chosen = able.get(random.below(able.len().max(1) as u64) as usize);
            group.leader = chosen.cloned();
        }
        if group.leader.is_none() {
            return;
        }
        let members = &group.voters | &group.learners;
        match random.below(3) {
            0 => group.heard = &members & &reachable,
            1 => {
                let here = &members & &reachable;
                group.close.extend(here.into_iter().take(random.below(4) as usize));
            }
            _ => _ = self.step(number, random.percent(50)),
        }
    }

    /// The leader of a group takes the next step, if it sees one.
    fn step(&mut self, number: usize, settled: bool) -> bool {
        let reachable = self.reachable();
        let group = &mut self.groups[number];
        let Some(local) = group.leader.clone() else { return false };
        let mut there = group.heard.clone();
        there.insert(local.clone());
        let sight = Sight {
            local: local.clone(),
            voters: group.voters.clone(),
            learners: group.learners.clone(),
            close: &group.close & &there,
            there,
        };
        let Some(step) = next(group.number, &sight, &self.wanted, settled) else { return false };
        is_safe(&step, &sight, &self.wanted);
        let (mut voters, mut learners) = (group.voters.clone(), group.learners.clone());
        match &step {
            Step::Add(new) => _ = learners.insert(new.clone()),
            Step::Promote(new) => {
                learners.remove(new);
                voters.insert(new.clone());
            }
            Step::Remove(old) => {
                learners.remove(old);
                voters.remove(old);
            }
            Step::HandOver(heir) => {
                group.leader = Some(heir.clone()).filter(|heir| reachable.contains(heir));
                return true;
            }
        }
        // Else it is not committed, and whoever leads next has never heard of it.
        if is_majority(&group.voters, &reachable) && is_majority(&voters, &reachable) {
            let members = &voters | &learners;
            group.close = &group.close & &members;
            group.heard = &group.heard & &members;
            (group.voters, group.learners) = (voters, learners);
        }
        if !group.voters.contains(&local) {
            group.leader = None;
        }
        true
    }

    /// From now on nothing happens to the cluster. Nodes that were let go of stay away for good,
    /// unless a group cannot do without.
    fn stands_still(&mut self) {
        self.cut.clear();
        self.up.extend(self.wanted.iter().cloned());
        for group in &self.groups {
            if !is_majority(&group.voters, &self.up) {
                self.up.extend(group.voters.iter().cloned());
            }
        }
        for group in &mut self.groups {
            group.heard = &(&group.voters | &group.learners) & &self.up;
        }
    }

    /// The groups do what they can.
    fn settles(&mut self) {
        for number in 0..self.groups.len() {
            for _ in 0..LONG_ENOUGH {
                let reachable = self.reachable();
                let group = &mut self.groups[number];
                let here = &(&group.voters | &group.learners) & &reachable;
                group.heard.clone_from(&here);
                group.close.extend(here);
                let leads = group.leader.take().filter(|leader| reachable.contains(leader));
                let able = || group.voters.iter().find(|voter| reachable.contains(*voter)).cloned();
                group.leader = leads.or_else(able);
                if !self.step(number, true) {
                    break;
                }
            }
        }
    }

    fn is_as_wanted(&self) {
        for group in &self.groups {
            let members = &group.voters | &group.learners;
            assert_eq!(members, self.wanted, "the members of {group:?}");
            assert_eq!(
                group.voters.len(),
                self.wanted.len().min(VOTERS),
                "the voters of {group:?}"
            );
            let preferred = group.voters.iter().cycle().nth(usize::from(group.number) + 1);
            assert_eq!(group.leader.as_ref(), preferred, "the leader of {group:?}");
        }
    }
}

/// What must be true of every step, by what its leader sees.
fn is_safe(step: &Step, sight: &Sight, wanted: &BTreeSet<NodeId>) {
    let Sight { voters, learners, there, close, .. } = sight;
    match step {
        Step::Add(new) => {
            assert!(wanted.contains(new), "{step:?} is not wanted: {sight:?}");
            assert!(!voters.contains(new) && !learners.contains(new), "{step:?}: {sight:?}");
        }
        Step::Promote(new) => {
            assert!(wanted.contains(new) && learners.contains(new), "{step:?}: {sight:?}");
            assert!(there.contains(new) && close.contains(new), "{step:?} is behind: {sight:?}");
            assert!(voters.len() < VOTERS, "{step:?} is one too many: {sight:?}");
        }
        Step::Remove(old) => {
            assert!(!wanted.contains(old), "{step:?} is wanted: {sight:?}");
            let mut left = voters.clone();
            if left.remove(old) {
                assert!(is_majority(&left, there), "{step:?} loses the majority: {sight:?}");
            }
        }
        Step::HandOver(heir) => {
            assert!(voters.contains(heir) && close.contains(heir), "{step:?}: {sight:?}");
            assert!(voters.is_subset(there), "{step:?} while a voter is away: {sight:?}");
        }
    }
}

fn history(seed: u64) {
    let mut random = Random::new(seed);
    let mut cluster = Cluster::new();
    for _ in 0..random.within(10..80) {
        if random.percent(30) {
            cluster.happens(&mut random);
        } else {
            cluster.goes_on(&mut random);
        }
    }
    cluster.stands_still();
    cluster.settles();
    cluster.is_as_wanted();
}

#[test]
fn whatever_happens_to_the_cluster_no_step_loses_a_majority_and_all_end_at_what_is_wanted() {
    let test = "store::steward::simulation::\
                whatever_happens_to_the_cluster_no_step_loses_a_majority_and_all_end_at_what_is_wanted";
    from_each_seed(test, SEEDS, history);
}
