//! The comparisons, one module for each peer.

pub mod ractor;
