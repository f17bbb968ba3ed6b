//! `odeum:actor` for components, host side.
//!
//! `runtime/wit/odeum-actor.wit` is the contract. What a guest does to others is in [`Dealings`].

mod host;
mod instance;

use std::sync::Arc;

use odeum_proto::ReplicaId;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use self::bindings::{Actor, ActorPre};
pub(in crate::firmware) use self::instance::ActorInstance;
use super::{component, core::Message, dealings::Dealings, wasi};
use crate::{
    firmware::{
        error::GuestFailure,
        setting::Setting,
        store::{Meter, Metered},
    },
    package::manifest::Manifest,
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

/// What the host keeps beside an instance.
pub(in crate::firmware) struct Acting {
    meter: Meter,
    wasi: WasiCtx,
    table: ResourceTable,
    /// The message at hand; `None` at rest.
    message: Option<Message>,
    dealings: Dealings,
    /// Bytes that one message may send.
    output: u64,
}

impl Acting {
    /// What a new instance gets.
    async fn new(manifest: &Manifest, setting: &Setting) -> Result<Self, GuestFailure> {
        let meter = setting.meter(manifest);
        let wasi = wasi::context(manifest, setting, &Arc::clone(&meter.denials)).await?.build();
        let dealings = Dealings::new(manifest, Arc::clone(&meter.denials));
        Ok(Self {
            meter,
            wasi,
            table: ResourceTable::new(),
            message: None,
            dealings,
            output: manifest.limits.output.bytes(),
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
