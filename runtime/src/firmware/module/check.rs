//! Whether a core module has what its ABI asks for, and imports only what there is.

use super::short;
use crate::{
    firmware::{
        abi::{
            core::{self, Export, Import},
            detect::WASI,
            firmlet,
            shape::Shape,
            wasi_p1::{self, resources},
        },
        error::PackageError,
    },
    package::manifest::{Abi, MissingImports},
};

/// Functions that are stood in for, at most. Each is a function of the host in every process that has the
/// module; what was built for a browser lacks some hundred.
const STAND_INS: usize = 4_096;

pub(super) fn exports(shape: &Shape, abi: Abi) -> Result<(), PackageError> {
    // A reactor without the handler is called by name.
    let is_core = abi == Abi::ActorCore || (abi == Abi::WasiReactor && handles(shape));
    let asked: &[Export] = match abi {
        _ if is_core => core::EXPORTS,
        Abi::Firmlet => firmlet::EXPORTS,
        Abi::WasiCommand => wasi_p1::COMMAND_EXPORTS,
        _ => &[],
    };
    for &Export { name: export, signature: expected, required } in asked {
        match shape.export(export) {
            Some(got) if got == expected => {}
            Some(got) => {
                return Err(PackageError::WrongExport { export, expected, got: got.into() });
            }
            None if required => return Err(PackageError::MissingExport { export, expected }),
            None => {}
        }
    }
    if is_core { heard(shape) } else { Ok(()) }
}

/// Whether it is more than functions that are called by name.
fn handles(shape: &Shape) -> bool {
    let is_heard = core::HEARD.iter().any(|(import, _)| shape.imports(core::MODULE, import));
    is_heard || shape.export(core::HANDLE).is_some()
}

/// Whether it can be told what it has itself told.
fn heard(shape: &Shape) -> Result<(), PackageError> {
    for &(import, export) in core::HEARD {
        if shape.imports(core::MODULE, import) && shape.export(export).is_none() {
            let named = core::EXPORTS.iter().find(|it| it.name == export);
            let expected = named.map_or("", |it| it.signature);
            return Err(PackageError::NotHeard { import, export, expected });
        }
    }
    Ok(())
}

pub(super) fn imports(
    shape: &Shape,
    abi: Abi,
    missing: MissingImports,
) -> Result<(), PackageError> {
    let offered: &[(&str, &[Import])] = match abi {
        Abi::ActorCore => &[(core::MODULE, core::IMPORTS)],
        Abi::WasiReactor => &[(core::MODULE, core::IMPORTS), (WASI, &[])],
        Abi::Firmlet => &[(firmlet::MODULE, firmlet::IMPORTS)],
        Abi::WasiCommand => &[(WASI, &[])],
        _ => &[],
    };
    let (mut unknown, mut may_trap, mut stand_ins) = (Vec::new(), true, 0_usize);
    for import in &shape.imports {
        let table = offered.iter().find(|(module, _)| *module == &*import.module);
        // WASI checks types itself when it is linked.
        if table.is_some() && &*import.module == WASI && wasi_p1::IMPORTS.contains(&&*import.name) {
            continue;
        }
        let known = table.and_then(|(_, names)| names.iter().find(|it| it.name == &*import.name));
        let is_handle = abi == Abi::WasiReactor && resources::is_one(&import.module, &import.name);
        let signature =
            known.map(|known| known.signature).or(is_handle.then_some(resources::SIGNATURE));
        let full = format!("{}.{}", import.module, import.name);
        match signature {
            Some(expected) if expected == &*import.ty => {}
            Some(expected) => {
                let got = import.ty.clone();
                return Err(PackageError::WrongImport { import: full.into(), expected, got });
            }
            None if missing == MissingImports::Trap && import.is_function() => stand_ins += 1,
            None => {
                may_trap &= import.is_function();
                unknown.push(full);
            }
        }
    }
    if unknown.is_empty() {
        return match stand_ins {
            ..=STAND_INS => Ok(()),
            got => Err(PackageError::StandIns { got, limit: STAND_INS }),
        };
    }
    may_trap &= unknown.len() <= STAND_INS;
    let imports = short(&unknown.join(", "));
    Err(PackageError::UnknownImports { imports, abi, may_trap })
}
