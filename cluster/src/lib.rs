//! Nodes among nodes: transport, membership, replicated store, placement and routing.

pub mod blobs;
pub mod builder;
pub mod control_plane;
pub mod entity;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzz;
pub mod membership;
pub mod network;
pub mod node;
pub mod placement;
pub mod roster;
pub mod router;
pub mod store;
pub mod topic;
pub mod transport;
