//! How often and how soon a crashed host is started again, as its supervisor takes it.

use odeum_actors::{Backoff, Intensity};
use odeum_proto::store::RestartBudget;

/// Without jitter: hosts of different firmware have no reason to crash together.
pub(super) fn backoff(budget: &RestartBudget) -> Backoff {
    Backoff::exponential(budget.first_pause, budget.longest_pause).jitter(false)
}

pub(super) fn intensity(budget: &RestartBudget) -> Intensity {
    Intensity::new(budget.max_restarts, budget.within)
}
