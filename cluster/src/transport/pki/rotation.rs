//! Renewal of certificates where they are, and the change of an authority without an outage.
//!
//! An authority is changed in three [`Step`]s. Between two of them the folders are copied to their
//! nodes, in any order, and each node takes them up while it runs. Before and after each step
//! every node accepts every other one:
//!
//! | after | nodes trust | nodes show a certificate of |
//! |---|---|---|
//! | | old | old |
//! | [`Step::Announce`] | old, new | old |
//! | [`Step::Switch`] | old, new | new |
//! | [`Step::Retire`] | new | new |
//!
//! Two steps at once would part the nodes that have taken both from those that have taken none,
//! so each is refused unless it is the next. A step that was interrupted is finished by calling
//! it again.

use std::fs;
use std::path::{Path, PathBuf};

use odeum_proto::NodeId;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

use super::{
    Authority, CA_CERT, CA_KEY, NODE_CERT, PUBLIC, PkiError, SECRET, as_pem, io_error, is_of,
    new_authority, node_id, read_cert, read_certs, read_key, replace,
};
use crate::transport::tls;

/// File of the next authority's key.
const NEXT_KEY: &str = "ca-next.key";

/// A step in the change of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Make the next authority and have it trusted beside the present one, which still signs.
    Announce,
    /// Let the next authority sign: every node gets a certificate of it. Both are trusted.
    Switch,
    /// Trust the new authority alone.
    Retire,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Announce => "announce",
            Self::Switch => "switch",
            Self::Retire => "retire",
        })
    }
}

/// A node's folder that was written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// Whose it is.
    pub node: NodeId,
    /// Where it is.
    pub folder: PathBuf,
}

/// Gives `nodes` new certificates and keys in place: all that have one in the authority's folder
/// `dir`, if none is named.
///
/// # Errors
/// [`PkiError::NoSuchNode`] before anything is written when one has no certificate there;
/// otherwise what is wrong with a file, by name.
pub fn rotate(dir: &Path, nodes: &[NodeId]) -> Result<Vec<Rotated>, PkiError> {
    let authority = Authority::load(dir)?;
    let mut folders = folders(dir)?;
    if let Some(node) = nodes.iter().find(|node| folders.iter().all(|have| have.node != **node)) {
        return Err(PkiError::NoSuchNode { dir: dir.to_owned(), node: node.clone() });
    }
    folders.retain(|have| nodes.is_empty() || nodes.contains(&have.node));
    for Rotated { node, folder } in &folders {
        authority.issue(node, folder)?;
    }
    Ok(folders)
}

/// Takes a step in the change of the authority in `dir`, for it and for the folders of nodes in
/// it.
///
/// # Errors
/// [`PkiError::Order`] when it is not the next step; otherwise what is wrong with a file, by name.
pub fn change_authority(dir: &Path, step: Step) -> Result<Vec<Rotated>, PkiError> {
    let state = State::read(dir)?;
    let folders = folders(dir)?;
    match (step, state) {
        (Step::Announce, State::Settled { cert }) => announce(dir, cert, &folders),
        (Step::Announce, State::Announced { old, new }) => trust(dir, &[old, new], &folders),
        (Step::Switch, State::Announced { old, new }) => {
            // From here on the new key signs.
            rename(&dir.join(NEXT_KEY), &dir.join(CA_KEY))?;
            switch(dir, &[new, old], &folders)
        }
        (Step::Switch, State::Switched { old, new }) => switch(dir, &[new, old], &folders),
        (Step::Retire, State::Switched { new, .. }) => retire(dir, new, &folders),
        (step, state) => {
            Err(PkiError::Order { dir: dir.to_owned(), step, reason: state.next().into() })
        }
    }?;
    Ok(folders)
}

/// How far the change of an authority is, by the files in its folder.
enum State {
    Settled { cert: CertificateDer<'static> },
    Announced { old: CertificateDer<'static>, new: CertificateDer<'static> },
    Switched { old: CertificateDer<'static>, new: CertificateDer<'static> },
}

impl State {
    fn read(dir: &Path) -> Result<Self, PkiError> {
        let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let signer = read_key(&key_path)?;
        let (mut signing, others): (Vec<_>, Vec<_>) =
            read_certs(&cert_path)?.into_iter().partition(|cert| is_of(cert, &signer));
        let Some(cert) = signing.pop() else {
            return Err(PkiError::KeyMismatch { path: key_path, cert: cert_path });
        };
        let Some(other) = others.into_iter().next() else { return Ok(Self::Settled { cert }) };
        let next = dir.join(NEXT_KEY);
        if next.exists() && is_of(&other, &read_key(&next)?) {
            return Ok(Self::Announced { old: cert, new: other });
        }
        Ok(Self::Switched { old: other, new: cert })
    }

    /// What is to be done first instead.
    fn next(&self) -> &'static str {
        match self {
            Self::Settled { .. } => "no change is under way; the first step is announce",
            Self::Announced { .. } => "a new authority is announced; the next step is switch",
            Self::Switched { .. } => "the new authority signs already; the next step is retire",
        }
    }
}

fn announce(dir: &Path, old: CertificateDer<'static>, folders: &[Rotated]) -> Result<(), PkiError> {
    let (params, key): (_, KeyPair) = new_authority()?;
    let new = params.self_signed(&key)?.der().clone();
    replace(&dir.join(NEXT_KEY), &key.serialize_pem(), SECRET)?;
    trust(dir, &[old, new], folders)
}

/// Writes which authorities are trusted, first where the next step looks.
fn trust(
    dir: &Path,
    authorities: &[CertificateDer<'static>],
    folders: &[Rotated],
) -> Result<(), PkiError> {
    let text = as_pem(authorities);
    replace(&dir.join(CA_CERT), &text, PUBLIC)?;
    folders.iter().try_for_each(|have| replace(&have.folder.join(CA_CERT), &text, PUBLIC))
}

fn switch(
    dir: &Path,
    authorities: &[CertificateDer<'static>],
    folders: &[Rotated],
) -> Result<(), PkiError> {
    replace(&dir.join(CA_CERT), &as_pem(authorities), PUBLIC)?;
    let authority = Authority::load(dir)?;
    folders.iter().try_for_each(|have| authority.issue(&have.node, &have.folder))
}

fn retire(dir: &Path, new: CertificateDer<'static>, folders: &[Rotated]) -> Result<(), PkiError> {
    for Rotated { node, folder } in folders {
        let path = folder.join(NODE_CERT);
        if !tls::is_signed_by(&read_cert(&path)?, &new) {
            let reason =
                format!("node {node} has no valid certificate of the new one; switch again");
            return Err(PkiError::Order {
                dir: dir.to_owned(),
                step: Step::Retire,
                reason: reason.into(),
            });
        }
    }
    let text = as_pem(&[new]);
    // The authority's own file last: until then this step can be taken again.
    folders.iter().try_for_each(|have| replace(&have.folder.join(CA_CERT), &text, PUBLIC))?;
    replace(&dir.join(CA_CERT), &text, PUBLIC)
}

/// The folders of nodes in an authority's folder, which may be one itself (in development).
fn folders(dir: &Path) -> Result<Vec<Rotated>, PkiError> {
    let entries = fs::read_dir(dir).map_err(|error| io_error(dir, error))?;
    let mut found = Vec::new();
    let inside = entries.map(|entry| entry.map(|entry| entry.path()));
    for folder in std::iter::once(Ok(dir.to_owned())).chain(inside) {
        let folder = folder.map_err(|error| io_error(dir, error))?;
        let path = folder.join(NODE_CERT);
        if path.is_file() {
            let node = node_id(&read_cert(&path)?)
                .map_err(|reason| PkiError::Unfit { path: path.clone(), reason })?;
            found.push(Rotated { node, folder });
        }
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

fn rename(from: &Path, to: &Path) -> Result<(), PkiError> {
    fs::rename(from, to).map_err(|error| io_error(from, error))
}
