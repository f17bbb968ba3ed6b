//! Handles of a guest's own values, for reactors that were built with the bindings of before there were
//! components: `canonical_abi.resource_new_NAME` makes one and `resource_get_NAME` gives what it is of.
//!
//! A host may choose its handles. Here one is the value itself, so there is no table of them that could
//! grow or that would have to go with a guest when it moves. What frees a value is an export of the guest
//! (`canonical_abi_drop_NAME`), which its caller calls.

use wasmtime::{Linker, Module};

/// The module they are imported from.
const MODULE: &str = "canonical_abi";
const NAMES: &[&str] = &["resource_new_", "resource_get_"];
/// The type of each.
pub(in crate::firmware) const SIGNATURE: &str = "(i32) -> i32";

/// Whether it is one of these functions.
pub(in crate::firmware) fn is_one(module: &str, name: &str) -> bool {
    module == MODULE && NAMES.iter().any(|begin| name.starts_with(begin))
}

/// Adds those that `module` imports.
pub(in crate::firmware) fn add_to_linker<T: 'static>(
    linker: &mut Linker<T>,
    module: &Module,
) -> wasmtime::Result<()> {
    // A module may import the same twice.
    linker.allow_shadowing(true);
    for import in module.imports().filter(|it| is_one(it.module(), it.name())) {
        linker.func_wrap(import.module(), import.name(), |value: i32| value)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}
