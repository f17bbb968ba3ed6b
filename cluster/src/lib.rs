//! Nodes among nodes: transport, membership, replicated store, placement and routing.

pub mod store;
