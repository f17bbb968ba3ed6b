//! Keys of those who vouch for packages, and their signatures. `ed25519-dalek` is at home here.
//!
//! A key is known by its id in messages and by the whole of it where it is trusted: an id is too
//! short to be trusted.

mod file;

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use odeum_proto::Digest;
use serde::{Deserialize, Serialize};

pub use file::{KeyFileError, PUBLIC_EXTENSION};

/// What the text of a public key begins with.
pub const PUBLIC: &str = "ed25519:";

/// What is signed before the digest, so that a signature of something else is never one of a
/// package.
const DOMAIN: &[u8] = b"odeum package 1\0";

/// A text that is no key or no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form of a public key.
    #[error(
        "{given:?} is no public key: expected `ed25519:` and 43 characters, as `odeum package keygen` prints it"
    )]
    Public {
        /// What was given, or its beginning.
        given: Box<str>,
    },
    /// Not of the form of a private key.
    #[error("this is no private key of `odeum package keygen`")]
    Secret,
    /// Not of the form of a signature.
    #[error("this is no signature: expected 86 characters of base64")]
    Signature,
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Who may vouch for packages, written as `ed25519:` and 43 characters.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(
    /// Checked: a point that a key can be.
    [u8; 32],
);

impl PublicKey {
    /// What it is called in messages.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Digest::of(&self.0);
        let mut id = [0; 8];
        id.copy_from_slice(&digest.as_bytes()[..8]);
        KeyId(id)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let given = || text.chars().take(60).collect::<String>().into();
        text.strip_prefix(PUBLIC)
            .and_then(decoded::<32>)
            .and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
            // Anybody can sign for such a key.
            .filter(|key| !key.is_weak())
            .map(|key| Self(key.to_bytes()))
            .ok_or_else(|| KeyError::Public { given: given() })
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// What a key is called in messages: 16 hex digits of its digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&hex)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What signatures are made with. It never shows itself but in its file.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new key that nobody else has.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::from_bytes(&rand::random()))
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Vouches for the package with that digest.
    #[must_use]
    pub fn sign(&self, digest: Digest) -> Signature {
        let bytes = self.0.sign(&signed_bytes(digest)).to_bytes();
        Signature { key: self.public(), signature: SignatureBytes(bytes) }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

/// What one key says of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    key: PublicKey,
    signature: SignatureBytes,
}

impl Signature {
    /// Whose it is, if it is one of the package.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Whether it is one of the package with that digest.
    #[must_use]
    pub fn is_of(&self, digest: Digest) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        VerifyingKey::from_bytes(&self.key.0)
            .is_ok_and(|key| key.verify_strict(&signed_bytes(digest), &signature).is_ok())
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct SignatureBytes([u8; 64]);

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl TryFrom<String> for SignatureBytes {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        decoded(&text).map(Self).ok_or(KeyError::Signature)
    }
}

impl From<SignatureBytes> for String {
    fn from(signature: SignatureBytes) -> Self {
        BASE64_URL_SAFE_NO_PAD.encode(signature.0)
    }
}

fn signed_bytes(digest: Digest) -> Vec<u8> {
    [DOMAIN, &digest.as_bytes()[..]].concat()
}

#[cfg(test)]
mod tests;
