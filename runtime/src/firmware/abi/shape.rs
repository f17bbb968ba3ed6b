//! What a module imports and exports, as text: all that its ABI is told from. It is read from the binary,
//! so that a module of no ABI is refused before it is compiled.

use wasmparser::{BinaryReaderError, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType};

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

impl Import {
    /// Whether it is a function of a core module. Only the types of functions begin like that.
    pub(in crate::firmware) fn is_function(&self) -> bool {
        self.ty.starts_with('(')
    }
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
    /// That of a binary, which need not be valid.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(in crate::firmware) fn read(layer: Layer, wasm: &[u8]) -> Result<Self, BinaryReaderError> {
        match layer {
            Layer::Core => read_core(wasm),
            Layer::Component => read_component(wasm),
        }
    }

    /// The type of an export; `None` when it is not there.
    pub(in crate::firmware) fn export(&self, name: &str) -> Option<&str> {
        self.exports.iter().find(|it| &*it.name == name).map(|it| &*it.ty)
    }

    pub(in crate::firmware) fn imports_from(&self, module: &str) -> bool {
        self.imports.iter().any(|it| &*it.module == module)
    }

    pub(in crate::firmware) fn imports(&self, module: &str, name: &str) -> bool {
        self.imports.iter().any(|it| &*it.module == module && &*it.name == name)
    }
}

/// The types of a module as far as they were read. An index that leads nowhere is that of a module that
/// is not valid, which is told later.
#[derive(Default)]
struct Types {
    /// By their index; `None` for those of no function.
    types: Vec<Option<FuncType>>,
    /// The type's index of each function.
    functions: Vec<u32>,
}

impl Types {
    fn function(&self, ty: u32) -> Box<str> {
        let found = usize::try_from(ty).ok().and_then(|ty| self.types.get(ty)?.as_ref());
        found.map_or_else(|| OTHER.into(), |ty| signature(ty).into())
    }

    /// The type of an import as the documents of the ABIs write it.
    fn import(&mut self, ty: TypeRef) -> Box<str> {
        match ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                self.functions.push(ty);
                self.function(ty)
            }
            TypeRef::Memory(_) => super::core::MEMORY.into(),
            TypeRef::Global(_) => GLOBAL.into(),
            TypeRef::Table(_) => TABLE.into(),
            TypeRef::Tag(_) => OTHER.into(),
        }
    }

    /// The type of an export as the documents of the ABIs write it.
    fn export(&self, kind: ExternalKind, index: u32) -> Box<str> {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                let ty = usize::try_from(index).ok().and_then(|index| self.functions.get(index));
                ty.map_or_else(|| OTHER.into(), |ty| self.function(*ty))
            }
            ExternalKind::Memory => super::core::MEMORY.into(),
            ExternalKind::Global => GLOBAL.into(),
            ExternalKind::Table => TABLE.into(),
            ExternalKind::Tag => OTHER.into(),
        }
    }
}

const GLOBAL: &str = "a global";
const TABLE: &str = "a table";
const OTHER: &str = "something else";

fn read_core(wasm: &[u8]) -> Result<Shape, BinaryReaderError> {
    let (mut types, mut imports, mut exports) = (Types::default(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(section) => {
                for group in section {
                    types.types.extend(group?.into_types().map(
                        |ty| match ty.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(func) => Some(func),
                            _ => None,
                        },
                    ));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let wasmparser::Import { module, name, ty } = import?;
                    let ty = types.import(ty);
                    imports.push(Import { module: module.into(), name: name.into(), ty });
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    types.functions.push(ty?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let wasmparser::Export { name, kind, index } = export?;
                    // What the normaliser added is nothing that the guest is called by.
                    if !name.starts_with(normalise::PREFIX) {
                        let ty = types.export(kind, index);
                        exports.push(Export { name: name.into(), ty });
                    }
                }
            }
            // What comes behind does not matter here, and is most of it.
            Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    Ok(Shape { layer: Layer::Core, imports, exports })
}

fn read_component(wasm: &[u8]) -> Result<Shape, BinaryReaderError> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    // How far inside of other modules and components.
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let name = import?.name.name.into();
                    imports.push(Import { module: "".into(), name, ty: "".into() });
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    exports.push(Export { name: export?.name.name.into(), ty: "".into() });
                }
            }
            _ => {}
        }
    }
    Ok(Shape { layer: Layer::Component, imports, exports })
}

fn signature(func: &FuncType) -> String {
    let list =
        |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (params, results) = (list(func.params()), list(func.results()));
    if results.is_empty() { format!("({params})") } else { format!("({params}) -> {results}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(text: &str) -> Shape {
        Shape::read(Layer::Core, &wat::parse_str(text).expect("parses")).expect("reads")
    }

    #[test]
    fn functions_are_told_with_their_types_wherever_they_come_from() {
        let shape = core(
            r#"(module
                (type (func (param i32 i64) (result f32)))
                (import "env" "table" (table 1 funcref))
                (import "env" "call" (func $call (type 0)))
                (import "env" "global" (global i32))
                (func $none)
                (memory (export "memory") 1)
                (export "again" (func $call))
                (export "none" (func $none))
                (export "odeum.move.func.1" (func $none)))"#,
        );
        let imports: Vec<(&str, &str)> =
            shape.imports.iter().map(|it| (&*it.name, &*it.ty)).collect();
        let call = "(i32, i64) -> f32";
        assert_eq!(imports, [("table", TABLE), ("call", call), ("global", GLOBAL)]);
        let memory = super::super::core::MEMORY;
        assert_eq!(shape.export("memory"), Some(memory));
        assert_eq!(shape.export("again"), Some(call));
        assert_eq!(shape.export("none"), Some("()"));
        assert_eq!(shape.exports.len(), 3);
    }

    #[test]
    fn a_component_is_told_by_what_is_outside_of_its_parts() {
        let wasm = wat::parse_str(
            r#"(component
                (import "a:b/c@0.2.0" (instance))
                (core module (func (export "inner")))
                (component (import "x:y/z" (instance)))
                (instance $none)
                (export "d:e/f@0.2.0" (instance $none)))"#,
        );
        let shape = Shape::read(Layer::Component, &wasm.expect("parses")).expect("reads");
        let names = |it: &Import| it.name.to_string();
        assert_eq!(shape.imports.iter().map(names).collect::<Vec<_>>(), ["a:b/c@0.2.0"]);
        assert_eq!(shape.exports.len(), 1);
        assert_eq!(shape.export("d:e/f@0.2.0"), Some(""));
    }

    #[test]
    fn indices_that_lead_nowhere_are_something_else() {
        use wasm_encoder::{EntityType, ExportKind, ExportSection, ImportSection, Module};
        let mut imports = ImportSection::new();
        imports.import("a", "b", EntityType::Function(7));
        let mut exports = ExportSection::new();
        exports.export("c", ExportKind::Func, 9);
        let mut module = Module::new();
        module.section(&imports).section(&exports);
        let shape = Shape::read(Layer::Core, &module.finish()).expect("reads");
        assert_eq!((&*shape.imports[0].ty, shape.export("c")), (OTHER, Some(OTHER)));
    }
}
