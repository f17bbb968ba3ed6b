//! `odeum:actor` for components, host side.
//!
//! `runtime/wit/odeum-actor.wit` is the contract. What a guest does to others is kept aside with what
//! it writes, and done when the message is committed.

mod host;
mod instance;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use odeum_proto::{ReplicaId, limits};
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use self::bindings::{Actor, ActorPre};
pub(in crate::firmware) use self::instance::ActorInstance;
use super::{component, core::Message, wasi};
use crate::{
    firmware::{
        deeds::Deed,
        error::GuestFailure,
        setting::Setting,
        store::{Meter, Metered},
    },
    package::manifest::{Capabilities, Manifest},
};

/// What the macro makes of the contract.
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/odeum-actor.wit",
        world: "actor",
        imports: { default: trappable },
        exports: { default: async },
    });
}

/// Most timers of one instance that are set. More are a schedule, which belongs into variables.
pub(in crate::firmware) const TIMERS: usize = 1_024;

/// Most asks of one instance that wait for their outcome.
pub(in crate::firmware) const ASKS: usize = 256;

/// Most topics that one instance is subscribed to.
pub(in crate::firmware) const TOPICS: usize = 64;

/// Most things that one message does to others.
pub(in crate::firmware) const DEEDS: usize = limits::WRITES_PER_MESSAGE;

/// What the host keeps beside an instance.
pub(in crate::firmware) struct Acting {
    meter: Meter,
    wasi: WasiCtx,
    table: ResourceTable,
    config: BTreeMap<String, String>,
    granted: Capabilities,
    /// The message at hand; `None` at rest.
    message: Option<Message>,
    /// What it does to others, and the bytes of that.
    deeds: Vec<Deed>,
    sent: u64,
    /// Bytes that one message may send.
    output: u64,
    /// What is set, as of the last message and by the one at hand.
    standing: Standing,
    before: Standing,
    last: u64,
}

/// What of an instance is outstanding.
#[derive(Debug, Clone, Default)]
struct Standing {
    timers: BTreeSet<u64>,
    asks: BTreeSet<u64>,
    topics: BTreeSet<String>,
}

impl Acting {
    /// What a new instance gets.
    async fn new(manifest: &Manifest, setting: &Setting) -> Result<Self, GuestFailure> {
        let meter = setting.meter(manifest);
        let wasi = wasi::context(manifest, setting, &Arc::clone(&meter.denials)).await?.build();
        let text = |it: &dyn std::fmt::Display| it.to_string();
        let config = manifest.environment.iter().map(|(key, value)| (text(key), text(value)));
        Ok(Self {
            meter,
            wasi,
            table: ResourceTable::new(),
            config: config.collect(),
            granted: manifest.capabilities.clone(),
            message: None,
            deeds: Vec::new(),
            sent: 0,
            output: manifest.limits.output.bytes(),
            standing: Standing::default(),
            before: Standing::default(),
            last: 0,
        })
    }

    fn firmware(&self) -> &ReplicaId {
        &self.meter.firmware
    }
}

impl Metered for Acting {
    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

impl WasiView for Acting {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A component that handles messages. Cheap to clone.
#[derive(Clone)]
pub(in crate::firmware) struct ActorModule(ActorPre<Acting>);

impl ActorModule {
    pub(in crate::firmware) fn new(
        engine: &wasmtime::Engine,
        component: &Component,
        manifest: &Manifest,
    ) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        component::deny(&mut linker, component, manifest)?;
        Actor::add_to_linker::<_, HasSelf<_>>(&mut linker, |acting| acting)?;
        Ok(Self(ActorPre::new(linker.instantiate_pre(component)?)?))
    }

    pub(in crate::firmware) fn component(&self) -> &Component {
        self.0.instance_pre().component()
    }
}
