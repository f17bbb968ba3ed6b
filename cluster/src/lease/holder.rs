//! What a node may believe of its own lease. Pure: it is told what time it is.

use std::time::Duration;

use odeum_proto::Epoch;
use tokio::time::Instant;

use super::{Lease, LeaseConfig};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holder {
    lease: Lease,
}

impl Holder {
    pub(super) fn lease(&self) -> Lease {
        self.lease
    }

    /// A lease of `ttl` was granted that was asked for at `asked` or later.
    pub(super) fn granted(&mut self, epoch: Epoch, asked: Instant, ttl: Duration) {
        let counted = asked + LeaseConfig::counted(ttl);
        match &mut self.lease {
            // An answer that was overtaken.
            Lease::Held { epoch: held, .. } if *held > epoch => {}
            Lease::Held { epoch: held, until } if *held == epoch => *until = counted.max(*until),
            other => *other = Lease::Held { epoch, until: counted },
        }
    }

    /// It is `now`: whether the lease that was held is over, and not before.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let over = matches!(self.lease, Lease::Held { .. }) && !self.lease.holds(now);
        if over {
            self.lease = Lease::Lost;
        }
        over
    }

    /// The lease is given back.
    pub(super) fn give_up(&mut self) -> Option<Epoch> {
        match std::mem::take(&mut self.lease) {
            Lease::Held { epoch, .. } => Some(epoch),
            Lease::Lost => None,
        }
    }
}
