//! What stands in a node's way, or soon will: certificates, clock, ports, paths to peers, limits.
//!
//! [`Facts`] are gathered on the machine of the node, by the node itself while it runs
//! (`GET /v1/doctor`) and else by the command line from the node's settings; [`judge`] turns them
//! into [`Finding`]s, each with what to do about it. Gathering never judges, and judging looks at
//! nothing but the facts.

mod facts;
mod isolation;
mod judge;
mod machine;
pub(crate) mod offline;

pub use facts::{
    CertificateFacts, ClockFacts, Facts, FolderFacts, IsolationFacts, MachineFacts, NodeFacts,
    PathFacts, PeerFacts, PortFacts, PortState,
};
pub(crate) use isolation::isolation;
pub use judge::{Finding, Level, judge};
pub(crate) use machine::{certificates, folder, machine};
