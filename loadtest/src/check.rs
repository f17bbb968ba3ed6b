//! What is held against what was promised, whoever made the load: pure, so that it is tested without a
//! cluster.

pub(crate) mod counts;
pub(crate) mod findings;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod linear;
pub(crate) mod operation;
pub(crate) mod register;
pub(crate) mod told;
