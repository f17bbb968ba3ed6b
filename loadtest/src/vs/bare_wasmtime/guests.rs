//! The guests, as text: what they are does not matter, but for their size and their manners.

use std::fmt::Write as _;

use odeum_runtime::package::Package;
use odeum_runtime::package::manifest::Manifest;
use odeum_runtime::package::normalise::normalise;

/// Functions of the large guest, which nobody calls: as many as make 2 MB of code.
const FUNCTIONS: usize = 14_000;
/// Steps of each.
const STEPS: usize = 20;

const ECHO: &str = r#"
    (import "odeum" "reply" (func $reply (param i32 i32)))
    (memory (export "memory") 1)
    (func (export "odeum_alloc") (param $len i32) (result i32) i32.const 1024)
    (func (export "odeum_handle") (param $ptr i32) (param $len i32) (result i32)
      (call $reply (local.get $ptr) (local.get $len))
      i32.const 0)"#;

/// Gives each message back.
pub(super) fn echo() -> anyhow::Result<Package> {
    package("", &format!("(module {ECHO})"))
}

/// The same in a process of its own.
pub(super) fn apart() -> anyhow::Result<Package> {
    package("isolation = 'process'", &format!("(module {ECHO})"))
}

/// The same with 2 MB of code that is not run.
pub(super) fn large() -> anyhow::Result<Package> {
    let mut text = format!("(module {ECHO}");
    for function in 0..FUNCTIONS {
        text.push_str("(func (param i32) (result i32) local.get 0");
        for step in 0..STEPS {
            let number = 1_000_000 + function * STEPS + step;
            write!(text, " i32.const {number} i32.xor")?;
        }
        text.push(')');
    }
    text.push(')');
    package("", &text)
}

/// A job that never ends.
pub(super) fn endless() -> anyhow::Result<Package> {
    let text = r#"(module (memory (export "memory") 1) (func (export "_start") (loop br 0)))"#;
    package("", text)
}

fn package(lines: &str, text: &str) -> anyhow::Result<Package> {
    let manifest = format!("name = 'guest'\nversion = '1.0.0'\n{lines}\n");
    let entry = Manifest::parse(manifest.as_bytes())?.entry;
    let wasm = odeum_runtime::firmware::to_wasm(text.to_owned().into())?;
    let (module, _) = normalise(&wasm)?;
    Ok(Package::assemble(manifest.into(), [(entry, module.into())])?)
}
