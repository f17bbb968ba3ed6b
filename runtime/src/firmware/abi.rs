//! The ABIs: what passes between a guest and the host, one module for each.
//!
//! Which one a module has is told from what it imports and exports (`detect`). Whatever the ABI, a
//! guest is one of three kinds ([`Kind`]), and that is all that the rest of firmware knows of it.
//!
//! | ABI | contract | kind |
//! |---|---|---|
//! | `odeum-actor-core` | `runtime/wit/odeum-actor-core.md` | messages |
//! | `odeum-actor` | `runtime/wit/odeum-actor.wit` | messages |
//! | `wasi-reactor` | `runtime/wit/odeum-wasi-reactor.md` | messages |
//! | `firmlet` | `runtime/wit/firmlet.md` | messages |
//! | `wasi-command` | WASI preview 1, `_start` | job |
//! | `wasi-cli` | WASI 0.2, `wasi:cli/run` | job |
//! | `wasi-http` | WASI 0.2, `wasi:http/incoming-handler` | HTTP |

pub(super) mod actor;
pub(super) mod component;
pub(super) mod core;
pub(super) mod dealings;
pub(super) mod detect;
pub(super) mod firmlet;
mod memory;
pub(super) mod shape;
pub(super) mod wasi;
pub(super) mod wasi_p1;

use std::fmt;

use serde::{Deserialize, Serialize};
use wasmtime::{Instance, Store};

use crate::package::{manifest::Abi, normalise};

/// What a guest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// It handles messages, one at a time, and keeps its memory from one to the next.
    Messages,
    /// It runs from its start to its end, and then there is an exit code.
    Job,
    /// It answers HTTP requests, each with an instance of its own.
    Http,
}

impl Kind {
    pub(super) fn of(abi: Abi) -> Self {
        match abi {
            Abi::ActorCore | Abi::Actor | Abi::WasiReactor | Abi::Firmlet => Self::Messages,
            Abi::WasiCommand | Abi::WasiCli => Self::Job,
            Abi::WasiHttp => Self::Http,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages",
            Self::Job => "a job",
            Self::Http => "HTTP requests",
        })
    }
}

/// Calls what the start section named, which is an export in a package: see [`normalise`]. It comes
/// before anything else that the ABI calls.
async fn call_start<T: Send>(instance: &Instance, store: &mut Store<T>) -> wasmtime::Result<()> {
    if instance.get_func(&mut *store, normalise::START).is_none() {
        return Ok(());
    }
    let start = instance.get_typed_func::<(), ()>(&mut *store, normalise::START)?;
    start.call_async(&mut *store, ()).await
}
