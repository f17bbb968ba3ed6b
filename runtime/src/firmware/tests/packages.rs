//! Files that are no firmware: each is told in one sentence.

use super::compile;
use crate::firmware::{Engine, Module, PackageError};

async fn check(file: &[u8]) -> Result<Module, PackageError> {
    compile(&Engine::new().expect("an engine"), "", file).await
}

async fn refused(file: &[u8]) -> String {
    check(file).await.expect_err("is refused").to_string()
}

#[tokio::test]
async fn what_is_no_wasm_is_told_what_it_is() {
    for (file, found) in [
        (&b"\x7fELF\x02\x01\x01"[..], "an ELF file"),
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"hello\nworld", "text that begins with \"hello\""),
        (b"\xff\xfe\x00\x01\x02", "binary data that begins with ff fe 00 01"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"\0asm\x09\0\0\0", "unknown version"),
        (b"\0asm", "unknown version"),
    ] {
        let error = refused(file).await;
        assert!(error.starts_with("this is no WebAssembly module: it is "), "{error}");
        assert!(error.contains(found), "{error}");
    }
}

#[tokio::test]
async fn text_that_does_not_parse_is_told_where() {
    let error = check(b"(module\n  (func (wrong)))").await.expect_err("is refused");
    assert!(matches!(error, PackageError::BadText { line: 2, column: 10, .. }), "{error:?}");
}

#[tokio::test]
async fn a_truncated_module_is_not_valid() {
    let wasm = wat::parse_str(r#"(module (memory (export "memory") 1))"#).expect("parses");
    let error = refused(&wasm[..wasm.len() - 1]).await;
    assert!(error.starts_with("this WebAssembly module is not valid"), "{error}");
}

#[tokio::test]
async fn a_missing_export_is_named() {
    let error = refused(
        br#"(module (memory (export "memory") 1)
            (func (export "odeum_alloc") (param i32) (result i32) i32.const 8))"#,
    )
    .await;
    assert_eq!(error, "the module does not export `odeum_handle`: expected (i32, i32) -> i32");
    let error = refused(br#"(module (import "odeum" "log" (func (param i32 i32 i32))))"#).await;
    assert_eq!(error, "the module does not export `memory`: expected a memory");
}

#[tokio::test]
async fn a_module_of_no_abi_is_told_what_each_would_need() {
    let error = refused(b"(module)").await;
    assert!(error.starts_with("the module fits no ABI"), "{error}");
    assert!(error.contains("wasi-command needs the export `_start: ()`"), "{error}");
}

#[tokio::test]
async fn an_export_of_another_type_is_named_with_both_types() {
    let error = refused(
        br#"(module (memory (export "memory") 1)
            (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
            (func (export "odeum_handle") (param i64)))"#,
    )
    .await;
    assert_eq!(error, "the module's export `odeum_handle` is (i64), expected (i32, i32) -> i32");
}

#[tokio::test]
async fn every_unknown_import_is_named() {
    let error = refused(
        br#"(module
            (import "env" "abort" (func))
            (import "odeum" "teleport" (func))
            (import "odeum" "reply" (func (param i32 i32)))
            (memory (export "memory") 1)
            (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
            (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .await;
    assert_eq!(
        error,
        "the module imports what Odeum does not offer to a module of the ABI odeum-actor-core: \
         env.abort, odeum.teleport; if it does its work without calling them, write \
         `missing-imports = \"trap\"` in its manifest"
    );
}

#[tokio::test]
async fn an_import_of_another_type_is_named_with_both_types() {
    let error = refused(
        br#"(module
            (import "odeum" "reply" (func (param i64)))
            (memory (export "memory") 1)
            (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
            (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#,
    )
    .await;
    assert_eq!(error, "the module imports `odeum.reply` as (i64), it is (i32, i32)");
}

#[tokio::test]
async fn an_import_that_is_no_function_is_refused_whatever_the_manifest_says() {
    let wat = br#"(module
        (import "env" "abort" (func))
        (import "env" "base" (global i32))
        (memory (export "memory") 1)
        (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
        (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#;
    let error = refused(wat).await;
    assert!(error.ends_with(": env.abort, env.base"), "nothing would help: {error}");
    let engine = Engine::new().expect("an engine");
    let error = compile(&engine, "missing-imports = 'trap'", wat).await.expect_err("is refused");
    assert!(error.to_string().ends_with(": env.base"), "{error}");
}

#[tokio::test]
async fn only_so_many_functions_may_be_missing() {
    let module = |count: usize| {
        let imports = (0..count).map(|number| format!("(import \"env\" \"f{number}\" (func))"));
        let imports = imports.collect::<String>();
        format!(
            r#"(module {imports} (memory (export "memory") 1)
            (func (export "odeum_alloc") (param i32) (result i32) i32.const 8)
            (func (export "odeum_handle") (param i32 i32) (result i32) i32.const 0))"#
        )
    };
    let (engine, trap) = (Engine::new().expect("an engine"), "missing-imports = 'trap'");
    compile(&engine, trap, module(4_096)).await.expect("they are stood in for");
    let error = compile(&engine, trap, module(4_097)).await.expect_err("is refused");
    assert_eq!(
        error.to_string(),
        "the module imports 4097 functions that Odeum does not offer, at most 4096 may be missing \
         with `missing-imports = \"trap\"`"
    );
    let error = refused(module(4_097).as_bytes()).await;
    assert!(error.contains("env.f0, env.f1, ") && !error.contains("missing-imports"), "{error}");
}
