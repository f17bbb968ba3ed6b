//! What sort of guest a module is, how safe its state is, what separates it from its node.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it in a manifest.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// How a module is called and what it may import.
    Abi {
        /// A core module with `odeum_handle`: `runtime/wit/odeum-actor-core.md`.
        ActorCore => "odeum-actor-core",
        /// A component of the world `odeum:actor`.
        Actor => "odeum-actor",
        /// A core module of WASI preview 1 with `_start`: it runs to its end.
        WasiCommand => "wasi-command",
        /// A core module of WASI preview 1 with `_initialize`: it stays and handles messages.
        WasiReactor => "wasi-reactor",
        /// A component that exports `wasi:cli/run`: it runs to its end.
        WasiCli => "wasi-cli",
        /// A component that exports `wasi:http/incoming-handler`: it serves requests.
        WasiHttp => "wasi-http",
        /// A core module that imports `env.tw_*` and exports `_start(i32)`.
        Firmlet => "firmlet",
    }
}

words! {
    /// What becomes of a core module that imports functions which there are not here.
    MissingImports {
        /// It is refused, with the names of those functions.
        Refuse => "refuse",
        /// It runs, and ends with the name of such a function when it calls one.
        Trap => "trap",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro makes enums without a default")]
impl Default for MissingImports {
    fn default() -> Self {
        Self::Refuse
    }
}

impl MissingImports {
    /// Whether it is what a manifest that says nothing of it has.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

words! {
    /// What becomes of what a guest wrote to its sessions when its node crashes. Whatever else ends it
    /// (a trap, an update, another placement, a node that stops) keeps all of it.
    Durability {
        /// It is lost: the sessions are as they were when it ended in good order last. Nothing is
        /// written to the store while it runs.
        Volatile => "volatile",
        /// What its last checkpoint has is kept, by `[checkpoint]`. Replies come before that.
        Checkpointed => "checkpointed",
        /// Everything that a reply has told of is kept: it is written to the store before.
        Durable => "durable",
    }
}

impl Default for Durability {
    /// What nobody who leaves it out has to think about.
    fn default() -> Self {
        Self::Durable
    }
}

words! {
    /// What separates an instance from its node.
    Isolation {
        /// The sandbox of the WebAssembly engine, inside the node's process.
        Task => "task",
        /// A process of its own around that sandbox, shut in by the kernel: some 10 MB more, and a
        /// fault of the engine costs the node nothing.
        Process => "process",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro makes enums without a default")]
impl Default for Isolation {
    fn default() -> Self {
        Self::Task
    }
}
