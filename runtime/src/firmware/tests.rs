//! What guests may do to a node: nothing. What a node may do to a count: nothing, either.

mod actors;
mod bench;
mod broker;
mod components;
mod firmlets;
mod guests;
mod hostile;
mod hosts;
mod jobs;
mod loading;
mod packages;
mod reactors;
mod stage;

/// The committed build of `examples/guests/counter`.
const COUNTER: &[u8] = include_bytes!("../../../examples/guests/counter/counter.wasm");

/// The committed builds of the guests beside it: a job, a server and an actor, as components.
const COMMAND: &[u8] =
    include_bytes!("../../../examples/guests/command-component/command-component.wasm");
const SERVER: &[u8] = include_bytes!("../../../examples/guests/http-component/http-component.wasm");
const ACTOR: &[u8] =
    include_bytes!("../../../examples/guests/actor-component/actor-component.wasm");
