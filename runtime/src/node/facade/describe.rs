//! One firmware in all its particulars, and what is done to it by hand.

use std::time::Duration;

use odeum_actors::config::nearest;
use odeum_cluster::placement::{
    hosts,
    planner::{Health, Host, Leased, Wish},
};
use odeum_proto::{
    Digest, Name, NodeId, Recipient, ReplicaId,
    chronicle::What,
    store::{Command, Outcome, Placement},
};
use tokio::time::timeout;

use super::{NodeFacade, WRITE_DEADLINE, policy, store_problem};
use crate::{
    api::{
        Problem,
        types::{
            FirmwareDescription, FirmwareState, PackageReport, Renewed, ReplicaSummary, RolledBack,
            UpdateReport,
        },
    },
    package::Package,
};

/// How long the package may take: it is on this node's disk, or was never needed here.
const PACKAGE_DEADLINE: Duration = Duration::from_secs(3);

impl NodeFacade {
    /// That there is such a firmware.
    pub(super) fn check_deployed(&self, name: &Name) -> Result<(), Problem> {
        self.store.view(|state| {
            if state.firmware().contains_key(name) {
                return Ok(());
            }
            let near = nearest(name.as_str(), state.firmware().keys().map(Name::as_str));
            let near = near.map(|near| format!("; the nearest is {near}")).unwrap_or_default();
            Err(Problem::NotFound { what: format!("firmware {name}{near}").into() })
        })
    }

    pub(super) async fn describe(&self, name: &Name) -> Result<FirmwareDescription, Problem> {
        self.check_deployed(name)?;
        let all = self.firmware().await?;
        let summary = all.into_iter().find(|one| one.name == *name);
        let gone = || Problem::NotFound { what: format!("firmware {name}").into() };
        let summary = summary.ok_or_else(gone)?;
        let (spec, former, behind) = self
            .store
            .view(|state| {
                let former = state.former(name).map(|former| former.digest);
                let behind = state.update(name).map(|update| update.behind().keys().copied());
                let behind: Vec<u32> = behind.into_iter().flatten().collect();
                Some((state.firmware().get(name)?.clone(), former, behind))
            })
            .ok_or_else(gone)?;
        let package = self.package(spec.digest).await;
        let is_lost = |one: &&ReplicaSummary| {
            matches!(one.state, FirmwareState::Waiting | FirmwareState::Unknown)
        };
        let lost = summary.instances.iter().find(is_lost);
        let lost = lost.and_then(|one| ReplicaId::new(name.clone(), one.replica));
        let waits_for = lost.map(|replica| {
            let reason = self.waits_for(&replica);
            if summary.replicas > 1 {
                format!("replica {}: {reason}", replica.number())
            } else {
                reason
            }
        });
        let update = (!behind.is_empty()).then_some(UpdateReport {
            done: summary.updated,
            of: summary.replicas,
            behind,
        });
        Ok(FirmwareDescription {
            package,
            settings: policy::in_force(&spec),
            policy: policy::words(&spec),
            former,
            update,
            waits_for,
            events: self.events(&name.clone().into()).await?,
            summary,
        })
    }

    async fn package(&self, digest: Digest) -> Option<PackageReport> {
        let bytes =
            timeout(PACKAGE_DEADLINE, self.blobs.get_keeping_copy(digest)).await.ok()?.ok()?;
        // Every byte of it is checked.
        let read = tokio::task::spawn_blocking(move || Package::read(bytes));
        let package = read.await.ok()?.ok()?;
        let module = timeout(PACKAGE_DEADLINE, self.firmware.cache.load(digest)).await;
        let module = module.ok().and_then(Result::ok);
        let manifest = package.manifest();
        Some(PackageReport {
            name: manifest.name.clone(),
            version: manifest.version.to_string(),
            abi: module.as_ref().map(|module| module.abi().to_string()),
            kind: module.as_ref().map(|module| module.kind().to_string()),
            signers: package.signatures().iter().map(|one| one.key().id().to_string()).collect(),
        })
    }

    /// Why no node runs it, as this one sees the others.
    fn waits_for(&self, replica: &ReplicaId) -> String {
        let live = self.membership.now();
        let reason = self.store.view(|state| {
            let spec = state.spec_of(replica)?;
            let entity = replica.entity();
            let placement = state.placements().get(&entity);
            let hosts = hosts(state, &live, &self.record.id, true);
            let leased: Leased = state.leased().map(|(node, ..)| node.clone()).collect();
            Some(why(&Wish::of(entity.clone(), &spec.policy), placement, &hosts, &leased))
        });
        let reason = reason.unwrap_or_else(|| "it is deleted".to_owned());
        match crate::api::ApiNode::ready(self) {
            Ok(()) => reason,
            Err(problem) => format!("{problem}, so that nothing is placed; {reason}"),
        }
    }

    /// Starts a firmware anew where it is, all replicas of it at once or one; a job runs again.
    pub(super) async fn restart(&self, of: Recipient) -> Result<Renewed, Problem> {
        self.fresh().await?;
        let mut replicas = self.meant(&of)?.into_iter();
        let gone = || Problem::NotFound { what: format!("firmware {of}").into() };
        let mut renewed = self.restart_one(replicas.next().ok_or_else(gone)?).await?;
        for replica in replicas {
            renewed = self.restart_one(replica).await?;
        }
        Ok(renewed)
    }

    async fn restart_one(&self, replica: ReplicaId) -> Result<Renewed, Problem> {
        let (entity, name) = (replica.entity(), replica.firmware().clone());
        let placement = self.store.view(|state| state.placements().get(&entity).cloned());
        let Some(placement) = placement else {
            let reason =
                format!("{replica} has no node to be restarted on: {}", self.waits_for(&replica));
            return Err(Problem::Unavailable { reason: reason.into() });
        };
        self.forget_outcome(&entity).await?;
        self.renew(&entity, placement).await?;
        self.fresh().await?;
        let placed = self.store.view(|state| state.placements().get(&entity).cloned());
        let Some(Placement { node, epoch }) = placed else {
            let reason = format!("{replica} was taken from its node in the meantime");
            return Err(Problem::Unavailable { reason: reason.into() });
        };
        self.happened(&replica, Some(epoch), What::Renewed);
        Ok(Renewed { name, node, epoch })
    }

    /// Brings back what was deployed before.
    pub(super) async fn roll_back(&self, name: Name) -> Result<RolledBack, Problem> {
        self.fresh().await?;
        self.check_deployed(&name)?;
        let first = ReplicaId::first(name.clone());
        let entity = first.entity();
        let seen = || {
            self.store.view(|state| {
                let digest = state.firmware().get(&name).map(|spec| spec.digest);
                let former = state.former(&name).map(|spec| spec.digest);
                (digest, former, state.placements().get(&entity).cloned())
            })
        };
        let (Some(from), former, _) = seen() else {
            return Err(Problem::NotFound { what: format!("firmware {name}").into() });
        };
        for replica in self.meant(&name.clone().into())? {
            self.forget_outcome(&replica.entity()).await?;
        }
        let command = Command::RollBack { name: name.clone(), failed: from };
        match self.store.write(command, WRITE_DEADLINE).await {
            Ok(Outcome::Refused(refusal)) => return Err(refusal.into()),
            Ok(_) => {}
            Err(error) => return Err(store_problem(&error)),
        }
        self.fresh().await?;
        let (now, _, placement) = seen();
        let Some(to) = former.filter(|to| now == Some(*to)) else {
            let reason = format!("something else was deployed as {name} in the meantime");
            return Err(Problem::Conflict { reason: reason.into() });
        };
        let epoch = placement.as_ref().map(|at| at.epoch);
        let reason = "by hand".to_owned();
        self.happened(&first, epoch, What::RolledBack { from, to, reason });
        Ok(RolledBack { name, from, to, node: placement.map(|at| at.node), epoch })
    }
}

/// Why a firmware is not at work anywhere.
fn why(
    wish: &Wish<'_>,
    placement: Option<&Placement>,
    hosts: &[Host<'_>],
    leased: &Leased,
) -> String {
    let takes = hosts.iter().any(|host| wish.fits(host.record) && host.takes(leased) > 0);
    let nobody = nobody(wish, hosts, leased);
    match placement {
        Some(at) if leased.contains(&at.node) => {
            let node = &at.node;
            format!("{node} does not answer, and may run it until its lease is over")
        }
        Some(at) if takes => {
            format!("{} does not answer: it is about to be placed elsewhere", at.node)
        }
        Some(at) => format!("{} does not answer, and {nobody}", at.node),
        None if takes => "it is about to be placed".to_owned(),
        None => nobody,
    }
}

/// Why no node can take it, when none can.
fn nobody(wish: &Wish<'_>, hosts: &[Host<'_>], leased: &Leased) -> String {
    let named: Vec<&str> = wish.nodes.iter().map(NodeId::as_str).collect();
    let none = match named.is_empty() {
        true => "no node".to_owned(),
        false => format!("none of the nodes {}", named.join(", ")),
    };
    let has = |node: &NodeId| hosts.iter().any(|host| host.record.id == *node);
    if !named.is_empty() && !wish.nodes.iter().any(has) {
        return format!("{none} is in the cluster");
    }
    let labels = labels(wish).join(", ");
    let fitting: Vec<&Host<'_>> = hosts.iter().filter(|host| wish.fits(host.record)).collect();
    if fitting.is_empty() {
        return format!("{none} has the labels {labels}");
    }
    let missing = wish.nodes.iter().filter(|node| !has(node));
    let missing = missing.map(|node| format!("{node} is not in the cluster"));
    let reasons = fitting.iter().filter_map(|host| cannot(host, leased)).chain(missing);
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    let which = if labels.is_empty() { String::new() } else { format!(" with {labels}") };
    format!("{none}{which} can take it: {reasons}")
}

/// What it wants, as `label=value`.
pub(super) fn labels(wish: &Wish<'_>) -> Vec<String> {
    wish.labels.iter().map(|(label, value)| format!("{label}={value}")).collect()
}

/// Why a node takes nothing.
pub(super) fn cannot(host: &Host<'_>, leased: &Leased) -> Option<String> {
    let id = &host.record.id;
    let reason = match host.health {
        Health::Down => "is down",
        Health::Unknown => "was not seen yet",
        Health::Alive if host.leaving => "is leaving",
        Health::Alive if host.stopping => "is stopping",
        Health::Alive if host.draining => "is drained",
        Health::Alive if host.record.capacity == 0 => "has capacity 0",
        Health::Alive if !leased.contains(id) => "has no lease yet",
        Health::Alive => return None,
    };
    Some(format!("{id} {reason}"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use odeum_proto::{DiskId, Epoch, Incarnation, Label, store::NodeRecord};

    use super::*;

    fn label(text: &str) -> Label {
        text.parse().expect("a label")
    }

    fn record(id: &str, labels: &[(&str, &str)], capacity: u32) -> NodeRecord {
        let any = "127.0.0.1:1".parse().expect("an address");
        NodeRecord {
            id: id.parse().expect("a name"),
            disk: DiskId::random(),
            incarnation: Incarnation(1),
            cluster_addr: any,
            api_addr: any,
            version: "0".to_owned(),
            kinds: BTreeMap::new(),
            labels: labels.iter().map(|(key, value)| (label(key), label(value))).collect(),
            zone: None,
            capacity,
        }
    }

    fn host(record: &NodeRecord, health: Health) -> Host<'_> {
        Host { record, health, leaving: false, stopping: false, draining: false }
    }

    fn said(
        labels: &[(&str, &str)],
        on: Option<&str>,
        hosts: &[Host<'_>],
        leased: &[&str],
    ) -> String {
        said_of(&[], labels, on, hosts, leased)
    }

    fn said_of(
        nodes: &[&str],
        labels: &[(&str, &str)],
        on: Option<&str>,
        hosts: &[Host<'_>],
        leased: &[&str],
    ) -> String {
        let labels = labels.iter().map(|(key, value)| (label(key), label(value))).collect();
        let node = |id: &str| id.parse::<NodeId>().expect("a name");
        let placement = on.map(|id| Placement { node: node(id), epoch: Epoch(1) });
        let nodes: BTreeSet<NodeId> = nodes.iter().map(|id| node(id)).collect();
        let entity = "firmware/x".parse().expect("valid");
        let wish = Wish { entity, nodes: &nodes, labels: &labels };
        let leased = leased.iter().map(|id| node(id)).collect();
        why(&wish, placement.as_ref(), hosts, &leased)
    }

    #[test]
    fn what_waits_says_what_it_waits_for() {
        let records = [record("n1", &[("disk", "ssd")], 100), record("n2", &[], 0)];
        let [n1, n2] = records.each_ref();
        let all = [host(n1, Health::Alive), host(n2, Health::Alive)];
        let ssd = [("disk", "ssd")];
        assert_eq!(
            said(&[("disk", "tape")], None, &all, &["n1", "n2"]),
            "no node has the labels disk=tape"
        );
        assert_eq!(said(&ssd, None, &all, &["n1"]), "it is about to be placed");
        assert_eq!(
            said(&ssd, None, &all, &[]),
            "no node with disk=ssd can take it: n1 has no lease yet"
        );
        let down = [host(n1, Health::Down), host(n2, Health::Alive)];
        let nobody = "no node can take it: n1 is down, n2 has capacity 0";
        assert_eq!(said(&[], None, &down, &["n2"]), nobody);
        let leaving = [Host { leaving: true, ..all[0] }, Host { stopping: true, ..all[0] }];
        assert_eq!(
            said(&[], None, &leaving, &["n1"]),
            "no node can take it: n1 is leaving, n1 is stopping"
        );
    }

    #[test]
    fn what_may_be_on_named_nodes_only_says_what_is_with_them() {
        let records = [record("n1", &[("disk", "ssd")], 100), record("n2", &[], 100)];
        let [n1, n2] = records.each_ref();
        let hosts = [host(n1, Health::Down), host(n2, Health::Alive)];
        let said =
            |nodes: &[&str], labels: &[(&str, &str)]| said_of(nodes, labels, None, &hosts, &["n2"]);
        assert_eq!(said(&["n8", "n9"], &[]), "none of the nodes n8, n9 is in the cluster");
        let text = "none of the nodes n1, n9 can take it: n1 is down, n9 is not in the cluster";
        assert_eq!(said(&["n1", "n9"], &[]), text);
        let ssd = [("disk", "ssd")];
        assert_eq!(said(&["n2"], &ssd), "none of the nodes n2 has the labels disk=ssd");
        let text = "none of the nodes n1, n2 with disk=ssd can take it: n1 is down";
        assert_eq!(said(&["n1", "n2"], &ssd), text);
        assert_eq!(said(&["n1", "n2"], &[]), "it is about to be placed");
    }

    #[test]
    fn what_is_on_a_node_that_is_gone_says_what_becomes_of_it() {
        let records = [record("n1", &[], 100), record("n2", &[], 100)];
        let [n1, n2] = records.each_ref();
        let hosts = [host(n1, Health::Down), host(n2, Health::Alive)];
        let text = said(&[], Some("n1"), &hosts, &["n1", "n2"]);
        assert_eq!(text, "n1 does not answer, and may run it until its lease is over");
        let text = said(&[], Some("n1"), &hosts, &["n2"]);
        assert_eq!(text, "n1 does not answer: it is about to be placed elsewhere");
        let text = said(&[], Some("n1"), &hosts[..1], &[]);
        assert_eq!(text, "n1 does not answer, and no node can take it: n1 is down");
    }
}
