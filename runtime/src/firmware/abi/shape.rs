//! What a module imports and exports, as text: all that its ABI is told from.

use wasmtime::{ExternType, FuncType, component::Component};

use crate::package::normalise;

/// Whether a binary is a module or a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firmware) enum Layer {
    /// A core module.
    Core,
    /// A component.
    Component,
}

/// What a module imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firmware) struct Import {
    /// The module it is imported from; empty in a component.
    pub(in crate::firmware) module: Box<str>,
    pub(in crate::firmware) name: Box<str>,
    /// Its type as the documents write it; empty in a component.
    pub(in crate::firmware) ty: Box<str>,
}

/// What a module exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firmware) struct Export {
    pub(in crate::firmware) name: Box<str>,
    /// Its type as the documents write it; empty in a component.
    pub(in crate::firmware) ty: Box<str>,
}

/// All of a module's imports and exports, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::firmware) struct Shape {
    pub(in crate::firmware) layer: Layer,
    pub(in crate::firmware) imports: Vec<Import>,
    pub(in crate::firmware) exports: Vec<Export>,
}

impl Shape {
    pub(in crate::firmware) fn of_module(module: &wasmtime::Module) -> Self {
        let import = |it: wasmtime::ImportType<'_>| Import {
            module: it.module().into(),
            name: it.name().into(),
            ty: describe(&it.ty()),
        };
        let export = |it: wasmtime::ExportType<'_>| Export {
            name: it.name().into(),
            ty: describe(&it.ty()),
        };
        // What the normaliser added is nothing that the guest is called by.
        let exports = module.exports().filter(|it| !it.name().starts_with(normalise::PREFIX));
        Self {
            layer: Layer::Core,
            imports: module.imports().map(import).collect(),
            exports: exports.map(export).collect(),
        }
    }

    pub(in crate::firmware) fn of_component(
        engine: &wasmtime::Engine,
        component: &Component,
    ) -> Self {
        let ty = component.component_type();
        let imports = ty.imports(engine).map(|(name, _)| Import {
            module: "".into(),
            name: name.into(),
            ty: "".into(),
        });
        let exports =
            ty.exports(engine).map(|(name, _)| Export { name: name.into(), ty: "".into() });
        Self { layer: Layer::Component, imports: imports.collect(), exports: exports.collect() }
    }

    /// The type of an export; `None` when it is not there.
    pub(in crate::firmware) fn export(&self, name: &str) -> Option<&str> {
        self.exports.iter().find(|it| &*it.name == name).map(|it| &*it.ty)
    }

    pub(in crate::firmware) fn imports_from(&self, module: &str) -> bool {
        self.imports.iter().any(|it| &*it.module == module)
    }
}

/// A type as the documents of the ABIs write it.
fn describe(ty: &ExternType) -> Box<str> {
    match ty {
        ExternType::Func(func) => signature(func).into(),
        ExternType::Memory(_) => super::core::MEMORY.into(),
        ExternType::Global(_) => "a global".into(),
        ExternType::Table(_) => "a table".into(),
        _ => "something else".into(),
    }
}

fn signature(func: &FuncType) -> String {
    let list = |types: Vec<String>| types.join(", ");
    let params = list(func.params().map(|ty| ty.to_string()).collect());
    let results = list(func.results().map(|ty| ty.to_string()).collect());
    if results.is_empty() { format!("({params})") } else { format!("({params}) -> {results}") }
}
