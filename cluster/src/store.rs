//! The replicated store: what the cluster has agreed on, and how it came to it.

pub mod state;
pub mod wal;

pub use state::{Remembered, Session, State};
