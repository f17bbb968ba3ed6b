//! Looking at the files of a shelf that nobody has open, without changing anything.

use std::fs::File;
use std::path::{Path, PathBuf};

use odeum_proto::Digest;

use super::{ShelfError, entries, io_error, is_part};

/// What is found of a blob's file: whether its bytes are what its name says.
pub type Seen = (PathBuf, Result<bool, ShelfError>);

/// Compares every blob of the shelf in `folder` with its digest, in the order of their names.
///
/// # Errors
/// [`ShelfError::Io`] when a folder cannot be read.
pub fn check(folder: &Path) -> Result<Vec<Seen>, ShelfError> {
    let mut parts: Vec<PathBuf> =
        entries(folder)?.into_iter().filter(|path| is_part(path)).collect();
    parts.sort();
    let mut seen = Vec::new();
    for part in parts {
        let mut files = entries(&part)?;
        files.sort();
        for file in files {
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(digest) = name.parse::<Digest>() else { continue };
            let is = File::open(&file).and_then(Digest::of_reader);
            let is = is.map(|is| is == digest).map_err(io_error("reading", &file));
            seen.push((file, is));
        }
    }
    Ok(seen)
}
