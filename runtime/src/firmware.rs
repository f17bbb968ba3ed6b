//! WebAssembly guests: packages, their cache, and the instances that handle messages.
//!
//! A package is checked and compiled once (`module`), kept by its content (`cache`), and run as
//! instances that are at rest between messages (`instance`). What a guest writes while it handles
//! a message is buffered (`effect`) and committed whole, together with the reply, or not at all.
//! A guest that traps or exceeds a limit costs its own instance and that one message.

mod abi;
mod cache;
mod effect;
mod engine;
mod error;
mod instance;
mod limiter;
mod module;

pub use cache::{FetchError, PackageSource};
pub use effect::{Answer, Effect, Variables};
pub use engine::{Engine, TICK};
pub use error::{CacheError, EngineError, GuestFailure, GuestLimit, PackageError};
pub use instance::Instance;
pub use module::{Module, to_wasm};

#[cfg(test)]
mod tests;
