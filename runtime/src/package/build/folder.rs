//! A folder with a manifest, as a package. Only what the manifest names is read.

use std::{fs, io, path::Path};

use bytes::Bytes;
use odeum_proto::limits::{PACKAGE_BYTES, PACKAGE_FILES};

use super::{BuildError, Built, assemble};
use crate::package::{
    ContainerError,
    manifest::{FILE as MANIFEST, Manifest, PackagePath},
};

/// The manifest that `odeum package init` begins with; `{name}` and `{entry}` are to be filled in.
pub const MANIFEST_TEMPLATE: &str = r#"name = "{name}"
version = "0.1.0"
entry = "{entry}"

# All that is left out has a default; what is not granted here is denied.
#
# [limits]
# memory = "64 MiB"
# message-time = "1s"
#
# [capabilities]
# clock = true
# random = true
"#;

/// The package of the folder at `root`.
///
/// # Errors
/// [`BuildError`] that names the file and what is wrong with it.
pub fn of_folder(root: &Path) -> Result<Built, BuildError> {
    let path = root.join(MANIFEST);
    let text = read(&path, PACKAGE_BYTES).map_err(|error| match error {
        BuildError::Unreadable { reason, .. } if reason.kind() == io::ErrorKind::NotFound => {
            BuildError::NoManifest { folder: root.to_owned() }
        }
        other => other,
    })?;
    let manifest = Manifest::parse(&text)?;
    let mut paths = Vec::new();
    for named in &manifest.files {
        collect(root, named, &mut paths)?;
    }
    paths.sort();
    paths.dedup();
    let mut left = PACKAGE_BYTES;
    let mut take = |path: &PackagePath| {
        plain(root, path)?;
        let content = read(&path.within(root), left)?;
        left -= content.len();
        Ok::<_, BuildError>(content)
    };
    let module = take(&manifest.entry).map_err(|error| match error {
        BuildError::Unreadable { reason, .. } if reason.kind() == io::ErrorKind::NotFound => {
            ContainerError::NoModule { entry: manifest.entry.clone() }.into()
        }
        other => other,
    })?;
    paths.retain(|path| *path != manifest.entry && path.as_str() != MANIFEST);
    let mut files = Vec::new();
    for path in paths {
        let content = take(&path)?;
        files.push((path, content));
    }
    assemble(text, &manifest, module, files)
}

/// The files at or below `named`.
fn collect(
    root: &Path,
    named: &PackagePath,
    into: &mut Vec<PackagePath>,
) -> Result<(), BuildError> {
    if !plain(root, named)?.is_dir() {
        into.push(named.clone());
        return Ok(());
    }
    let folder = named.within(root);
    let unreadable = |reason| BuildError::Unreadable { path: folder.clone(), reason };
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        let path = format!("{named}/{}", name.to_string_lossy());
        collect(root, &path.parse().map_err(ContainerError::from)?, into)?;
        if into.len() > PACKAGE_FILES {
            let reason = format!("{named} has more than {PACKAGE_FILES} files");
            return Err(ContainerError::Index { reason: reason.into() }.into());
        }
    }
    Ok(())
}

/// What is at `path`, to which no link leads: neither it nor a folder above it is one.
fn plain(root: &Path, path: &PackagePath) -> Result<fs::FileType, BuildError> {
    let mut at = root.to_owned();
    let mut kind = None;
    for part in path.as_str().split('/') {
        at.push(part);
        let unreadable = |reason| BuildError::Unreadable { path: at.clone(), reason };
        let found = fs::symlink_metadata(&at).map_err(unreadable)?.file_type();
        if !found.is_file() && !found.is_dir() {
            return Err(BuildError::NoFile { path: at });
        }
        kind = Some(found);
    }
    kind.ok_or_else(|| BuildError::NoFile { path: root.to_owned() })
}

fn read(path: &Path, limit: usize) -> Result<Bytes, BuildError> {
    read_bounded(path, limit)
        .map_err(|reason| BuildError::Unreadable { path: path.to_owned(), reason })?
        .map_err(|got| ContainerError::TooLarge { got, limit: PACKAGE_BYTES }.into())
}

/// The file at `path`, if it has at most `limit` bytes; else how many it has at least.
pub(crate) fn read_bounded(path: &Path, limit: usize) -> io::Result<Result<Bytes, usize>> {
    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, limit as u64 + 1), &mut bytes)?;
    let got = bytes.len();
    Ok(if got > limit { Err(got) } else { Ok(bytes.into()) })
}
