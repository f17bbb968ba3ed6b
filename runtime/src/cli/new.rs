//! `odeum new`: begin a project that builds.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use odeum_proto::Name;
use serde_json::json;

use super::{CliError, Invocation};

/// What to begin.
#[derive(Debug, Subcommand)]
pub(crate) enum NewCommand {
    /// Begin a firmware: a counter in the language that you choose
    Firmware(FirmwareArgs),
}

/// Arguments of `odeum new firmware`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  odeum new firmware thermostat --lang rust\n  odeum new \
                        firmware lamp --lang c --folder guests/lamp")]
pub(crate) struct FirmwareArgs {
    /// What to call it
    name: Name,
    /// What to write it in
    #[arg(long, value_enum)]
    lang: Language,
    /// Where to; it must not be there yet, or be empty [default: the name]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// What a firmware can be begun in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// A component, built by cargo
    Rust,
    /// A core module, built by clang
    C,
    /// A component, built by componentize-py
    Python,
}

/// A file of a project. `starter` in its path and its text becomes the project's name.
struct File {
    path: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($folder:literal, [$($path:literal),+ $(,)?]) => {
        &[$(File {
            path: $path,
            text: include_str!(concat!("../../../examples/starters/", $folder, "/", $path)),
        }),+]
    };
}

const RUST: &[File] = files!(
    "rust",
    [".gitignore", "Cargo.toml", "README.md", "odeum.toml", "src/lib.rs", "wit/odeum-actor.wit"]
);

const C: &[File] =
    files!("c", [".gitignore", "Makefile", "README.md", "odeum.h", "odeum.toml", "starter.c"]);

const PYTHON: &[File] = files!(
    "python",
    [
        ".gitignore",
        "Makefile",
        "README.md",
        "app.py",
        "odeum.toml",
        "requirements.txt",
        "wit/odeum-actor.wit",
    ]
);

/// The name that stands for the project's in the files.
const STARTER: &str = "starter";

impl Language {
    fn files(self) -> &'static [File] {
        match self {
            Self::Rust => RUST,
            Self::C => C,
            Self::Python => PYTHON,
        }
    }

    /// What makes the module.
    fn build(self) -> &'static str {
        match self {
            Self::Rust => "cargo build --release --target wasm32-wasip2",
            Self::C | Self::Python => "make",
        }
    }
}

pub(super) fn new(invocation: &Invocation, command: NewCommand) -> Result<(), CliError> {
    let NewCommand::Firmware(FirmwareArgs { name, lang, folder }) = command;
    if lang == Language::Rust && name.as_str().starts_with(|first: char| first.is_ascii_digit()) {
        return Err(CliError::NoPackageName { name });
    }
    let folder = folder.unwrap_or_else(|| PathBuf::from(name.as_str()));
    write(&folder, &name, lang)?;
    let shown = folder.display();
    let build = lang.build();
    invocation.out.result(&json!({ "folder": folder, "name": name, "build": build }), |_| {
        format!("{shown} is a firmware: `cd {shown}`, then `{build}` and `odeum run .`")
    })
}

fn write(folder: &Path, name: &Name, lang: Language) -> Result<(), CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |reason: io::Error| CliError::Unwritable { path, reason }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    if fs::read_dir(folder).map_err(failed(folder))?.next().is_some() {
        return Err(CliError::NotEmpty { folder: folder.to_owned() });
    }
    for File { path, text } in lang.files() {
        let path = folder.join(path.replace(STARTER, name.as_str()));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed(&path))?;
        file.write_all(filled(text, name).as_bytes()).map_err(failed(&path))?;
    }
    Ok(())
}

/// The text with the project's name in it. Cargo writes the file of a module with underscores.
fn filled(text: &str, name: &Name) -> String {
    let module = format!("{}.wasm", name.as_str().replace('-', "_"));
    text.replace("release/starter.wasm", &format!("release/{module}"))
        .replace(STARTER, name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::manifest::Manifest;

    #[test]
    fn a_project_has_its_name_everywhere_and_a_manifest_that_is_valid() {
        let name: Name = "my-lamp".parse().expect("a name");
        for lang in Language::value_variants() {
            let folder = tempfile::tempdir().expect("a folder");
            let folder = folder.path().join("deep/project");
            write(&folder, &name, *lang).expect("writes");
            let manifest = fs::read(folder.join("odeum.toml")).expect("a manifest");
            let manifest = Manifest::parse(&manifest).expect("is valid");
            assert_eq!(manifest.name, name);
            for file in lang.files() {
                let path = folder.join(file.path.replace(STARTER, name.as_str()));
                let text = fs::read_to_string(path).expect("is there");
                assert!(!text.contains(STARTER), "{}: {text}", file.path);
            }
            if *lang == Language::Rust {
                let entry = "target/wasm32-wasip2/release/my_lamp.wasm";
                assert_eq!(manifest.entry.to_string(), entry);
            }
            let again = write(&folder, &name, *lang).expect_err("is not empty");
            assert!(again.to_string().contains("not empty"), "{again}");
        }
    }
}
