//! What a node's coordinator does next: a pure function of what is wanted and what runs.
//!
//! Acting never decides: where an entity is placed was decided and committed before. A firmware
//! that was given up stays among what runs, so that it is tried again only when its spec or its
//! placement changes.

use std::collections::{BTreeMap, BTreeSet};

use odeum_proto::{Digest, Epoch, Name, store::FirmwareSpec};

/// A deployed firmware as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What is deployed.
    pub spec: FirmwareSpec,
    /// Its epoch, if it is placed on this node.
    pub epoch: Option<Epoch>,
    /// The package before this one, if it could come back.
    pub former: Option<Digest>,
}

/// A firmware that this node was told to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    /// What was deployed when it started.
    pub(super) spec: FirmwareSpec,
    /// The epoch it started under.
    pub(super) epoch: Epoch,
}

/// One thing to do, in the order given: what runs under an old word ends before it starts anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// End a host.
    Stop {
        /// Its firmware.
        name: Name,
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
    running: &BTreeMap<Name, Running>,
    at_hand: &BTreeSet<Digest>,
) -> Vec<Command> {
    let here =
        |wanted: &Wanted| wanted.epoch.map(|epoch| Running { spec: wanted.spec.clone(), epoch });
    let should: BTreeMap<&Name, Running> =
        wanted.iter().filter_map(|w| Some((&w.spec.name, here(w)?))).collect();
    let stops = running
        .iter()
        .filter(|(name, is)| should.get(name) != Some(is))
        .map(|(name, _)| Command::Stop { name: name.clone() });
    let starts = should
        .iter()
        .filter(|(name, should)| running.get(**name) != Some(should))
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

    fn spec(name: &str, content: &str) -> FirmwareSpec {
        FirmwareSpec {
            name: name.parse().expect("valid"),
            digest: Digest::of(content.as_bytes()),
            size: 1,
            limits: FirmwareLimits { memory_bytes: 1, message_time: Duration::from_secs(1) },
            policy: FirmwarePolicy::default(),
        }
    }

    fn wanted(name: &str, content: &str, epoch: Option<u64>) -> Wanted {
        Wanted { spec: spec(name, content), epoch: epoch.map(Epoch), former: None }
    }

    fn run(name: &str, content: &str, epoch: u64) -> Running {
        Running { spec: spec(name, content), epoch: Epoch(epoch) }
    }

    fn next(wanted: &[Wanted], running: &[Running]) -> Vec<Command> {
        let running = running.iter().map(|r| (r.spec.name.clone(), r.clone())).collect();
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
            let wanted = Wanted { spec: new.spec.clone(), epoch: Some(new.epoch), former: None };
            let commands = next(&[wanted], &[run("x", "a", 1)]);
            assert_eq!(commands, [stop("x"), Command::Start(Box::new(new))]);
        }
    }

    #[test]
    fn one_package_of_two_firmwares_is_fetched_once() {
        let commands = next(&[wanted("x", "c", None), wanted("y", "c", None)], &[]);
        assert_eq!(commands, [Command::Prefetch { digest: Digest::of(b"c") }]);
    }
}
