//! What the fuzz targets in `cluster/fuzz` call: every parser of bytes that a peer sends, each
//! with what must hold whatever the bytes are. The tests run the same functions on the corpus.

pub use crate::membership::fuzz::datagrams;
pub use crate::transport::fuzz::{frames, introduction, lane};

#[cfg(test)]
mod tests;
