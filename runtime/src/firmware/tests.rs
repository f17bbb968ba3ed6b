//! What guests may do to a node: nothing. What a node may do to a count: nothing, either.

mod guests;
mod hosts;
mod loading;
mod packages;
mod stage;

/// The committed build of `examples/guests/counter`.
const COUNTER: &[u8] = include_bytes!("../../../examples/guests/counter/counter.wasm");
