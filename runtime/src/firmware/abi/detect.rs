//! Which ABI a module has, told from its imports and exports.
//!
//! Pure: a shape in, a verdict out. A package may name its ABI; then only that one is considered, and
//! a module that lacks something of it is told what. Otherwise exactly one must fit.
//!
//! What tells them apart, for core modules: `_start` is `()` in a WASI command and `(i32)` in a
//! firmlet; a reactor has none and takes something from WASI, or has `_initialize`; an actor has
//! none either and has `odeum_handle` without WASI. Components say what they are by the interfaces
//! they export.

use super::shape::{Layer, Shape};
use crate::package::manifest::Abi;

/// The module that WASI preview 1 is imported from.
pub(in crate::firmware) const WASI: &str = "wasi_snapshot_preview1";

/// Most names of a module that an error lists. What makes the difference is seldom further back.
const NAMES: usize = 12;

/// What each ABI needs, as errors say it.
const NEEDS: &[(Abi, &str)] = &[
    (
        Abi::ActorCore,
        "the exports `memory`, `odeum_alloc: (i32) -> i32` and `odeum_handle: (i32, i32) -> i32`",
    ),
    (Abi::WasiCommand, "the export `_start: ()`"),
    (
        Abi::WasiReactor,
        "no `_start`, and the export `_initialize: ()` or an import from `wasi_snapshot_preview1`",
    ),
    (Abi::Firmlet, "the export `_start: (i32)`, and imports from `env` such as `tw_log`"),
    (Abi::Actor, "a component that exports `odeum:actor/guest`"),
    (Abi::WasiCli, "a component that exports `wasi:cli/run`"),
    (Abi::WasiHttp, "a component that exports `wasi:http/incoming-handler`"),
];

/// Why no ABI, or none alone, fits a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbiError {
    /// It has what several ABIs are told by. Name the one that is meant in the manifest.
    #[error(
        "the module may be {could_be}, and only one is right: write `abi = \"…\"` into its \
         manifest; {found}"
    )]
    Ambiguous {
        /// The names of those.
        could_be: Box<str>,
        /// What it imports and exports.
        found: Box<str>,
    },
    /// It has what no ABI is told by.
    #[error("the module fits no ABI that Odeum knows: {found}. {needs}")]
    None {
        /// What it imports and exports.
        found: Box<str>,
        /// What each ABI would need.
        needs: Box<str>,
    },
    /// Its manifest names an ABI that it cannot have.
    #[error("its manifest says `abi = \"{named}\"`, which needs {needs}; {found}")]
    Other {
        /// The ABI that was named.
        named: Abi,
        /// What that needs.
        needs: &'static str,
        /// What it imports and exports.
        found: Box<str>,
    },
}

/// The ABI of a module of that shape. `named` is what its manifest says, if it says it.
///
/// # Errors
/// [`AbiError`] says what was found and what each ABI would need.
pub(in crate::firmware) fn detect(shape: &Shape, named: Option<Abi>) -> Result<Abi, AbiError> {
    let fitting: Vec<Abi> = match shape.layer {
        Layer::Core => of_core(shape),
        Layer::Component => of_component(shape),
    };
    if let Some(named) = named {
        if fitting.contains(&named) || (named == Abi::WasiReactor && may_be_reactor(shape)) {
            return Ok(named);
        }
        let needs = NEEDS.iter().find(|(abi, _)| *abi == named).map_or("", |(_, needs)| needs);
        return Err(AbiError::Other { named, needs, found: found(shape) });
    }
    match fitting.as_slice() {
        [one] => Ok(*one),
        [] => {
            let need = |(abi, needs): &(Abi, &str)| format!("{abi} needs {needs}");
            let needs = NEEDS.iter().map(need).collect::<Vec<_>>().join("; ").into();
            Err(AbiError::None { found: found(shape), needs })
        }
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(AbiError::Ambiguous { could_be: names.join(" or ").into(), found: found(shape) })
        }
    }
}

fn of_core(shape: &Shape) -> Vec<Abi> {
    let start = shape.export("_start");
    let is_firmlet = start == Some("(i32)")
        || shape.export("_on_message_received").is_some()
        || shape.imports.iter().any(|it| &*it.module == "env" && it.name.starts_with("tw_"));
    let handles = shape.export("odeum_handle").is_some() || shape.export("odeum_alloc").is_some();
    let is_actor = handles || shape.imports_from("odeum");
    let is_command = start == Some("()");
    let is_reactor = start.is_none() && may_be_reactor(shape) && !is_firmlet;
    let is_core = is_actor && !is_reactor;
    [
        (is_core, Abi::ActorCore),
        (is_command, Abi::WasiCommand),
        (is_reactor, Abi::WasiReactor),
        (is_firmlet, Abi::Firmlet),
    ]
    .into_iter()
    .filter_map(|(fits, abi)| fits.then_some(abi))
    .collect()
}

/// A firmlet's `_initialize` takes a string; a reactor's takes nothing.
fn may_be_reactor(shape: &Shape) -> bool {
    let initializes = shape.export("_initialize") == Some("()");
    shape.layer == Layer::Core && (initializes || shape.imports_from(WASI))
}

fn of_component(shape: &Shape) -> Vec<Abi> {
    let exports = |interface: &str| {
        shape.exports.iter().any(|export| {
            &*export.name == interface || export.name.starts_with(&format!("{interface}@"))
        })
    };
    [
        ("odeum:actor/guest", Abi::Actor),
        ("wasi:http/incoming-handler", Abi::WasiHttp),
        ("wasi:cli/run", Abi::WasiCli),
    ]
    .into_iter()
    .filter_map(|(interface, abi)| exports(interface).then_some(abi))
    .collect()
}

/// What it has, in one sentence.
fn found(shape: &Shape) -> Box<str> {
    let exports = shape.exports.iter().map(|it| match &*it.ty {
        "" => format!("`{}`", it.name),
        ty => format!("`{}: {ty}`", it.name),
    });
    let mut modules: Vec<String> = shape
        .imports
        .iter()
        .map(|it| match &*it.module {
            WASI | "" => format!("`{}`", if it.module.is_empty() { &it.name } else { &it.module }),
            module => format!("`{module}.{}`", it.name),
        })
        .collect();
    modules.dedup();
    let what = match shape.layer {
        Layer::Core => "module",
        Layer::Component => "component",
    };
    let (exports, imports) = (listed(exports), listed(modules.into_iter()));
    format!("this {what} exports {exports} and imports {imports}").into()
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::abi::shape::{Export, Import};

    fn shape(layer: Layer, imports: &[(&str, &str)], exports: &[(&str, &str)]) -> Shape {
        let import = |(module, name): &(&str, &str)| Import {
            module: (*module).into(),
            name: (*name).into(),
            ty: "()".into(),
        };
        let export = |(name, ty): &(&str, &str)| Export { name: (*name).into(), ty: (*ty).into() };
        Shape {
            layer,
            imports: imports.iter().map(import).collect(),
            exports: exports.iter().map(export).collect(),
        }
    }

    #[test]
    fn every_abi_is_told_from_what_a_module_imports_and_exports() {
        let (core, component) = (Layer::Core, Layer::Component);
        const HANDLE: (&str, &str) = ("odeum_handle", "(i32, i32) -> i32");
        type Names = &'static [(&'static str, &'static str)];
        let cases: &[(Layer, Names, Names, Abi)] = &[
            (core, &[("odeum", "reply")], &[HANDLE], Abi::ActorCore),
            (core, &[], &[("odeum_alloc", "(i32) -> i32")], Abi::ActorCore),
            (core, &[("odeum", "log")], &[], Abi::ActorCore),
            (core, &[], &[("_start", "()")], Abi::WasiCommand),
            (core, &[(WASI, "fd_write")], &[("_start", "()")], Abi::WasiCommand),
            (core, &[(WASI, "fd_write")], &[("run", "()")], Abi::WasiReactor),
            (core, &[], &[("_initialize", "()")], Abi::WasiReactor),
            (core, &[(WASI, "fd_write"), ("odeum", "reply")], &[HANDLE], Abi::WasiReactor),
            (core, &[("env", "tw_log")], &[("_start", "(i32)")], Abi::Firmlet),
            (core, &[("env", "abort")], &[("_start", "(i32)")], Abi::Firmlet),
            (
                core,
                &[("env", "tw_log")],
                &[("_initialize", "(i32, i32)"), ("_start", "(i32)")],
                Abi::Firmlet,
            ),
            (component, &[], &[("wasi:cli/run@0.2.3", "")], Abi::WasiCli),
            (component, &[], &[("wasi:http/incoming-handler@0.2.0", "")], Abi::WasiHttp),
            (component, &[], &[("odeum:actor/guest@1.0.0", "")], Abi::Actor),
        ];
        for (layer, imports, exports, abi) in cases {
            let shape = shape(*layer, imports, exports);
            assert_eq!(detect(&shape, None), Ok(*abi), "{shape:?}");
            assert_eq!(detect(&shape, Some(*abi)), Ok(*abi), "{shape:?}");
        }
    }

    #[test]
    fn a_module_of_no_abi_is_told_what_it_has_and_what_each_would_need() {
        let shape = shape(Layer::Core, &[("env", "print")], &[("main", "() -> i32")]);
        let said = detect(&shape, None).expect_err("none").to_string();
        assert!(said.contains("exports `main: () -> i32` and imports `env.print`"), "{said}");
        for (abi, needs) in NEEDS {
            assert!(said.contains(&format!("{abi} needs {needs}")), "{said}");
        }
    }

    #[test]
    fn one_that_fits_several_is_refused_until_its_manifest_says_which() {
        let both =
            shape(Layer::Core, &[], &[("_start", "()"), ("odeum_handle", "(i32, i32) -> i32")]);
        let said = detect(&both, None).expect_err("ambiguous").to_string();
        assert!(said.contains("odeum-actor-core or wasi-command"), "{said}");
        assert!(said.contains("abi = "), "{said}");
        assert_eq!(detect(&both, Some(Abi::WasiCommand)), Ok(Abi::WasiCommand));
        let two = shape(
            Layer::Component,
            &[],
            &[("wasi:cli/run@0.2.3", ""), ("wasi:http/incoming-handler@0.2.3", "")],
        );
        let said = detect(&two, None).expect_err("ambiguous").to_string();
        assert!(said.contains("wasi-http or wasi-cli"), "{said}");
    }

    #[test]
    fn a_manifest_that_names_what_cannot_be_is_told_what_that_needs() {
        let command = shape(Layer::Core, &[(WASI, "fd_write")], &[("_start", "()")]);
        for named in [Abi::Firmlet, Abi::WasiHttp, Abi::ActorCore] {
            let said = detect(&command, Some(named)).expect_err("another").to_string();
            assert!(said.contains(&format!("abi = \"{named}\"")), "{said}");
            assert!(said.contains("`_start: ()`"), "{said}");
        }
    }

    #[test]
    fn a_module_with_a_thousand_exports_is_told_in_one_line() {
        let names: Vec<String> = (0..1_000).map(|n| format!("f{n}")).collect();
        let exports: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "()")).collect();
        let said = detect(&shape(Layer::Core, &[], &exports), None).expect_err("none").to_string();
        assert!(said.contains("`f11: ()` and 988 more"), "{said}");
    }
}
