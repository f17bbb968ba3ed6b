//! Which packages a node takes. Pure: what it decides depends on nothing but the package and what
//! the node's operator said.

use crate::package::{
    Package,
    key::{KeyId, PublicKey},
    manifest::{Folder, HostPath, VariableName},
};

/// What a node's operator said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Whose packages are taken.
    pub keys: Vec<PublicKey>,
    /// Whether packages are taken that nobody signed.
    pub allow_unsigned: bool,
    /// Folders of the node that packages may ask for, and all that is in them.
    pub folders: Vec<HostPath>,
    /// Variables of the node's environment that packages may ask for.
    pub environment: Vec<VariableName>,
}

/// Why a package is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// This key signed it, and is trusted.
    Signed(KeyId),
    /// Nobody signed it, and that is allowed.
    Unsigned,
}

/// A package that this node does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Nobody signed it.
    #[error(
        "the package is not signed: sign it with `odeum package sign`, or let the node take such \
         packages with `packages.allow-unsigned = true`"
    )]
    Unsigned,
    /// Somebody signed it whom the node does not trust.
    #[error(
        "the package is signed by key {id}, which this node does not trust: to trust it, add \
         \"{key}\" to its `packages.trusted`"
    )]
    Untrusted {
        /// The first of its keys.
        id: KeyId,
        /// The same, as it is written in the settings.
        key: PublicKey,
    },
    /// It asks for a folder that the node does not give.
    #[error(
        "the package asks for the folder {host} of the node, which is in none of its \
         `packages.folders`"
    )]
    Folder {
        /// The folder.
        host: HostPath,
    },
    /// It asks for a variable that the node does not give.
    #[error(
        "the package asks for the variable {name} of the node's environment, which is not among \
         its `packages.environment`"
    )]
    Variable {
        /// The variable.
        name: VariableName,
    },
}

impl Trust {
    /// Whether the package is taken, and why.
    ///
    /// # Errors
    /// [`TrustError`] that says why not, and what its signer or the node's operator can do.
    pub fn admit(&self, package: &Package) -> Result<Reason, TrustError> {
        let reason = self.vouched(package)?;
        let capabilities = &package.manifest().capabilities;
        let given = |asked: &HostPath| self.folders.iter().any(|folder| asked.is_within(folder));
        let refused = |Folder { host, .. }: &Folder| (!given(host)).then(|| host.clone());
        if let Some(host) = capabilities.folders.iter().find_map(refused) {
            return Err(TrustError::Folder { host });
        }
        let refused = |name: &&VariableName| !self.environment.contains(name);
        match capabilities.environment.iter().find(refused) {
            Some(name) => Err(TrustError::Variable { name: name.clone() }),
            None => Ok(reason),
        }
    }

    /// Who vouches for it. That its signatures are its own is known: nothing else is a [`Package`].
    fn vouched(&self, package: &Package) -> Result<Reason, TrustError> {
        let mut keys = package.signatures().iter().map(|signature| signature.key());
        let Some(first) = keys.clone().next() else {
            let allowed = self.allow_unsigned.then_some(Reason::Unsigned);
            return allowed.ok_or(TrustError::Unsigned);
        };
        match keys.find(|key| self.keys.contains(key)) {
            Some(key) => Ok(Reason::Signed(key.id())),
            // Also where unsigned ones are allowed: a signature by a stranger is no mere omission.
            None => Err(TrustError::Untrusted { id: first.id(), key: first.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::{key::SecretKey, manifest::Manifest};

    fn package(more: &str) -> Package {
        let text = format!("name = 'x'\nversion = '1.0.0'\n{more}");
        Manifest::parse(text.as_bytes()).expect("a manifest");
        let module = ("module.wasm".parse().expect("a path"), b"\0asm\x01\0\0\0"[..].into());
        Package::assemble(text.into(), [module]).expect("a package")
    }

    fn signed(package: &Package, key: &SecretKey) -> Package {
        package.signed(key.sign(package.digest())).expect("it is signed")
    }

    #[test]
    fn an_unsigned_package_is_taken_only_where_that_is_allowed() {
        let mut trust = Trust::default();
        assert_eq!(trust.admit(&package("")), Err(TrustError::Unsigned));
        trust.allow_unsigned = true;
        assert_eq!(trust.admit(&package("")), Ok(Reason::Unsigned));
    }

    #[test]
    fn a_stranger_is_named_with_what_trusts_him_even_where_unsigned_is_allowed() {
        let key = SecretKey::generate();
        let package = signed(&package(""), &key);
        for allow_unsigned in [false, true] {
            let trust = Trust { allow_unsigned, ..Trust::default() };
            let refused = trust.admit(&package).expect_err("refused").to_string();
            let public = key.public();
            assert!(refused.contains(&public.id().to_string()), "{refused}");
            assert!(refused.contains(&format!("add \"{public}\" to")), "{refused}");
        }
    }

    #[test]
    fn one_trusted_signature_of_several_is_enough() {
        let (known, stranger) = (SecretKey::generate(), SecretKey::generate());
        let package = signed(&signed(&package(""), &stranger), &known);
        assert_eq!(package.signatures().len(), 2);
        let trust = Trust { keys: vec![known.public()], ..Trust::default() };
        assert_eq!(trust.admit(&package), Ok(Reason::Signed(known.public().id())));
    }

    #[test]
    fn folders_and_variables_are_given_only_where_the_node_says_so() {
        let asks = package(
            "[capabilities]\nfolders = [{ guest = '/d', host = '/srv/data/x' }]\n\
             environment = ['HOME']\n",
        );
        let mut trust = Trust { allow_unsigned: true, ..Trust::default() };
        assert!(matches!(trust.admit(&asks), Err(TrustError::Folder { .. })));
        trust.folders = vec!["/srv/data".parse().expect("a path")];
        assert!(matches!(trust.admit(&asks), Err(TrustError::Variable { .. })));
        trust.environment = vec!["HOME".parse().expect("a name")];
        assert_eq!(trust.admit(&asks), Ok(Reason::Unsigned));
    }
}
