//! The seal of compiled code: a keyed BLAKE3 hash over the code and what it is kept by, so that neither
//! other code nor the code of another module can be put into its place.
//!
//! Pure. A file is a header and the code:
//!
//! | bytes | what they are |
//! |---|---|
//! | 8 | magic word, with the version of the layout |
//! | 32 | BLAKE3 hash of the WebAssembly binary |
//! | 8 | length of the code, little endian |
//! | 32 | keyed BLAKE3 hash over all before it, the key of the file, and the code |

use std::ops::Range;

use super::{key::Key, secret::Secret};

/// Bytes before the code.
pub(super) const HEADER: usize = 80;

const MAGIC: &[u8; 8] = b"odeumnc\x01";
const MODULE: Range<usize> = 8..40;
const LENGTH: Range<usize> = 40..48;
const SEAL: Range<usize> = 48..80;

/// Code whose seal was found to be right. There is no other way to one than [`unseal`].
pub(in crate::firmware) struct Unsealed {
    file: Vec<u8>,
}

impl Unsealed {
    /// What was sealed.
    pub(in crate::firmware) fn code(&self) -> &[u8] {
        self.file.get(HEADER..).unwrap_or_default()
    }
}

impl std::fmt::Debug for Unsealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unsealed").field("bytes", &self.code().len()).finish_non_exhaustive()
    }
}

/// Why a file is not what this user kept by that key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealError {
    /// It is no such file, or of another version.
    #[error("it is no compiled module")]
    Other,
    /// It ends too soon or too late.
    #[error("it has {got} bytes of code where {expected} are claimed")]
    Length { got: usize, expected: u64 },
    /// The code was changed, is that of another module, or was sealed with another secret.
    #[error("its seal is broken")]
    Broken,
}

/// What comes before the code in its file.
pub(super) fn header(secret: &Secret, key: Key, code: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[MODULE].copy_from_slice(key.module());
    header[LENGTH].copy_from_slice(&(code.len() as u64).to_le_bytes());
    let seal = sealed(secret, &header[..SEAL.start], key, code);
    header[SEAL].copy_from_slice(seal.as_bytes());
    header
}

/// The code in a file that was kept by that key.
///
/// # Errors
/// [`SealError`] when it is not what was kept.
pub(super) fn unseal(secret: &Secret, key: Key, file: Vec<u8>) -> Result<Unsealed, SealError> {
    let (header, code) = file.split_at_checked(HEADER).ok_or(SealError::Other)?;
    if !header.starts_with(MAGIC) {
        return Err(SealError::Other);
    }
    let word = |range: Range<usize>| header[range].iter().rev();
    let expected = word(LENGTH).fold(0, |all, byte| (all << 8) | u64::from(*byte));
    if expected != code.len() as u64 {
        return Err(SealError::Length { got: code.len(), expected });
    }
    let seal = sealed(secret, &header[..SEAL.start], key, code);
    // In constant time: no seal can be guessed byte by byte.
    let is_right = blake3::Hash::from_slice(&header[SEAL]).is_ok_and(|claimed| claimed == seal);
    if is_right { Ok(Unsealed { file }) } else { Err(SealError::Broken) }
}

/// The hash of the binary that a header claims.
pub(super) fn module(header: &[u8]) -> Option<blake3::Hash> {
    if !header.starts_with(MAGIC) {
        return None;
    }
    blake3::Hash::from_slice(header.get(MODULE)?).ok()
}

fn sealed(secret: &Secret, begin: &[u8], key: Key, code: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret.bytes());
    hasher.update(begin).update(key.as_bytes()).update(code);
    hasher.finalize()
}
