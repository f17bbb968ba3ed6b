//! How the failure detector is set.

use std::time::Duration;

/// How fast, and how sure, a silent node is declared down.
///
/// A killed node is down for all after at most one round of probes (the period times the nodes,
/// at three nodes typically half a second), the probe itself (one period) and the suspicion, or
/// after the silence when that is later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipConfig {
    /// Each node probes one other in every such period. Less notices sooner and sends more: a
    /// packet of 60 bytes and its answer per period and node.
    pub probe_period: Duration,
    /// A probe without an answer for so long is repeated through other members. Less suspects
    /// sooner on a lossy path and sends more when a machine is merely busy. Below the period.
    pub probe_timeout: Duration,
    /// How long a suspect has to answer. More bears more lost packets and busier machines; it is
    /// the largest part of the longest time to notice a dead node.
    pub suspicion: Duration,
    /// How long nothing has come from a suspect itself when it is declared down. More bears longer
    /// pauses of a healthy process: up to this, less the time between two signs of life, 0.6 s at
    /// most among three nodes, and never less than period and suspicion together. It is the
    /// shortest time to notice a dead node; beyond the suspicion and four periods it makes the
    /// longest one longer too.
    pub silence: Duration,
    /// How often news are passed on besides the probes. Less spreads them sooner.
    pub gossip_period: Duration,
}

impl Default for MembershipConfig {
    /// A pause of 1 s is survived with 150 ms to spare at least; a death is noticed in 1.2 to 2 s.
    fn default() -> Self {
        Self {
            probe_period: Duration::from_millis(200),
            probe_timeout: Duration::from_millis(80),
            suspicion: Duration::from_millis(950),
            silence: Duration::from_millis(1_700),
            gossip_period: Duration::from_millis(100),
        }
    }
}
