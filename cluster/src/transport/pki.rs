//! Certificates: one authority per cluster, one certificate per node, as PEM files in a folder.
//!
//! A node's certificate carries two names: `node.odeum`, which every node has and which every
//! dialler asks for, so that the TLS library checks it; and `<node>.node.odeum`, from which the
//! peer's [`NodeId`] is read. Whoever holds `ca.key` decides who is in the cluster.
//!
//! | file | what | where |
//! |---|---|---|
//! | `ca.pem` | the authority's certificate; two while the authority is changed, see [`Step`] | every node |
//! | `ca.key` | its key, mode 0600 | one safe place |
//! | `node.pem`, `node.key` | a node's certificate and key, the key 0600 | that node |
//! | `ca-next.key` | the key of the next authority, mode 0600, while it is announced | beside `ca.key` |

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use odeum_proto::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

mod rotation;

pub use rotation::{Rotated, Step, change_authority, rotate};

/// File of the authority's certificate.
pub const CA_CERT: &str = "ca.pem";
/// File of the authority's key.
pub const CA_KEY: &str = "ca.key";
/// File of the node's certificate.
pub const NODE_CERT: &str = "node.pem";
/// File of the node's key.
pub const NODE_KEY: &str = "node.key";

/// The name in every node's certificate.
pub(super) const COMMON_NAME: &str = "node.odeum";

/// An authority is meant to live as long as its cluster.
const CA_DAYS: i64 = 20 * 365;
/// Long enough that nobody is surprised in the first year, short enough that a lost key ends.
const NODE_DAYS: i64 = 2 * 365;
/// Certificates are valid from a day before they were made: clocks differ between machines.
const BACKDATED_DAYS: i64 = 1;
/// Largest PEM file that is read, in bytes. A certificate has about 700.
const PEM_BYTES: u64 = 64 << 10;
/// Characters in a line of a PEM file (RFC 7468 §2).
const PEM_COLUMNS: usize = 64;
/// What is expected in a certificate file, for complaints.
const CERT: &str = "certificate";

/// A certificate file that cannot be used, by name.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file is not there. `odeum certs` makes it.
    #[error("{}: not found; `odeum certs init` and `odeum certs issue` make certificates", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is there already and is not overwritten: nodes may rely on it.
    #[error("{}: exists already and is not overwritten", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{}: not a {expected} in PEM format: {reason}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
        /// What the parser said.
        reason: Box<str>,
    },
    /// The certificate is over, or not yet valid.
    #[error("{}: valid from {from} to {until}, which is not now", path.display())]
    NotNow {
        /// Which file.
        path: PathBuf,
        /// First moment of validity.
        from: Box<str>,
        /// Last moment of validity.
        until: Box<str>,
    },
    /// The certificate was signed by another authority.
    #[error("{}: not signed by the authority in {}", path.display(), ca.display())]
    OtherAuthority {
        /// Which file.
        path: PathBuf,
        /// The authority's file.
        ca: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error("{}: does not belong to the certificate in {}", path.display(), cert.display())]
    KeyMismatch {
        /// The key's file.
        path: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// The certificate is another node's.
    #[error("{}: is the certificate of node {certified}, not of {node}", path.display())]
    OtherNode {
        /// Which file.
        path: PathBuf,
        /// The node it is for.
        certified: NodeId,
        /// The node it was to be used for.
        node: NodeId,
    },
    /// The certificate cannot be used for a node.
    #[error("{}: not a certificate for an odeum node: {reason}", path.display())]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: Box<str>,
    },
    /// The step is not the next one in the change of an authority.
    #[error("{}: cannot {step} now: {reason}", dir.display())]
    Order {
        /// Folder of the authority.
        dir: PathBuf,
        /// What was to be done.
        step: Step,
        /// What stands against it.
        reason: Box<str>,
    },
    /// The authority's folder has no certificates of nodes.
    #[error("{}: has no certificate of node {node} to renew; `odeum certs issue` makes one", dir.display())]
    NoSuchNode {
        /// Folder of the authority.
        dir: PathBuf,
        /// Whose was looked for.
        node: NodeId,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {reason}")]
    Make {
        /// What the library said.
        reason: Box<str>,
    },
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make { reason: error.to_string().into() }
    }
}

/// The holder of `ca.key`: makes certificates for nodes.
pub struct Authority {
    /// What nodes are to trust: its certificate, and during a change a second one.
    trusted_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority and writes `ca.pem` and `ca.key` into `dir`, which is made if need be.
    ///
    /// # Errors
    /// [`PkiError::Exists`] when `dir` has an authority; [`PkiError::Io`] when it cannot be written.
    pub fn create(dir: &Path) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|error| io_error(dir, error))?;
        let (params, key) = new_authority()?;
        let trusted_pem = params.self_signed(&key)?.pem();
        write_new(&dir.join(CA_KEY), &key.serialize_pem(), SECRET)?;
        write_new(&dir.join(CA_CERT), &trusted_pem, PUBLIC)?;
        Ok(Self { trusted_pem, issuer: Issuer::new(params, key) })
    }

    /// The authority in `dir`.
    ///
    /// # Errors
    /// [`PkiError`] naming the file that is missing, malformed or over.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
        let key = read_key(&key_path)?;
        let certs = read_certs(&cert_path)?;
        // During a change there are two: the key says which of them signs.
        let Some(cert) = certs.iter().find(|cert| is_of(cert, &key)) else {
            return Err(PkiError::KeyMismatch { path: key_path, cert: cert_path });
        };
        check_time(&cert_path, cert)?;
        let issuer = Issuer::from_ca_cert_der(cert, key)
            .map_err(|error| malformed(&cert_path, "certificate", &error))?;
        Ok(Self { trusted_pem: as_pem(&certs), issuer })
    }

    /// Makes a certificate for `node` and writes `ca.pem`, `node.pem` and `node.key` into `dir`.
    /// A certificate that is there is replaced: that is how one is renewed.
    ///
    /// # Errors
    /// [`PkiError::Io`] when a file cannot be written.
    pub fn issue(&self, node: &NodeId, dir: &Path) -> Result<(), PkiError> {
        self.issue_for(node, dir, NODE_DAYS)
    }

    /// As [`issue`](Self::issue), valid for so many days from now.
    pub(super) fn issue_for(&self, node: &NodeId, dir: &Path, days: i64) -> Result<(), PkiError> {
        fs::create_dir_all(dir).map_err(|error| io_error(dir, error))?;
        let names = vec![COMMON_NAME.to_owned(), format!("{node}.{COMMON_NAME}")];
        let mut params = params(names, node.as_str(), days)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        replace(&dir.join(NODE_KEY), &key.serialize_pem(), SECRET)?;
        replace(&dir.join(NODE_CERT), &cert.pem(), PUBLIC)?;
        replace(&dir.join(CA_CERT), &self.trusted_pem, PUBLIC)
    }
}

/// What a certificate file says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The node it is for; `None` for an authority.
    pub node: Option<NodeId>,
    /// Whether it can sign others.
    pub authority: bool,
    /// First moment of validity, UTC.
    pub not_before: String,
    /// Last moment of validity, UTC.
    pub not_after: String,
    /// Whole days until it is over; negative when it is.
    pub days_left: i64,
}

/// What the first certificate in the file at `path` says.
///
/// # Errors
/// [`PkiError`] when it cannot be read or is no certificate.
pub fn inspect(path: &Path) -> Result<CertificateInfo, PkiError> {
    describe(&read_cert(path)?).ok_or_else(|| unreadable(path))
}

/// What all certificates in the file at `path` say: a `ca.pem` has two while the authority is
/// changed.
///
/// # Errors
/// As [`inspect`].
pub fn inspect_all(path: &Path) -> Result<Vec<CertificateInfo>, PkiError> {
    let described = |cert| describe(cert).ok_or_else(|| unreadable(path));
    read_certs(path)?.iter().map(described).collect()
}

/// Checks that a node called `node` can use the files in `dir`, as its start does, and says what
/// its certificate says.
///
/// # Errors
/// [`PkiError`] naming the file that stands in the way.
pub fn verify(dir: &Path, node: &NodeId) -> Result<CertificateInfo, PkiError> {
    let path = dir.join(NODE_CERT);
    super::tls::load(dir, node)?.own.ok_or_else(|| unreadable(&path))
}

/// What a certificate says; `None` for bytes that are none.
pub(super) fn describe(der: &CertificateDer<'_>) -> Option<CertificateInfo> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let validity = cert.validity();
    let left = validity.not_after.timestamp() - OffsetDateTime::now_utc().unix_timestamp();
    Some(CertificateInfo {
        node: node_id(der).ok(),
        authority: cert.is_ca(),
        not_before: validity.not_before.to_string(),
        not_after: validity.not_after.to_string(),
        days_left: left.div_euclid(24 * 3_600),
    })
}

/// A node's certificates, read and checked against each other.
#[derive(Debug)]
pub(super) struct Credentials {
    /// The authorities that are valid now, at least one.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) cert: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// Reads the files in `dir`. Whether they belong together is checked by [`super::tls`], with
    /// the code that will check the peers'.
    pub(super) fn read(dir: &Path, node: &NodeId) -> Result<Self, PkiError> {
        let (ca_path, cert_path, key_path) =
            (dir.join(CA_CERT), dir.join(NODE_CERT), dir.join(NODE_KEY));
        let authorities = valid_now(&ca_path, read_certs(&ca_path)?)?;
        let cert = read_cert(&cert_path)?;
        check_time(&cert_path, &cert)?;
        let key = PrivateKeyDer::from_pem_slice(read_text(&key_path)?.as_bytes())
            .map_err(|error| pem_error(&key_path, "private key", error))?;
        let certified =
            node_id(&cert).map_err(|reason| PkiError::Unfit { path: cert_path.clone(), reason })?;
        if certified != *node {
            return Err(PkiError::OtherNode { path: cert_path, certified, node: node.clone() });
        }
        Ok(Self { authorities, cert, key })
    }
}

/// The node a certificate is for.
pub(super) fn node_id(cert: &CertificateDer<'_>) -> Result<NodeId, Box<str>> {
    let (_, cert) = X509Certificate::from_der(cert).map_err(|error| error.to_string())?;
    let names = cert
        .subject_alternative_name()
        .map_err(|error| error.to_string())?
        .ok_or("it has no alternative names")?;
    let suffix = format!(".{COMMON_NAME}");
    let mut nodes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => name.strip_suffix(&suffix),
        _ => None,
    });
    // Two would let one certificate speak for two nodes.
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => node.parse::<NodeId>().map_err(|error| error.to_string().into()),
        (None, _) => Err(format!("it has no name that ends in {suffix}").into()),
        (Some(_), Some(_)) => Err("it names two nodes".into()),
    }
}

fn params(names: Vec<String>, title: &str, days: i64) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::new(names)?;
    let now = OffsetDateTime::now_utc();
    params.not_after = now + time::Duration::days(days);
    params.not_before = params.not_after.min(now) - time::Duration::days(BACKDATED_DAYS);
    params.distinguished_name.push(DnType::CommonName, title);
    Ok(params)
}

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;

fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(
            |error| match error.kind() {
                io::ErrorKind::AlreadyExists => PkiError::Exists { path: path.to_owned() },
                _ => io_error(path, error),
            },
        )?;
    file.write_all(text.as_bytes()).map_err(|error| io_error(path, error))
}

/// Writes beside and renames over, so that a reader sees the old file or the new one, and the
/// mode is right from the first byte.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io_error(&beside, error));
        }
        _ => {}
    }
    write_new(&beside, text, mode)?;
    fs::rename(&beside, path).map_err(|error| io_error(path, error))
}

fn read_text(path: &Path) -> Result<String, PkiError> {
    let size = fs::metadata(path).map_err(|error| io_error(path, error))?.len();
    if size > PEM_BYTES {
        let reason = format!("{size} bytes where at most {PEM_BYTES} are expected").into();
        return Err(PkiError::Malformed { path: path.to_owned(), expected: "file", reason });
    }
    let bytes = fs::read(path).map_err(|error| io_error(path, error))?;
    String::from_utf8(bytes).map_err(|error| malformed(path, "text", &error))
}

fn read_cert(path: &Path) -> Result<CertificateDer<'static>, PkiError> {
    // `read_certs` gives at least one.
    let certs = read_certs(path)?;
    certs.into_iter().next().ok_or_else(|| pem_error(path, CERT, pem::Error::NoItemsFound))
}

/// All certificates in a file, at least one.
fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let certs = CertificateDer::pem_slice_iter(read_text(path)?.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(path, CERT, error))?;
    if certs.is_empty() {
        return Err(pem_error(path, CERT, pem::Error::NoItemsFound));
    }
    for cert in &certs {
        parse(path, cert)?;
    }
    Ok(certs)
}

/// Those that are valid now: one that is over does not make the others useless.
fn valid_now(
    path: &Path,
    certs: Vec<CertificateDer<'static>>,
) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let (mut valid, mut complaint) = (Vec::new(), Ok(()));
    for cert in certs {
        match check_time(path, &cert) {
            Ok(()) => valid.push(cert),
            Err(error) => complaint = Err(error),
        }
    }
    if valid.is_empty() { complaint.map(|()| valid) } else { Ok(valid) }
}

fn as_pem(certs: &[CertificateDer<'_>]) -> String {
    let block = |cert: &CertificateDer<'_>| {
        let text = base64::engine::general_purpose::STANDARD.encode(cert);
        let lines: Vec<_> =
            text.as_bytes().chunks(PEM_COLUMNS).map(String::from_utf8_lossy).collect();
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    };
    certs.iter().map(block).collect()
}

fn read_key(path: &Path) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(&read_text(path)?).map_err(|error| malformed(path, "private key", &error))
}

/// Whether the certificate is for this key.
fn is_of(cert: &CertificateDer<'_>, key: &KeyPair) -> bool {
    X509Certificate::from_der(cert)
        .is_ok_and(|(_, cert)| cert.public_key().raw == key.subject_public_key_info())
}

fn new_authority() -> Result<(CertificateParams, KeyPair), PkiError> {
    // A name of its own, so that a certificate of another authority is told from a damaged one.
    let title = format!("odeum authority {:08x}", rand::random::<u32>());
    let mut params = params(Vec::new(), &title, CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok((params, KeyPair::generate()?))
}

fn parse<'a>(path: &Path, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkiError> {
    X509Certificate::from_der(der)
        .map(|(_, cert)| cert)
        .map_err(|error| malformed(path, "certificate", &error))
}

fn unreadable(path: &Path) -> PkiError {
    malformed(path, CERT, &pem::Error::NoItemsFound)
}

fn check_time(path: &Path, der: &CertificateDer<'_>) -> Result<(), PkiError> {
    let validity = parse(path, der)?.validity().clone();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    if (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now) {
        return Ok(());
    }
    Err(PkiError::NotNow {
        path: path.to_owned(),
        from: validity.not_before.to_string().into(),
        until: validity.not_after.to_string().into(),
    })
}

fn io_error(path: &Path, error: io::Error) -> PkiError {
    match error.kind() {
        io::ErrorKind::NotFound => PkiError::Missing { path: path.to_owned() },
        _ => PkiError::Io { path: path.to_owned(), error },
    }
}

fn pem_error(path: &Path, expected: &'static str, error: pem::Error) -> PkiError {
    let reason = match error {
        pem::Error::NoItemsFound => format!("there is no {expected} in it").into(),
        other => other.to_string().into(),
    };
    PkiError::Malformed { path: path.to_owned(), expected, reason }
}

fn malformed(path: &Path, expected: &'static str, error: &dyn std::error::Error) -> PkiError {
    PkiError::Malformed { path: path.to_owned(), expected, reason: error.to_string().into() }
}
