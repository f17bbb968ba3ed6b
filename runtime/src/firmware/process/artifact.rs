//! The compiled form of a module, as host processes get it.
//!
//! An anonymous file, sealed. A process maps it, so that all that run one module share its pages and
//! none has to copy it through a socket; and it is written once per module, so that a crash costs no
//! time for it.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    sync::Arc,
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};

/// Nothing of the file can be changed, nor that.
const SEALED: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// The compiled form of one module. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::firmware) struct Artifact {
    file: Arc<OwnedFd>,
    is_component: bool,
}

impl Artifact {
    /// One of what the engine gave.
    ///
    /// # Errors
    /// What the system said.
    pub(in crate::firmware) fn new(compiled: &[u8], is_component: bool) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create("odeum-module", flags)?);
        file.write_all(compiled)?;
        fcntl_add_seals(&file, SEALED)?;
        Ok(Self { file: Arc::new(file.into()), is_component })
    }

    pub(super) fn is_component(&self) -> bool {
        self.is_component
    }

    /// A descriptor of it for a process.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }
}

/// What a process was given, if it is sealed as [`Artifact`]s are.
///
/// # Errors
/// When it is anything else.
pub(super) fn received(given: OwnedFd) -> io::Result<File> {
    match fcntl_get_seals(&given) {
        Ok(seals) if seals.contains(SEALED) => Ok(given.into()),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "standard output is no sealed module: this command is started by a node",
        )),
    }
}

/// All of its bytes. The descriptor may be shared with other processes, so its position is left alone.
///
/// # Errors
/// What the system said.
pub(super) fn bytes(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_gets_cannot_be_changed_any_more() {
        let artifact = Artifact::new(b"compiled", false).expect("a file");
        let file = received(artifact.descriptor().expect("a descriptor")).expect("sealed");
        assert_eq!(bytes(&file).expect("reads"), b"compiled");
        assert!(file.write_at(b"x", 0).is_err());
        assert!(file.set_len(3).is_err() && file.set_len(99).is_err());
        let other = File::open("/dev/null").expect("opens");
        assert!(received(other.into()).is_err());
    }
}
