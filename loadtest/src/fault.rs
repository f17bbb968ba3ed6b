//! What can be done to a node from outside, beside killing it.

pub(crate) mod defect;
pub(crate) mod disk;
pub(crate) mod shim;
