//! The HTTP API of a node: its JSON ([`types`]) and the client that speaks it ([`client`]).
//!
//! Everything a person does with `odeum` goes through here, so that `curl` can do the same.

pub mod client;
pub mod types;
