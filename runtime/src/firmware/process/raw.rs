//! All that is unsafe about host processes: code that somebody else compiled, and descriptors that
//! somebody else opened.

use std::{fs::File, io};

use wasmtime::{Engine, Module, component::Component};

/// Descriptors from this one on are nobody's in a process that has just begun.
const FIRST_OWN: u32 = 3;

/// A core module that the parent of this process has compiled. The pages of the file are shared with
/// all processes that run it.
///
/// # Errors
/// What the engine said, such as that it is another version's.
#[expect(unsafe_code, reason = "compiled code is run as it is")]
pub(in crate::firmware) fn module(engine: &Engine, compiled: File) -> wasmtime::Result<Module> {
    // SAFETY: `compiled` is what `Module::serialize` gave in the parent, which is the same executable
    // (it starts `/proc/self/exe`, or what its operator says is the same). It is an anonymous file
    // that only the parent could have written and that was sealed against writing, growing and
    // shrinking before this process was started, which `artifact::received` has seen to; no path
    // leads to it, and this process got it as a descriptor from its parent. So nobody has changed it,
    // nor can while it is mapped.
    unsafe { Module::deserialize_open_file(engine, compiled) }
}

/// A component that the parent of this process has compiled.
///
/// # Errors
/// As [`module`].
#[expect(unsafe_code, reason = "compiled code is run as it is")]
pub(in crate::firmware) fn component(
    engine: &Engine,
    compiled: &[u8],
) -> wasmtime::Result<Component> {
    // SAFETY: as in `module`; the bytes were read from such a file.
    unsafe { Component::deserialize(engine, compiled) }
}

/// Closes all descriptors but the standard ones. To be called first in a process: what is open then
/// was inherited from a parent that forgot to close it.
///
/// # Errors
/// What the system said: before Linux 5.9 there is no such call.
#[expect(unsafe_code, reason = "descriptors are closed that have no owner")]
pub(super) fn close_inherited() -> io::Result<()> {
    // SAFETY: closes numbers only. This process has opened nothing yet that it keeps, so no owner of a
    // descriptor loses it.
    match unsafe { libc::syscall(libc::SYS_close_range, FIRST_OWN, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
