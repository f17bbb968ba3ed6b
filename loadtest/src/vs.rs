//! The comparisons, one module for each peer.

pub mod bare_quinn;
pub mod bare_wasmtime;
pub mod erlang;
pub mod etcd;
pub mod ractor;
pub mod ractor_cluster;
