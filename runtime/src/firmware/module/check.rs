//! Whether a core module has what its ABI asks for, and imports only what there is.

use super::short;
use crate::{
    firmware::{
        abi::{
            core::{self, Export, Import},
            detect::WASI,
            firmlet,
            shape::Shape,
            wasi_p1,
        },
        error::PackageError,
    },
    package::manifest::Abi,
};

pub(super) fn exports(shape: &Shape, abi: Abi) -> Result<(), PackageError> {
    let asked: &[Export] = match abi {
        Abi::ActorCore => core::EXPORTS,
        // One without the handler is called by name.
        Abi::WasiReactor if shape.export(core::HANDLE).is_some() => core::EXPORTS,
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
    Ok(())
}

pub(super) fn imports(shape: &Shape, abi: Abi) -> Result<(), PackageError> {
    let offered: &[(&str, &[Import])] = match abi {
        Abi::ActorCore => &[(core::MODULE, core::IMPORTS)],
        Abi::WasiReactor => &[(core::MODULE, core::IMPORTS), (WASI, &[])],
        Abi::Firmlet => &[(firmlet::MODULE, firmlet::IMPORTS)],
        Abi::WasiCommand => &[(WASI, &[])],
        _ => &[],
    };
    let mut unknown = Vec::new();
    for import in &shape.imports {
        let table = offered.iter().find(|(module, _)| *module == &*import.module);
        // WASI checks types itself when it is linked.
        if table.is_some() && &*import.module == WASI && wasi_p1::IMPORTS.contains(&&*import.name) {
            continue;
        }
        let known = table.and_then(|(_, names)| names.iter().find(|it| it.name == &*import.name));
        let full = format!("{}.{}", import.module, import.name);
        match known {
            Some(known) if known.signature == &*import.ty => {}
            Some(known) => {
                let (expected, got) = (known.signature, import.ty.clone());
                return Err(PackageError::WrongImport { import: full.into(), expected, got });
            }
            None => unknown.push(full),
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    Err(PackageError::UnknownImports { imports: short(&unknown.join(", ")), abi })
}
