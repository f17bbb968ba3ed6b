//! WASI preview 1, host side: commands, which run to their end, and reactors, which stay.
//!
//! What the previews share is in [`super::wasi`]. A reactor is a guest of the core ABI with WASI
//! beside it: `runtime/wit/odeum-wasi-reactor.md`.

pub(super) mod by_name;
pub(in crate::firmware) mod resources;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;
use wasmtime::{Caller, InstancePre, Linker};
use wasmtime_wasi::{I32Exit, p1::WasiP1Ctx};

use super::{
    call_start,
    core::{Export, Guest},
    detect::WASI,
    wasi,
};
use crate::firmware::{
    error::{GuestFailure, GuestLimit, Hint},
    setting::Setting,
    store::{self, Meter},
};
use crate::package::manifest::Manifest;

/// A reactor may wait for files and clocks, which its time does not count. It may wait so many times
/// longer than it may compute.
const WAITING: u32 = 10;

/// What a preview 1 function gives when the guest lacks a capability. Source: WASI preview 1,
/// `errno`.
const NOT_CAPABLE: i32 = 76;
/// What tells a guest that there are no more folders.
const BAD_FD: i32 = 8;

pub(in crate::firmware) const COMMAND_EXPORTS: &[Export] =
    &[Export { name: "_start", signature: "()", required: true }];

/// All functions of preview 1.
pub(in crate::firmware) const IMPORTS: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// What a guest has of WASI.
pub(in crate::firmware) struct WasiP1 {
    context: WasiP1Ctx,
    hint: Hint,
}

/// The context of one instance.
///
/// # Errors
/// [`GuestFailure::NotGranted`] when the node does not give what the manifest asks for.
pub(in crate::firmware) async fn guest(
    manifest: &Manifest,
    setting: &Setting,
) -> Result<Guest<WasiP1>, GuestFailure> {
    let meter: Meter = setting.meter(manifest);
    let mut builder = wasi::context(manifest, setting, &Arc::clone(&meter.denials)).await?;
    let wasi = WasiP1 { context: builder.build_p1(), hint: Hint::default() };
    Ok(Guest::new(meter, manifest, wasi))
}

/// Adds all host functions, and in the place of what `manifest` do not allow such as say so.
pub(in crate::firmware) fn add_to_linker(
    linker: &mut Linker<Guest<WasiP1>>,
    manifest: &Manifest,
) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |guest| &mut guest.wasi.context)?;
    linker.allow_shadowing(true);
    if !manifest.capabilities.random {
        linker.func_wrap(
            WASI,
            "random_get",
            |caller: Caller<'_, Guest<WasiP1>>, _: i32, _: i32| {
                caller.data().meter.denials.capability("random_get", "random = true");
                NOT_CAPABLE
            },
        )?;
    }
    if manifest.capabilities.folders.is_empty() {
        // Libraries ask for the folders there are when a path is used first, and refuse it
        // themselves when there is none. So this is what the host sees of it.
        let none = |mut caller: Caller<'_, Guest<WasiP1>>, _: i32, _: i32| {
            caller.data_mut().wasi.hint.no_folders = true;
            BAD_FD
        };
        linker.func_wrap(WASI, "fd_prestat_get", none)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Runs a command to its end; its exit code. `time` is how long it may compute in all.
///
/// # Errors
/// [`GuestFailure`] when it ended otherwise.
pub(in crate::firmware) async fn run(
    pre: &InstancePre<Guest<WasiP1>>,
    guest: Guest<WasiP1>,
    time: Option<Duration>,
) -> Result<(i32, Hint), GuestFailure> {
    let mut store = store::bounded(pre.module().engine(), guest);
    store::wind(&mut store, time);
    let ended = async {
        let instance = pre.instantiate_async(&mut store).await?;
        call_start(&instance, &mut store).await?;
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
        start.call_async(&mut store, ()).await
    };
    let code = match ended.await {
        Ok(()) => 0,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => *code,
            None => return Err(store::failure(&mut store, &error)),
        },
    };
    Ok((code, store.data().wasi.hint))
}

/// What `handled` comes to, if it does not wait too long. `time` is how long it may compute.
///
/// # Errors
/// What it came to, or [`GuestLimit::Waiting`].
pub(in crate::firmware) async fn waiting<T>(
    time: Duration,
    handled: impl Future<Output = Result<T, GuestFailure>>,
) -> Result<T, GuestFailure> {
    let allowed = time.saturating_mul(WAITING);
    match timeout(allowed, handled).await {
        Ok(handled) => handled,
        Err(_) => Err(GuestLimit::Waiting { allowed }.into()),
    }
}
