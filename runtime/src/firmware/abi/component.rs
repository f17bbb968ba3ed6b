//! Components of WASI 0.2, host side: those that run to their end and those that serve HTTP.
//!
//! What they get of the world is in [`super::wasi`]. Each HTTP request has an instance of its own, so
//! requests cannot see each other and a trap costs one of them.

mod http;
mod outgoing;

use std::{sync::Arc, time::Duration};

use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView, p2::bindings::CommandPre};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

pub(in crate::firmware) use self::http::HttpService;
use self::outgoing::Gate;
use super::wasi;
use crate::firmware::{
    error::{GuestFailure, Hint},
    setting::Setting,
    store::{self, Meter, Metered, Stop},
};
use crate::package::manifest::Manifest;

/// What the host keeps beside an instance.
pub(in crate::firmware) struct Part {
    meter: Meter,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    gate: Gate,
    table: ResourceTable,
}

impl Metered for Part {
    fn meter(&self) -> &Meter {
        &self.meter
    }

    fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

impl WasiView for Part {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Part {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.gate }
    }
}

/// What a new instance gets.
async fn part(manifest: &Manifest, setting: &Setting) -> Result<Part, GuestFailure> {
    let meter = setting.meter(manifest);
    let wasi = wasi::context(manifest, setting, &meter.denials).await?.build();
    let gate = Gate::new(manifest, setting, Arc::clone(&meter.denials));
    Ok(Part { meter, wasi, http: WasiHttpCtx::new(), gate, table: ResourceTable::new() })
}

/// All host functions for that component, and in the place of what `manifest` do not allow
/// such as say so.
pub(in crate::firmware) fn linker(
    engine: &wasmtime::Engine,
    component: &Component,
    manifest: &Manifest,
) -> wasmtime::Result<Linker<Part>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    deny(&mut linker, component, manifest)?;
    Ok(linker)
}

/// Puts in the place of what `manifest` do not allow such as say so. Random functions cannot fail in
/// WASI, so a guest that calls them without the capability is ended.
pub(super) fn deny<T: Metered>(
    linker: &mut Linker<T>,
    component: &Component,
    manifest: &Manifest,
) -> wasmtime::Result<()> {
    fn denied<T: Metered>(data: &T) -> Stop {
        data.meter().denials.capability("wasi:random", "random = true");
        Stop::Denied { what: "wasi:random", line: "random = true" }
    }
    if manifest.capabilities.random {
        return Ok(());
    }
    linker.allow_shadowing(true);
    let ty = component.component_type();
    for (import, _) in ty.imports(component.engine()) {
        let functions: [&str; 2] = match import.split_once('@') {
            Some(("wasi:random/random", _)) => ["get-random-bytes", "get-random-u64"],
            Some(("wasi:random/insecure", _)) => {
                ["get-insecure-random-bytes", "get-insecure-random-u64"]
            }
            _ => continue,
        };
        let mut instance = linker.instance(import)?;
        let [bytes, number] = functions;
        instance.func_wrap(bytes, |context, (_,): (u64,)| {
            Err::<(Vec<u8>,), _>(denied(context.data()).into())
        })?;
        instance
            .func_wrap(number, |context, (): ()| Err::<(u64,), _>(denied(context.data()).into()))?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// A component that runs to its end.
pub(in crate::firmware) fn command(
    linker: &Linker<Part>,
    component: &Component,
) -> wasmtime::Result<CommandPre<Part>> {
    CommandPre::new(linker.instantiate_pre(component)?)
}

/// Runs a component to its end; its exit code. `time` is how long it may compute in all.
///
/// # Errors
/// [`GuestFailure`] when it ended otherwise.
pub(in crate::firmware) async fn run(
    pre: &CommandPre<Part>,
    manifest: &Manifest,
    setting: &Setting,
    time: Option<Duration>,
) -> Result<(i32, Hint), GuestFailure> {
    let mut store = store::bounded(pre.engine(), part(manifest, setting).await?);
    store::wind(&mut store, time);
    let ended = async {
        let command = pre.instantiate_async(&mut store).await?;
        command.wasi_cli_run().call_run(&mut store).await
    };
    let code = match ended.await {
        Ok(Ok(())) => 0,
        Ok(Err(())) => 1,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => *code,
            None => return Err(store::failure(&mut store, &error)),
        },
    };
    Ok((code, Hint::default()))
}
