//! When a suspicion may become a verdict. Pure: it is told what time it is.
//!
//! A suspect has had its time when it was suspected for long enough and not heard for long
//! enough. The second makes a pause of it that is survived as long as can be without making the
//! time longer in which a death is noticed: a suspicion begins at once or half a second after the
//! last sign of life, as the probes fall.
//!
//! Both are counted in time that this node was awake. While its process did not run it has not
//! listened either, and what it missed lies in its socket when the timer rings that has run out
//! meanwhile. That is the local health of Lifeguard (Source: Dadgar, Phillips, Currey 2018,
//! "Lifeguard: Local Health Awareness for More Accurate Failure Detection"), with a clock that
//! stands still for its multiplier.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use odeum_proto::NodeId;

use super::MembershipConfig;

/// A time on the clock of a [`Vigil`], which stands still while this node does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Awake(Duration);

/// Who was heard when, on a clock of its own.
#[derive(Debug)]
pub(super) struct Vigil {
    /// What happens to an awake node is never longer apart.
    longest_gap: Duration,
    suspicion: Duration,
    silence: Duration,
    /// What a node that was not awake gets to hear what it missed.
    catching_up: Duration,
    last: Option<Instant>,
    awake: Awake,
    heard: BTreeMap<NodeId, Awake>,
}

impl Vigil {
    pub(super) fn new(config: &MembershipConfig) -> Self {
        Self {
            // Gossip is due in every such period, so that two of them are a period missed.
            longest_gap: config.gossip_period * 2,
            suspicion: config.suspicion,
            silence: config.silence,
            catching_up: config.probe_timeout,
            last: None,
            awake: Awake::default(),
            heard: BTreeMap::new(),
        }
    }

    /// Something happens to this node: the time on its clock.
    pub(super) fn look(&mut self, now: Instant) -> Awake {
        let gap = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        if gap <= self.longest_gap {
            self.awake.0 += gap;
        }
        self.awake
    }

    /// A packet of `node` itself has come.
    pub(super) fn heard(&mut self, node: &NodeId) {
        if let Some(heard) = self.heard.get_mut(node) {
            *heard = self.awake;
        } else {
            self.heard.insert(node.clone(), self.awake);
        }
    }

    /// Of a node that is down nothing is remembered.
    pub(super) fn forget(&mut self, node: &NodeId) {
        self.heard.remove(node);
    }

    /// How long `suspect`, suspected since `since`, still has; `None` when its time is over.
    ///
    /// One that is heard but has not answered the suspicion has a little longer, not for ever: it
    /// may be a node that can send and not receive.
    pub(super) fn left(&self, suspect: &NodeId, since: Awake) -> Option<Duration> {
        let suspected = since.0 + self.suspicion;
        let heard = self.heard.get(suspect).copied().unwrap_or_default().min(since);
        let due = suspected.max(heard.0 + self.silence);
        let left = due.checked_sub(self.awake.0).filter(|left| !left.is_zero())?;
        Some(left.max(self.catching_up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Night {
        vigil: Vigil,
        now: Instant,
        node: NodeId,
    }

    impl Night {
        fn new() -> Self {
            let config = MembershipConfig {
                suspicion: 900 * MS,
                silence: 1_400 * MS,
                gossip_period: 100 * MS,
                probe_timeout: 80 * MS,
                ..MembershipConfig::default()
            };
            let node = "n1".parse().expect("valid");
            Self { vigil: Vigil::new(&config), now: Instant::now(), node }
        }

        /// So long, with something happening all the time.
        fn awake(&mut self, time: Duration) -> Awake {
            for _ in 0..time.as_millis() / 10 {
                self.now += 10 * MS;
                self.vigil.look(self.now);
            }
            self.vigil.look(self.now)
        }

        /// So long, with nothing happening.
        fn asleep(&mut self, time: Duration) {
            self.now += time;
            self.vigil.look(self.now);
        }

        fn left(&self, since: Awake) -> Option<Duration> {
            self.vigil.left(&self.node, since)
        }
    }

    #[test]
    fn a_suspect_is_given_up_when_it_was_suspected_and_silent_for_long_enough() {
        let mut night = Night::new();
        night.awake(5_000 * MS);
        night.vigil.heard(&night.node.clone());
        let since = night.awake(200 * MS);
        assert_eq!(night.left(since), Some(1_200 * MS), "it was heard 200 ms before");
        night.awake(1_190 * MS);
        assert!(night.left(since).is_some());
        night.awake(10 * MS);
        assert_eq!(night.left(since), None);
    }

    #[test]
    fn who_was_silent_long_before_the_suspicion_has_the_time_of_the_suspicion() {
        let mut night = Night::new();
        night.vigil.heard(&night.node.clone());
        let since = night.awake(5_000 * MS);
        assert_eq!(night.left(since), Some(900 * MS));
        night.vigil.forget(&night.node.clone());
        assert_eq!(night.left(since), Some(900 * MS));
    }

    #[test]
    fn the_time_that_this_node_did_not_run_is_not_the_suspects() {
        let mut night = Night::new();
        let since = night.awake(5_000 * MS);
        night.awake(500 * MS);
        night.asleep(10_000 * MS);
        assert_eq!(night.left(since), Some(400 * MS));
        night.awake(390 * MS);
        night.asleep(10_000 * MS);
        assert_eq!(night.left(since), Some(80 * MS), "it hears first what it missed");
        night.awake(80 * MS);
        assert_eq!(night.left(since), None);
    }

    #[test]
    fn a_suspect_that_is_heard_has_longer_but_not_for_ever() {
        let mut night = Night::new();
        let since = night.awake(5_000 * MS);
        for _ in 0..20 {
            night.awake(100 * MS);
            night.vigil.heard(&night.node.clone());
        }
        assert_eq!(night.left(since), None);
    }
}
