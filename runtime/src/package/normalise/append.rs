//! Writes a module with more exports, every other byte as it was.

use wasm_encoder::{Encode, ExportKind, Function, Instruction, SectionId};
use wasmparser::BinaryReader;

use super::{
    NormaliseError,
    plan::{Export, Probe},
    scan::{Item, Module, Section},
};

/// What every WebAssembly binary begins with: the magic word and the version.
const HEADER_BYTES: usize = 8;

/// What is appended to one section.
#[derive(Debug, Default)]
struct Tail {
    items: u32,
    bytes: Vec<u8>,
}

/// The module with `exports`, its start section taken out.
pub(super) fn append(
    wasm: &[u8],
    module: &Module,
    exports: &[Export],
) -> Result<Vec<u8>, NormaliseError> {
    if exports.is_empty() && module.start.is_none() {
        return Ok(wasm.to_vec());
    }
    let tails = tails(module, exports)?;
    let mut out = wasm.get(..HEADER_BYTES).unwrap_or_default().to_vec();
    // Sections that are not there yet go before the first that comes after them.
    let mut left: Vec<&(SectionId, Tail)> = tails.iter().collect();
    for section in &module.sections {
        while let Some((id, tail)) = left.first().copied()
            && order(*id as u8) < order(section.id)
        {
            put(&mut out, *id as u8, &with_tail(&[], tail)?);
            left.remove(0);
        }
        if section.id == SectionId::Start as u8 {
            continue;
        }
        match left.first().copied() {
            Some((id, tail)) if *id as u8 == section.id => {
                put(&mut out, section.id, &with_tail(contents(wasm, section), tail)?);
                left.remove(0);
            }
            _ => out.extend_from_slice(wasm.get(section.whole.clone()).unwrap_or_default()),
        }
    }
    for (id, tail) in left {
        put(&mut out, *id as u8, &with_tail(&[], tail)?);
    }
    Ok(out)
}

/// What is appended where, in the order of the sections.
fn tails(module: &Module, exports: &[Export]) -> Result<Vec<(SectionId, Tail)>, NormaliseError> {
    let mut of = [const { Tail { items: 0, bytes: Vec::new() } }; 4];
    let [types, functions, exported, code] = &mut of;
    for export in exports {
        let (kind, index) = match export {
            Export::Item { item, index, .. } => (kind(*item), *index),
            Export::Probe { probe, .. } => {
                let index = module.functions.checked_add(functions.items);
                module.types.encode(&mut functions.bytes);
                functions.items += 1;
                body(*probe).encode(&mut code.bytes);
                code.items += 1;
                (ExportKind::Func, index.ok_or(NormaliseError::TooLarge)?)
            }
        };
        export.name().encode(&mut exported.bytes);
        kind.encode(&mut exported.bytes);
        index.encode(&mut exported.bytes);
        exported.items += 1;
    }
    if functions.items > 0 {
        // Without parameters and results.
        types.bytes.extend_from_slice(&[0x60, 0, 0]);
        types.items = 1;
    }
    let [types, functions, exported, code] = of;
    let tails = [
        (SectionId::Type, types),
        (SectionId::Function, functions),
        (SectionId::Export, exported),
        (SectionId::Code, code),
    ];
    Ok(tails.into_iter().filter(|(_, tail)| tail.items > 0).collect())
}

fn kind(item: Item) -> ExportKind {
    match item {
        Item::Func => ExportKind::Func,
        Item::Table => ExportKind::Table,
        Item::Memory => ExportKind::Memory,
        Item::Global => ExportKind::Global,
    }
}

/// The code of a probe. Whether a segment is dropped is told by copying nothing from its end: that
/// works while it is there, and traps when it is not, because a dropped segment is one of length 0
/// and begins and ends before that place.
/// Source: WebAssembly 2.0 §4.4.7, `memory.init` and `data.drop`.
fn body(probe: Probe) -> Function {
    let mut body = Function::new([]);
    let zero = |wide: bool| if wide { Instruction::I64Const(0) } else { Instruction::I32Const(0) };
    let from = |end: u32| Instruction::I32Const(end.cast_signed());
    let none = Instruction::I32Const(0);
    match probe {
        Probe::DataDropped { segment, end, memory64 } => {
            body.instruction(&zero(memory64)).instruction(&from(end)).instruction(&none);
            body.instruction(&Instruction::MemoryInit { mem: 0, data_index: segment });
        }
        Probe::DropData { segment } => {
            body.instruction(&Instruction::DataDrop(segment));
        }
        Probe::ElemDropped { segment, end, table, table64 } => {
            body.instruction(&zero(table64)).instruction(&from(end)).instruction(&none);
            body.instruction(&Instruction::TableInit { elem_index: segment, table });
        }
        Probe::DropElem { segment } => {
            body.instruction(&Instruction::ElemDrop(segment));
        }
    }
    body.instruction(&Instruction::End);
    body
}

fn contents<'a>(wasm: &'a [u8], section: &Section) -> &'a [u8] {
    wasm.get(section.contents.clone()).unwrap_or_default()
}

/// The contents of a section, which begin with the number of its items, with more of them.
fn with_tail(contents: &[u8], tail: &Tail) -> Result<Vec<u8>, NormaliseError> {
    let (items, before) = match contents {
        [] => (0, &[][..]),
        contents => {
            let mut reader = BinaryReader::new(contents, 0);
            let items = reader.read_var_u32()?;
            let begin = usize::try_from(reader.original_position()).unwrap_or(contents.len());
            (items, contents.get(begin..).unwrap_or_default())
        }
    };
    let mut out = Vec::with_capacity(before.len() + tail.bytes.len() + 5);
    items.checked_add(tail.items).ok_or(NormaliseError::TooLarge)?.encode(&mut out);
    out.extend_from_slice(before);
    out.extend_from_slice(&tail.bytes);
    if u32::try_from(out.len()).is_err() {
        return Err(NormaliseError::TooLarge);
    }
    Ok(out)
}

fn put(out: &mut Vec<u8>, id: u8, contents: &[u8]) {
    out.push(id);
    contents.encode(out);
}

/// The place of a section among the others. Their numbers are in that order, but for two that came
/// later: tags are before globals, and the count of data segments is before the code. Custom sections
/// (0) may stand anywhere, and nothing goes before them.
fn order(id: u8) -> u8 {
    const TAG: u8 = SectionId::Tag as u8;
    const DATA_COUNT: u8 = SectionId::DataCount as u8;
    match id {
        // Between memories (5) and globals (6).
        TAG => 11,
        // Between elements (9) and code (10).
        DATA_COUNT => 19,
        id => id * 2,
    }
}
