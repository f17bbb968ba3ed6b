//! Nodes among nodes: transport, membership, replicated store, placement and routing.

pub mod control_plane;
pub mod membership;
pub mod network;
pub mod store;
pub mod transport;
