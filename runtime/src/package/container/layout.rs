//! The tar file around the files of a package. The `tar` crate is at home here.

use std::ops::Range;

use bytes::Bytes;
use tar::{EntryType, Header};

use super::ContainerError;
use crate::package::manifest::PackagePath;

/// Everything in a tar file begins at a multiple of this.
const BLOCK: usize = 512;

/// Empty blocks at the end of a tar file.
const END: usize = 2 * BLOCK;

/// The one header that a file of `size` bytes at `path` has.
fn header(path: &str, size: u64) -> Result<Header, ContainerError> {
    let mut header = Header::new_ustar();
    header
        .set_path(path)
        .map_err(|error| ContainerError::Unwritable { reason: error.to_string().into() })?;
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    // Fixed, so that a package does not tell who built it, when, and as whom.
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    Ok(header)
}

/// Zeros behind `size` bytes.
fn padding(size: usize) -> usize {
    size.next_multiple_of(BLOCK) - size
}

/// Writes the file of a package.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<(), ContainerError> {
        self.out.extend_from_slice(header(path, content.len() as u64)?.as_bytes());
        self.out.extend_from_slice(content);
        self.out.resize(self.out.len() + padding(content.len()), 0);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Bytes {
        self.out.resize(self.out.len() + END, 0);
        self.out.into()
    }
}

/// Reads the file of a package from its beginning to its end.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: &'a [u8]) -> Self {
        Self { file, at: 0 }
    }

    /// Where the content of the next file is, which must be `path`.
    pub(super) fn named(&mut self, path: &str) -> Result<Range<usize>, ContainerError> {
        let (found, place) = self.next(path)?;
        if found != path {
            let (found, expected) = (found.into(), path.into());
            return Err(ContainerError::OtherFile { found, expected });
        }
        self.at = place.end + padding(place.len());
        Ok(place)
    }

    /// Where the content of the next file is, if that is `path`.
    pub(super) fn if_named(&mut self, path: &str) -> Result<Option<Range<usize>>, ContainerError> {
        let (found, place) = self.next(path)?;
        if found != path {
            return Ok(None);
        }
        self.at = place.end + padding(place.len());
        Ok(Some(place))
    }

    /// Whether this is the end, and nothing comes after it.
    pub(super) fn end(&self) -> Result<(), ContainerError> {
        let rest = &self.file[self.at..];
        if let Some(other) = rest.iter().position(|byte| *byte != 0) {
            let what = "there is something behind the last file";
            return Err(ContainerError::Damaged { at: self.at + other, what });
        }
        match rest.len() {
            END => Ok(()),
            length if length < END => Err(self.cut_off("the package", (self.at + END) as u64)),
            _ => {
                let what = "there are zeros behind the end";
                Err(ContainerError::Damaged { at: self.at + END, what })
            }
        }
    }

    /// Name and place of the next file, all of which is there.
    fn next(&self, expected: &str) -> Result<(String, Range<usize>), ContainerError> {
        let begin = self.at + BLOCK;
        let Some(block) = self.file.get(self.at..begin) else {
            return Err(self.cut_off(expected, begin as u64));
        };
        if block.iter().all(|byte| *byte == 0) {
            let what = "the package ends before all files of its index";
            return Err(ContainerError::Damaged { at: self.at, what });
        }
        let found = Header::from_byte_slice(block);
        let damaged = |what| ContainerError::Damaged { at: self.at, what };
        let bytes = found.path_bytes();
        let path = std::str::from_utf8(&bytes).map_err(|_| damaged("a name is no text"))?;
        let path: PackagePath = path.parse()?;
        if found.entry_type() != EntryType::Regular {
            return Err(ContainerError::NoFile { path: path.as_str().into() });
        }
        let size = found.entry_size().map_err(|_| damaged("the size of a file is no number"))?;
        let end = (begin as u64).saturating_add(size);
        if end > self.file.len() as u64 {
            return Err(self.cut_off(path.as_str(), end));
        }
        if header(path.as_str(), size)?.as_bytes()[..] != *block {
            return Err(damaged("a header is not written as those of packages are"));
        }
        let end = usize::try_from(end).map_err(|_| damaged("a file is too large"))?;
        let zeros = self.file.get(end..end + padding(end - begin));
        match zeros {
            Some(zeros) if zeros.iter().all(|byte| *byte == 0) => {
                Ok((path.as_str().to_owned(), begin..end))
            }
            Some(_) => Err(ContainerError::Damaged {
                at: end,
                what: "a file is padded with more than zeros",
            }),
            None => Err(self.cut_off(path.as_str(), end as u64 + padding(end - begin) as u64)),
        }
    }

    fn cut_off(&self, path: &str, end: u64) -> ContainerError {
        ContainerError::CutOff { path: path.into(), end, length: self.file.len() }
    }
}
