//! Decides what to do next with a call: a pure function of what this node knows.

use odeum_proto::{EntityId, Epoch, NodeId, call::CallError, store::Placement};

/// What this node knows about the receiver of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Whether an entity of that name should exist.
    pub deployed: bool,
    /// Where the table has it.
    pub placement: Option<Placement>,
    /// The epoch of its activation on this node, if there is one.
    pub active_here: Option<Epoch>,
    /// Whether the node of the placement is known to be gone.
    pub owner_down: bool,
    /// Whether what is known is as new as the call, because the store confirmed it since.
    pub confirmed: bool,
}

/// The next step of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give it to the activation on this node.
    Deliver(Epoch),
    /// Send it to the node that owns the entity.
    Send(NodeId),
    /// Ask the store for its newest word, then look again.
    Confirm,
    /// Keep it until something changes; the reason is the caller's if the deadline comes first.
    Hold(&'static str),
    /// Give up.
    Fail(CallError),
}

/// The next step for a call to `entity` that entered at `local`.
#[must_use]
pub fn next_step(entity: &EntityId, local: &NodeId, sight: &Sight) -> Step {
    let Some(placement) = &sight.placement else {
        return match (sight.deployed, sight.confirmed) {
            (true, _) => Step::Hold("it is not placed on a node yet"),
            (false, false) => Step::Confirm,
            (false, true) => Step::Fail(CallError::NotFound { entity: entity.clone() }),
        };
    };
    if placement.node != *local {
        return if sight.owner_down {
            Step::Hold("its node is gone and no other has it yet")
        } else {
            Step::Send(placement.node.clone())
        };
    }
    match sight.active_here {
        Some(epoch) if epoch == placement.epoch => Step::Deliver(epoch),
        _ => Step::Hold("it is starting"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        Sight {
            deployed: true,
            placement: None,
            active_here: None,
            owner_down: false,
            confirmed: false,
        }
    }

    fn at(node: &str, epoch: u64) -> Option<Placement> {
        Some(Placement { node: node.parse().expect("valid"), epoch: Epoch(epoch) })
    }

    fn step(sight: Sight) -> Step {
        let entity = "firmware/e".parse().expect("valid");
        let local = "here".parse().expect("valid");
        next_step(&entity, &local, &sight)
    }

    #[test]
    fn an_unknown_name_is_confirmed_before_it_is_called_unknown() {
        assert_eq!(step(Sight { deployed: false, ..sight() }), Step::Confirm);
        let confirmed = Sight { deployed: false, confirmed: true, ..sight() };
        assert!(matches!(step(confirmed), Step::Fail(CallError::NotFound { .. })));
    }

    #[test]
    fn a_call_waits_for_placement_start_and_failover() {
        assert!(matches!(step(sight()), Step::Hold(_)));
        assert!(matches!(step(Sight { placement: at("here", 2), ..sight() }), Step::Hold(_)));
        let lost = Sight { placement: at("there", 2), owner_down: true, ..sight() };
        assert!(matches!(step(lost), Step::Hold(_)));
    }

    #[test]
    fn only_the_activation_of_the_current_epoch_is_given_the_call() {
        let old = Sight { placement: at("here", 3), active_here: Some(Epoch(2)), ..sight() };
        assert!(matches!(step(old), Step::Hold(_)));
        let current = Sight { placement: at("here", 3), active_here: Some(Epoch(3)), ..sight() };
        assert_eq!(step(current), Step::Deliver(Epoch(3)));
    }

    #[test]
    fn a_remote_entity_is_sent_to() {
        let there = Sight { placement: at("there", 1), ..sight() };
        assert_eq!(step(there), Step::Send("there".parse().expect("valid")));
    }
}
