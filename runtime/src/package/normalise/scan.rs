//! What of a module matters to moving it.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use wasmparser::{
    ConstExpr, ElementItems, ElementKind, ExternalKind, GlobalType, MemoryType, Operator,
    OperatorsReader, Parser, Payload, RefType, TableInit, TableType, TypeRef,
};

use super::{NormaliseError, Obstacle, PREFIX};

/// A kind of item, as the name of its export says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Func,
    Table,
    Memory,
    Global,
}

impl Item {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Func => "func",
            Self::Table => "table",
            Self::Memory => "memory",
            Self::Global => "global",
        }
    }

    pub(super) fn of(kind: ExternalKind) -> Option<Self> {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => Some(Self::Func),
            ExternalKind::Table => Some(Self::Table),
            ExternalKind::Memory => Some(Self::Memory),
            ExternalKind::Global => Some(Self::Global),
            ExternalKind::Tag => None,
        }
    }
}

/// A section of the file.
#[derive(Debug, Clone)]
pub(super) struct Section {
    pub(super) id: u8,
    /// With its id and its length.
    pub(super) whole: Range<usize>,
    pub(super) contents: Range<usize>,
}

/// What of a module matters to moving it.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) sections: Vec<Section>,
    pub(super) types: u32,
    pub(super) functions: u32,
    pub(super) start: Option<u32>,
    pub(super) tables: Vec<TableType>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<GlobalType>,
    pub(super) imported: Vec<Obstacle>,
    /// Exports with a name of this pass.
    pub(super) own_exports: BTreeMap<String, (ExternalKind, u32)>,
    /// Element segments, with type and length of the passive ones.
    pub(super) elements: Vec<Option<(RefType, u32)>>,
    /// The passive data segments with their lengths.
    pub(super) passive_data: BTreeMap<u32, u32>,
    /// What the code changes and drops.
    pub(super) changed_tables: BTreeSet<u32>,
    pub(super) dropped_data: BTreeSet<u32>,
    pub(super) dropped_elements: BTreeSet<u32>,
    /// Functions whose reference can be somewhere.
    pub(super) escaping: BTreeSet<u32>,
}

pub(super) fn scan(wasm: &[u8]) -> Result<Module, NormaliseError> {
    let mut module = Module::default();
    // Behind the magic word and the version.
    let mut end = 8;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Some((id, range)) = payload.as_section() {
            let place = |at: u64| usize::try_from(at).map_err(|_| NormaliseError::TooLarge);
            let contents = place(range.start)?..place(range.end)?;
            module.sections.push(Section {
                id,
                whole: end..contents.end,
                contents: contents.clone(),
            });
            end = contents.end;
        }
        module.read(payload)?;
    }
    Ok(module)
}

impl Module {
    fn read(&mut self, payload: Payload<'_>) -> Result<(), NormaliseError> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    self.types += count(group?.types().len())?;
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    self.import(&format!("{}.{}", import.module, import.name), import.ty);
                }
            }
            Payload::FunctionSection(functions) => self.functions += functions.count(),
            Payload::TableSection(tables) => {
                for table in tables {
                    let table = table?;
                    self.tables.push(table.ty);
                    if let TableInit::Expr(init) = table.init {
                        self.constant(&init)?;
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    self.memories.push(memory?);
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let global = global?;
                    self.globals.push(global.ty);
                    self.constant(&global.init_expr)?;
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    if export.name.starts_with(PREFIX) {
                        self.own_exports
                            .insert(export.name.to_owned(), (export.kind, export.index));
                    }
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(elements) => {
                for element in elements {
                    self.element(element?)?;
                }
            }
            Payload::DataSection(data) => {
                for (segment, data) in (0..).zip(data) {
                    let data = data?;
                    if matches!(data.kind, wasmparser::DataKind::Passive) {
                        self.passive_data.insert(segment, count(data.data.len())?);
                    }
                }
            }
            Payload::CodeSectionEntry(body) => self.code(body.get_operators_reader()?)?,
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, name: &str, ty: TypeRef) {
        let what = match ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                self.functions += 1;
                return;
            }
            TypeRef::Tag(_) => return,
            TypeRef::Table(table) => {
                self.tables.push(table);
                "table"
            }
            TypeRef::Memory(memory) => {
                self.memories.push(memory);
                "memory"
            }
            TypeRef::Global(global) => {
                self.globals.push(global);
                if !global.mutable {
                    return;
                }
                "mutable global"
            }
        };
        self.imported.push(Obstacle::Imported { what, name: name.into() });
    }

    fn element(&mut self, element: wasmparser::Element<'_>) -> Result<(), NormaliseError> {
        let ty = match element.items {
            ElementItems::Functions(functions) => {
                let length = functions.count();
                for function in functions {
                    self.escaping.insert(function?);
                }
                (RefType::FUNCREF, length)
            }
            ElementItems::Expressions(ty, expressions) => {
                let length = expressions.count();
                for expression in expressions {
                    self.constant(&expression?)?;
                }
                (ty, length)
            }
        };
        self.elements.push(matches!(element.kind, ElementKind::Passive).then_some(ty));
        Ok(())
    }

    fn constant(&mut self, expression: &ConstExpr<'_>) -> Result<(), NormaliseError> {
        self.code(expression.get_operators_reader())
    }

    fn code(&mut self, mut operators: OperatorsReader<'_>) -> Result<(), NormaliseError> {
        while !operators.eof() {
            match operators.read()? {
                Operator::RefFunc { function_index } => {
                    self.escaping.insert(function_index);
                }
                Operator::TableSet { table }
                | Operator::TableGrow { table }
                | Operator::TableFill { table }
                | Operator::TableInit { table, .. }
                | Operator::TableCopy { dst_table: table, .. } => {
                    self.changed_tables.insert(table);
                }
                Operator::DataDrop { data_index } => {
                    self.dropped_data.insert(data_index);
                }
                Operator::ElemDrop { elem_index } => {
                    self.dropped_elements.insert(elem_index);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn count(items: usize) -> Result<u32, NormaliseError> {
    u32::try_from(items).map_err(|_| NormaliseError::TooLarge)
}
