//! A limit in the manifest of a package is one of its instances.

use super::bench::{ran, session, setting, started};
use super::{ACTOR, COMMAND, SERVER, compile, guests::guest};
use crate::firmware::{
    Answer, Engine, GuestFailure, GuestLimit, Instance, Module, PackageError, Publisher,
    abi::detect::AbiError,
};

/// A guest with the handler `body` and `more` in its manifest.
async fn compiled(engine: &Engine, more: &str, body: &str) -> Result<Module, PackageError> {
    compile(engine, more, guest(body)).await
}

async fn outcome(more: &str, body: &str) -> Result<Answer, GuestFailure> {
    let engine = Engine::new().expect("an engine");
    let module = compiled(&engine, more, body).await.expect("it compiles");
    let instance = Instance::start(&module, &setting(), Publisher::none()).await?;
    instance.handle(b"message", session(&[])).await.map(|(_, answer)| answer)
}

async fn limit(more: &str, body: &str) -> GuestLimit {
    match outcome(more, body).await {
        Err(GuestFailure::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn instructions_are_counted_only_where_the_manifest_says_so() {
    let body = "(local $n i32) (loop
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $n) (i32.const 10000)))) i32.const 0";
    assert_eq!(limit("[limits]\nfuel = 1000", body).await, GuestLimit::Fuel { allowed: 1_000 });
    outcome("[limits]\nfuel = 1000000", body).await.expect("it is enough");
    outcome("", body).await.expect("nobody counts");
}

#[tokio::test]
async fn each_message_has_the_whole_of_the_fuel() {
    let body = "(local $n i32) (loop
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        (br_if 0 (i32.lt_u (local.get $n) (i32.const 1000)))) i32.const 0";
    let engine = Engine::new().expect("an engine");
    let module = compiled(&engine, "[limits]\nfuel = 15000", body).await.expect("it compiles");
    let started = Instance::start(&module, &setting(), Publisher::none()).await;
    let mut instance = started.expect("it starts");
    for _ in 0..10 {
        (instance, _) = instance.handle(b"", session(&[])).await.expect("it is enough");
    }
}

#[tokio::test]
async fn a_deeper_stack_is_had_by_asking_for_it() {
    // Each call takes some 40 bytes of stack at least.
    let body = "(drop (call $deep (i32.const 40000))) i32.const 0)
        (func $deep (param i32) (result i32)
          (if (result i32) (local.get 0)
            (then (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
            (else (i32.const 0)))";
    let failure = outcome("[limits]\nstack = '64 KiB'", body).await.expect_err("it is too deep");
    assert!(failure.to_string().contains("stack"), "{failure}");
    outcome("[limits]\nstack = '8 MiB'", body).await.expect("it is deep enough");
}

#[tokio::test]
async fn a_table_bomb_is_refused_with_both_sizes() {
    let body = "(if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))
        (then unreachable)) i32.const 0) (table $t 10 funcref) (func";
    let told = limit("[limits]\ntable-elements = 1000", body).await;
    assert_eq!(told, GuestLimit::Table { asked: 1_010, allowed: 1_000 });
    outcome("[limits]\ntable-elements = 1010", body).await.expect("it is enough");
    let told = limit("[limits]\ntable-elements = 5", body).await;
    assert_eq!(told, GuestLimit::Table { asked: 10, allowed: 5 }, "at its beginning");
}

/// A component that is a job, made of so many core instances, each with a memory and a table.
fn component(instances: usize) -> String {
    let more = "(core instance (instantiate $m))".repeat(instances - 1);
    format!(
        r#"(component
          (core module $m (memory 0) (table 0 funcref)
            (func (export "run") (result i32) i32.const 0))
          (core instance $i (instantiate $m)) {more}
          (func $run (result (result)) (canon lift (core func $i "run")))
          (instance $cli (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $cli)))"#
    )
}

#[tokio::test]
async fn a_component_of_more_core_instances_than_it_may_have_is_refused_with_the_limit() {
    let ended = async |limit: &str, instances: usize| {
        ran(component(instances), limit, &setting()).await.map(|(code, _)| code)
    };
    let few = "[limits]\ninstances = 9";
    assert_eq!(ended(few, 9).await, Ok(0));
    let items =
        |asked, allowed| GuestLimit::Items { what: "core instances".into(), asked, allowed };
    let failure = ended(few, 10).await.expect_err("is refused");
    assert_eq!(failure, GuestFailure::Limit(items(10, 9)));
    let told = "it asked for 10 core instances, at most 9 are allowed by `limits.instances`";
    assert_eq!(failure.to_string(), told);
    assert_eq!(ended("", 64).await, Ok(0));
    assert_eq!(ended("", 65).await, Err(items(65, 64).into()), "where nothing is said");
    // An actor and a server are refused alike, before anything of them runs.
    let one = "[limits]\ninstances = 1";
    let failure = started(ACTOR, one).await.expect_err("is refused");
    assert_eq!(failure, GuestFailure::Limit(items(2, 1)));
    // A core module is one instance, and has at most 8 memories in any case.
    let memories = |count: usize| format!("i32.const 0) {} (func", "(memory 0) ".repeat(count - 1));
    let of = async |count: usize| outcome("[limits]\ninstances = 1", &memories(count)).await;
    of(8).await.expect("it is one instance");
    let refused = of(9).await.expect_err("is refused");
    let many = GuestLimit::Items { what: "memories".into(), asked: 9, allowed: 8 };
    assert_eq!(refused, GuestFailure::Limit(many));
}

#[tokio::test]
async fn a_component_that_imports_what_there_is_not_is_refused_by_its_name() {
    let engine = Engine::new().expect("an engine");
    let import = r#"(component (import "odeum:nothing/here@1.0.0" (instance (export "f" (func))))"#;
    let text = component(1).replacen("(component", import, 1);
    let refused = compile(&engine, "", text).await.expect_err("is refused");
    assert!(matches!(refused, PackageError::NotLinked { .. }), "{refused}");
    assert!(refused.to_string().contains("odeum:nothing/here@1.0.0"), "{refused}");
}

#[tokio::test]
async fn a_reply_has_at_most_what_the_manifest_allows() {
    let body = "(call $reply (i32.const 0) (i32.const 2000)) i32.const 0";
    let told = limit("[limits]\noutput = '1 KiB'", body).await;
    assert_eq!(told, GuestLimit::Reply { got: 2_000, allowed: 1_024 });
    outcome("", body).await.expect("by default it is enough");
}

#[tokio::test]
async fn a_manifest_that_says_another_sort_of_guest_is_refused() {
    let engine = Engine::new().expect("an engine");
    let refused = compiled(&engine, "abi = 'firmlet'", "i32.const 0").await;
    assert!(matches!(refused, Err(PackageError::Abi(AbiError::Other { .. }))), "{refused:?}");
    let taken = compiled(&engine, "abi = 'odeum-actor-core'", "i32.const 0").await;
    taken.expect("it is that");
}

#[tokio::test]
async fn a_manifest_that_asks_for_what_a_node_does_not_do_is_refused_with_the_key() {
    let engine = Engine::new().expect("an engine");
    for (asks, named) in [
        ("args = ['-v']", "args"),
        ("[checkpoint]\nmessages = 9", "checkpoint"),
        ("[capabilities]\nhttp = ['example.org']", "capabilities.http"),
        ("[capabilities]\nenvironment = ['TZ']", "capabilities.environment"),
    ] {
        let refused = compiled(&engine, asks, "i32.const 0").await;
        let error = refused.expect_err("refused");
        assert!(matches!(error, PackageError::Beyond { key, .. } if key == named), "{error}");
    }
    // Nobody sees the memory of what runs to its end, or for each request.
    for file in [COMMAND, SERVER] {
        let threshold = "[health.memory]\nabove = '1 MiB'\nlasting = '10s'";
        let error = compile(&engine, threshold, file).await.expect_err("refused");
        assert!(error.to_string().contains("the manifest asks for `health.memory`"), "{error}");
    }
}
