//! A normalised module behaves as before, and its state can be carried into another instance.

use proptest::prelude::*;
use wasmtime::{Engine, Instance, Ref, Store, Val};

use super::*;

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("it parses")
}

fn normalised(text: &str) -> Vec<u8> {
    let (wasm, movability) = normalise(&wasm(text)).expect("it is a module");
    assert_eq!(movability, Movability::Movable);
    wasm
}

fn obstacles(text: &str) -> String {
    let before = wasm(text);
    let (after, movability) = normalise(&before).expect("it is a module");
    assert_eq!(after, before, "what cannot be moved is left as it is");
    assert_eq!(super::movability(&after).as_ref(), Ok(&movability));
    movability.to_string()
}

fn exports(wasm: &[u8]) -> Vec<String> {
    let module = wasmtime::Module::new(&Engine::default(), wasm).expect("it is valid");
    module.exports().map(|export| export.name().to_owned()).collect()
}

/// Hidden state of every sort: two memories, globals, a changed table, segments, a start function.
const STATE: &str = r#"(module
  (type $op (func (param i32) (result i32)))
  (memory 1) (memory $second 1)
  (global $count (mut i32) (i32.const 0))
  (global $last (mut funcref) (ref.null func))
  (global $fixed i32 (i32.const 7))
  (table $ops 3 funcref)
  (table $still 1 funcref)
  (elem (table $still) (i32.const 0) func $add)
  (elem $kinds funcref (ref.func $add) (ref.func $double))
  (data $words "abcd")
  (start $begin)
  (func $begin (global.set $count (i32.const 100)))
  (func $add (type $op) (i32.add (local.get 0) (i32.const 1)))
  (func $double (type $op) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "step") (param i32) (result i32)
    (global.set $count (i32.add (global.get $count) (local.get 0)))
    (i32.store (i32.const 4096) (global.get $count))
    (i32.store $second (i32.const 64) (local.get 0))
    (if (i32.eq (local.get 0) (i32.const 1)) (then
      (table.init $ops $kinds (i32.const 0) (i32.const 0) (i32.const 2))
      (elem.drop $kinds)
      (memory.init $words (i32.const 8) (i32.const 0) (i32.const 4))
      (data.drop $words)))
    (if (i32.eq (local.get 0) (i32.const 2)) (then
      (global.set $last (ref.func $double))
      (table.set $ops (i32.const 2) (global.get $last))
      (drop (memory.grow (i32.const 1)))
      (drop (table.grow $ops (ref.null func) (i32.const 2)))))
    (i32.add (global.get $count) (i32.add (memory.size) (table.size $ops))))
  (func (export "apply") (param i32 i32) (result i32)
    (call_indirect $ops (type $op) (local.get 1) (local.get 0)))
  (func (export "sum") (result i32)
    (i32.add (i32.load (i32.const 8))
      (i32.add (i32.load (i32.const 4096)) (i32.load $second (i32.const 64)))))
  (func (export "again")
    (memory.init $words (i32.const 8) (i32.const 0) (i32.const 4))))"#;

struct Run {
    store: Store<()>,
    instance: Instance,
}

impl Run {
    /// An instance at its beginning.
    fn cold(engine: &Engine, wasm: &[u8]) -> Self {
        let mut run = Self::fresh(engine, wasm);
        run.call(START, &[]).expect("it starts");
        run
    }

    /// One whose start function did not run.
    fn fresh(engine: &Engine, wasm: &[u8]) -> Self {
        let module = wasmtime::Module::new(engine, wasm).expect("it is valid");
        let mut store = Store::new(engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("it can be instantiated");
        Self { store, instance }
    }

    fn call(&mut self, name: &str, arguments: &[i32]) -> Result<i32, String> {
        let func = self.instance.get_func(&mut self.store, name).expect("an export");
        let arguments: Vec<Val> = arguments.iter().copied().map(Val::I32).collect();
        let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
        func.call(&mut self.store, &arguments, &mut results)
            .map_err(|error| error.root_cause().to_string())?;
        Ok(results.first().map_or(0, |result| result.unwrap_i32()))
    }

    fn names(&mut self) -> Vec<String> {
        self.instance.exports(&mut self.store).map(|export| export.name().to_owned()).collect()
    }

    /// The index of the function that a reference is of, as the exports tell it.
    fn index_of(&mut self, func: Option<wasmtime::Func>) -> Option<String> {
        let raw = func?.to_raw(&mut self.store);
        let names = self.names().into_iter().filter(|name| name.contains(".func."));
        names.into_iter().find(|name| {
            let other = self.instance.get_func(&mut self.store, name).expect("a function");
            other.to_raw(&mut self.store) == raw
        })
    }

    /// The same state in another instance, carried by the exports of the pass alone.
    fn moved(mut self, engine: &Engine, wasm: &[u8]) -> Self {
        let mut to = Self::fresh(engine, wasm);
        for name in self.names() {
            let Some(kind) = name.strip_prefix(PREFIX) else { continue };
            match kind.split('.').next() {
                Some("global") => self.move_global(&mut to, &name),
                Some("memory") => self.move_memory(&mut to, &name),
                Some("table") => self.move_table(&mut to, &name),
                Some("data" | "elem") => {
                    if let Some(segment) = name.strip_suffix(".dropped")
                        && self.call(&name, &[]).is_err()
                    {
                        to.call(&format!("{segment}.drop"), &[]).expect("it can be dropped");
                        to.call(&name, &[]).expect_err("it is dropped");
                    }
                }
                _ => {}
            }
        }
        to
    }

    fn func_of(&mut self, name: Option<String>) -> Option<wasmtime::Func> {
        name.map(|name| self.instance.get_func(&mut self.store, &name).expect("a function"))
    }

    fn move_global(&mut self, to: &mut Self, name: &str) {
        let global = self.instance.get_global(&mut self.store, name).expect("a global");
        let value = match global.get(&mut self.store) {
            Val::FuncRef(func) => {
                let index = self.index_of(func);
                Val::FuncRef(to.func_of(index))
            }
            value => value,
        };
        let global = to.instance.get_global(&mut to.store, name).expect("a global");
        global.set(&mut to.store, value).expect("it is set");
    }

    fn move_memory(&mut self, to: &mut Self, name: &str) {
        let memory = self.instance.get_memory(&mut self.store, name).expect("a memory");
        let into = to.instance.get_memory(&mut to.store, name).expect("a memory");
        let more = memory.size(&self.store) - into.size(&to.store);
        into.grow(&mut to.store, more).expect("it grows");
        into.data_mut(&mut to.store).copy_from_slice(memory.data(&self.store));
    }

    fn move_table(&mut self, to: &mut Self, name: &str) {
        let table = self.instance.get_table(&mut self.store, name).expect("a table");
        let into = to.instance.get_table(&mut to.store, name).expect("a table");
        let more = table.size(&self.store) - into.size(&to.store);
        into.grow(&mut to.store, more, Ref::Func(None)).expect("it grows");
        for at in 0..table.size(&self.store) {
            let Some(Ref::Func(func)) = table.get(&mut self.store, at) else {
                unreachable!("a table of functions")
            };
            let index = self.index_of(func);
            let func = to.func_of(index);
            into.set(&mut to.store, at, Ref::Func(func)).expect("it is set");
        }
    }

    fn look(&mut self) -> Vec<Result<i32, String>> {
        let mut seen: Vec<_> = (0..5).map(|op| self.call("apply", &[op, 21])).collect();
        seen.extend([self.call("sum", &[]), self.call("again", &[]), self.call("step", &[0])]);
        seen
    }
}

#[test]
fn all_state_can_be_carried_into_another_instance_after_any_step() {
    let (engine, wasm) = (Engine::default(), normalised(STATE));
    for steps in [&[][..], &[5], &[1], &[1, 2], &[2, 3], &[1, 2, 2, 9]] {
        let mut stays = Run::cold(&engine, &wasm);
        let mut moves = Run::cold(&engine, &wasm);
        for step in steps {
            let stayed = stays.call("step", &[*step]);
            moves = moves.moved(&engine, &wasm);
            assert_eq!(moves.call("step", &[*step]), stayed, "{steps:?}");
        }
        assert_eq!(moves.moved(&engine, &wasm).look(), stays.look(), "{steps:?}");
    }
}

#[test]
fn exactly_what_is_needed_is_exported() {
    let mut names = exports(&normalised(STATE));
    names.retain(|name| name.starts_with(PREFIX));
    names.sort();
    let own = |name: &str| format!("{PREFIX}{name}");
    let mut expected: Vec<String> = [
        "start",
        "global.0",
        "global.1",
        "memory.0",
        "memory.1",
        "table.0",
        "func.1",
        "func.2",
        "data.0.dropped",
        "data.0.drop",
        "elem.1.dropped",
        "elem.1.drop",
    ]
    .map(own)
    .into();
    expected.sort();
    assert_eq!(names, expected);
    let plain =
        normalised("(module (memory 1) (table 1 funcref) (elem (i32.const 0) $f) (func $f))");
    assert_eq!(exports(&plain), [own("memory.0")], "the table never changes");
    assert_eq!(exports(&normalised("(module)")), [""; 0]);
}

#[test]
fn the_code_keeps_its_bytes() {
    let before = wasm(STATE);
    let after = normalised(STATE);
    let code = |wasm: &[u8]| {
        let bodies = wasmparser::Parser::new(0).parse_all(wasm).filter_map(|payload| {
            let wasmparser::Payload::CodeSectionEntry(body) = payload.expect("valid") else {
                return None;
            };
            let range = body.range();
            Some(wasm[range.start as usize..range.end as usize].to_vec())
        });
        bodies.collect::<Vec<_>>()
    };
    let (before, after) = (code(&before), code(&after));
    assert_eq!(after[..before.len()], before);
}

#[test]
fn what_stands_in_the_way_is_named() {
    for (text, told) in [
        (
            r#"(module (import "env" "memory" (memory 1)))"#,
            "no: it imports the memory `env.memory`, which others may change",
        ),
        (
            r#"(module (import "env" "t" (table 1 funcref)) (import "env" "g" (global (mut i32))))"#,
            "no: it imports the table `env.t`, which others may change; it imports the mutable \
             global `env.g`, which others may change",
        ),
        ("(module (memory 1 1 shared))", "no: its memory 0 is shared between threads"),
        (
            "(module (global i32 (i32.const 1)) (global (mut externref) (ref.null extern)))",
            "no: its global 1 holds references of another type than funcref",
        ),
        (
            "(module (table 1 externref) (func (table.set (i32.const 0) (ref.null extern))))",
            "no: its table 0 holds references of another type than funcref",
        ),
        (
            r#"(module (func (export "odeum.move.global.0")))"#,
            "no: it exports `odeum.move.global.0`, which is a name of Odeum's own",
        ),
        ("(component)", "no: it is a component, of which only core modules can move yet"),
    ] {
        assert_eq!(obstacles(text), told, "{text}");
    }
    let fine =
        r#"(module (import "env" "g" (global i32)) (import "env" "f" (func)) (table 1 externref))"#;
    assert_eq!(normalise(&wasm(fine)).expect("a module").1, Movability::Movable);
}

#[test]
fn a_module_that_was_not_made_movable_is_told_so() {
    let before = wasm("(module (memory 1))");
    assert_eq!(movability(&before), Ok(Movability::Fixed(vec![Obstacle::NotNormalised])));
    let (after, _) = normalise(&before).expect("a module");
    assert_eq!(movability(&after), Ok(Movability::Movable));
}

#[test]
fn what_is_no_module_is_an_error_with_its_place() {
    let cut = &wasm(STATE)[..60];
    assert!(matches!(normalise(cut), Err(NormaliseError::Unreadable { at, .. }) if at > 8));
    for bytes in [&b""[..], b"\0asm", b"hello world, this is no module"] {
        assert!(
            normalise(bytes).is_err()
                || normalise(bytes).is_ok_and(|(_, m)| m != Movability::Movable)
        );
    }
}

/// Any valid module of what the engine takes.
fn modules() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..4_096).prop_filter_map("too few bytes", |bytes| {
        let config = wasm_smith::Config {
            bulk_memory_enabled: true,
            reference_types_enabled: true,
            max_memories: 3,
            max_tables: 3,
            gc_enabled: false,
            exceptions_enabled: false,
            memory64_enabled: false,
            threads_enabled: false,
            custom_page_sizes_enabled: false,
            wide_arithmetic_enabled: false,
            shared_everything_threads_enabled: false,
            ..wasm_smith::Config::default()
        };
        let mut source = arbitrary::Unstructured::new(&bytes);
        Some(wasm_smith::Module::new(config, &mut source).ok()?.to_bytes())
    })
}

proptest! {
    #[test]
    fn any_module_stays_valid_keeps_its_exports_and_is_normalised_once(before in modules()) {
        let engine = Engine::default();
        let valid = |wasm: &[u8]| wasmtime::Module::validate(&engine, wasm);
        prop_assume!(valid(&before).is_ok());
        let (after, movability) = normalise(&before).expect("it is a module");
        prop_assert!(valid(&after).is_ok(), "{:?}", valid(&after));
        let names = |wasm: &[u8]| {
            let scan = wasmparser::Parser::new(0).parse_all(wasm);
            let mut names = Vec::new();
            for payload in scan {
                if let wasmparser::Payload::ExportSection(exports) = payload.expect("valid") {
                    names.extend(exports.into_iter().map(|export| {
                        let export = export.expect("valid");
                        (export.name.to_owned(), export.kind, export.index)
                    }));
                }
            }
            names
        };
        let (old, new) = (names(&before), names(&after));
        prop_assert_eq!(&new[..old.len()], &old[..]);
        prop_assert!(new[old.len()..].iter().all(|(name, ..)| name.starts_with(PREFIX)));
        let (again, same) = normalise(&after).expect("it is a module");
        prop_assert_eq!(again, after);
        prop_assert_eq!(same, movability);
    }

    #[test]
    fn no_bytes_make_it_fail_otherwise_than_with_an_error(
        at in 0..10_000_usize, byte in any::<u8>(), end in 0..10_000_usize,
    ) {
        let mut bytes = wasm(STATE);
        let length = bytes.len();
        bytes[at % length] = byte;
        let _ = normalise(&bytes);
        let _ = normalise(&bytes[..end % length]);
    }
}
