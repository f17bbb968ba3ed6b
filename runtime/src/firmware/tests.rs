//! What guests may do to a node: nothing.

mod guests;
mod packages;
