//! What a node's coordinator does next: a pure function of what is wanted and what runs.
//!
//! Acting never decides: where an entity is placed was decided and committed before. A firmware
//! that was given up stays among what runs, so that it is tried again only when its spec or its
//! placement changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use odeum_proto::{Digest, Epoch, ReplicaId, store::FirmwareSpec};

/// A replica of a deployed firmware as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which one.
    pub replica: ReplicaId,
    /// What it runs.
    pub spec: Arc<FirmwareSpec>,
    /// Its epoch, if it is placed on this node.
    pub epoch: Option<Epoch>,
    /// The package before this one, if it came back when this one failed.
    pub former: Option<Digest>,
}

/// A replica that this node was told to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    /// Which one.
    pub(super) replica: ReplicaId,
    /// What it was to run when it started.
    pub(super) spec: Arc<FirmwareSpec>,
    /// The epoch it started under.
    pub(super) epoch: Epoch,
}

impl Running {
    /// Whether it is as it should be: how many other replicas there are is nothing to it.
    fn is(&self, should: &Self) -> bool {
        self.epoch == should.epoch && self.spec.runs_like(&should.spec)
    }
}

/// One thing to do, in the order given: what runs under an old word ends before it starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// End a host.
    Stop {
        /// Its replica.
        name: ReplicaId,
    },
    /// Start a host.
    Start(Box<Running>),
    /// Have a package at hand, compiled, so that this node can take over at once.
    Prefetch {
        /// The package.
        digest: Digest,
    },
}

/// What to do now. `at_hand` are the packages that are here or on their way.
#[must_use]
pub(super) fn commands(
    wanted: &[Wanted],
    running: &BTreeMap<ReplicaId, Running>,
    at_hand: &BTreeSet<Digest>,
) -> Vec<Command> {
    let here = |wanted: &Wanted| {
        let (replica, spec) = (wanted.replica.clone(), wanted.spec.clone());
        wanted.epoch.map(|epoch| Running { replica, spec, epoch })
    };
    let should: BTreeMap<&ReplicaId, Running> =
        wanted.iter().filter_map(|w| Some((&w.replica, here(w)?))).collect();
    let stops = running
        .iter()
        .filter(|(name, is)| should.get(name).is_none_or(|should| !is.is(should)))
        .map(|(name, _)| Command::Stop { name: name.clone() });
    let starts = should
        .iter()
        .filter(|(name, should)| running.get(**name).is_none_or(|is| !is.is(should)))
        .map(|(_, should)| Command::Start(Box::new(should.clone())));
    let missing: BTreeSet<Digest> =
        wanted.iter().map(|w| w.spec.digest).filter(|digest| !at_hand.contains(digest)).collect();
    let prefetches = missing.into_iter().map(|digest| Command::Prefetch { digest });
    stops.chain(starts).chain(prefetches).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use odeum_proto::store::{FirmwareLimits, FirmwarePolicy};

    use super::*;

    fn spec(name: &str, content: &str) -> Arc<FirmwareSpec> {
        Arc::new(FirmwareSpec {
            name: name.parse().expect("valid"),
            digest: Digest::of(content.as_bytes()),
            size: 1,
            limits: FirmwareLimits { memory_bytes: 1, message_time: Duration::from_secs(1) },
            policy: FirmwarePolicy::default(),
            replicas: 1,
        })
    }

    fn wanted(name: &str, content: &str, epoch: Option<u64>) -> Wanted {
        Wanted {
            replica: name.parse().expect("valid"),
            spec: spec(name, content),
            epoch: epoch.map(Epoch),
            former: None,
        }
    }

    fn run(name: &str, content: &str, epoch: u64) -> Running {
        Running {
            replica: name.parse().expect("valid"),
            spec: spec(name, content),
            epoch: Epoch(epoch),
        }
    }

    fn next(wanted: &[Wanted], running: &[Running]) -> Vec<Command> {
        let running = running.iter().map(|r| (r.replica.clone(), r.clone())).collect();
        commands(wanted, &running, &["a", "b"].map(|c| Digest::of(c.as_bytes())).into())
    }

    fn stop(name: &str) -> Command {
        Command::Stop { name: name.parse().expect("valid") }
    }

    #[test]
    fn what_is_placed_here_is_started_and_the_rest_only_fetched() {
        let commands = next(&[wanted("x", "a", Some(1)), wanted("y", "c", None)], &[]);
        let prefetch = Command::Prefetch { digest: Digest::of(b"c") };
        assert_eq!(commands, [Command::Start(Box::new(run("x", "a", 1))), prefetch]);
    }

    #[test]
    fn nothing_is_done_when_all_is_as_wanted() {
        assert_eq!(next(&[wanted("x", "a", Some(1))], &[run("x", "a", 1)]), []);
    }

    #[test]
    fn what_is_deleted_or_placed_elsewhere_is_stopped() {
        assert_eq!(next(&[], &[run("x", "a", 1)]), [stop("x")]);
        assert_eq!(next(&[wanted("x", "a", None)], &[run("x", "a", 1)]), [stop("x")]);
    }

    #[test]
    fn a_new_epoch_or_a_new_package_ends_the_old_host_first() {
        for new in [run("x", "a", 2), run("x", "b", 1)] {
            let (replica, spec) = (new.replica.clone(), new.spec.clone());
            let wanted = Wanted { replica, spec, epoch: Some(new.epoch), former: None };
            let commands = next(&[wanted], &[run("x", "a", 1)]);
            assert_eq!(commands, [stop("x"), Command::Start(Box::new(new))]);
        }
    }

    #[test]
    fn other_replicas_than_before_are_no_reason_to_end_one() {
        let mut wanted = wanted("x", "a", Some(1));
        Arc::make_mut(&mut wanted.spec).replicas = 3;
        Arc::make_mut(&mut wanted.spec).policy.max_unavailable = 2;
        assert_eq!(next(&[wanted], &[run("x", "a", 1)]), []);
    }

    #[test]
    fn one_package_of_two_firmwares_is_fetched_once() {
        let commands = next(&[wanted("x", "c", None), wanted("y", "c", None)], &[]);
        assert_eq!(commands, [Command::Prefetch { digest: Digest::of(b"c") }]);
    }
}
