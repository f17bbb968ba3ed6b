//! TLS to what is outside of the cluster: servers and brokers that guests reach. The only place of this
//! crate that knows rustls; links between nodes have their own authority and are not made here.
//!
//! Whom to trust is for the machine to say (its own store of certificates) and for the settings of the
//! node, which may name a file with more.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What cannot be used for TLS. Correct the file it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or has nothing of what it should have.
    #[error("{} has no {what}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should have.
        what: &'static str,
        /// Why not.
        reason: Box<str>,
    },
    /// A certificate and its key do not fit, or an authority is none.
    #[error("no TLS connections can be made: {reason}")]
    Unfit {
        /// Why.
        reason: Box<str>,
    },
}

/// Authorities whose certificates are trusted. Cheap to clone.
#[derive(Clone, Default)]
pub struct Authorities(Arc<Trusted>);

#[derive(Default)]
struct Trusted {
    /// Those of the settings.
    named: Vec<CertificateDer<'static>>,
    /// With those of the machine, which are read when they are needed first.
    all: OnceLock<Vec<CertificateDer<'static>>>,
    client: OnceLock<Client>,
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.0.named == other.0.named
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("named", &self.0.named.len()).finish_non_exhaustive()
    }
}

impl Authorities {
    /// Those of the machine and those in a PEM file.
    ///
    /// # Errors
    /// [`TlsError::File`] when there is none in it.
    pub fn with_file(path: &Path) -> Result<Self, TlsError> {
        let named = certificates(path)?;
        Ok(Self(Arc::new(Trusted { named, ..Trusted::default() })))
    }

    /// These alone, as [`Self::all`] gives them.
    pub(crate) fn only(all: Vec<Vec<u8>>) -> Self {
        let all: Vec<_> = all.into_iter().map(CertificateDer::from).collect();
        Self(Arc::new(Trusted { all: all.into(), ..Trusted::default() }))
    }

    /// All of them, for another process. Reads those of the machine.
    pub(crate) fn all(&self) -> Vec<Vec<u8>> {
        self.0.all().iter().map(|it| it.to_vec()).collect()
    }

    /// What connects to those who have a certificate of one of them.
    ///
    /// # Errors
    /// [`TlsError`] when there is none that can be used.
    pub(crate) async fn client(&self) -> Result<Client, TlsError> {
        if let Some(there) = self.0.client.get() {
            return Ok(there.clone());
        }
        let trusted = Arc::clone(&self.0);
        // The machine's are in a file of some hundred kB.
        let made = tokio::task::spawn_blocking(move || {
            let client = Client::new(trusted.all(), None)?;
            Ok(trusted.client.get_or_init(|| client).clone())
        });
        made.await.map_err(|error| TlsError::Unfit { reason: error.to_string().into() })?
    }

    /// As [`Self::client`], for one who shows a certificate of its own.
    ///
    /// # Errors
    /// [`TlsError`] when that, its key or the authorities cannot be used.
    pub(crate) fn client_as(&self, identity: Option<Identity>) -> Result<Client, TlsError> {
        Client::new(self.0.all(), identity)
    }
}

impl Trusted {
    fn all(&self) -> &[CertificateDer<'static>] {
        self.all.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in found.errors {
                tracing::warn!(%error, "certificates of this machine not read");
            }
            [self.named.clone(), found.certs].concat()
        })
    }
}

/// A certificate and its key.
pub(crate) struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Those in two PEM files.
    ///
    /// # Errors
    /// [`TlsError::File`] when one of them has none.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| TlsError::File {
            path: key.to_owned(),
            what: "private key",
            reason: error.to_string().into(),
        })?;
        Ok(Self { chain, key })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |reason: String| TlsError::File {
        path: path.to_owned(),
        what: "certificate",
        reason: reason.into(),
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all = all.map_err(|error| bad(error.to_string()))?;
    if all.is_empty() { Err(bad("it is empty".to_owned())) } else { Ok(all) }
}

/// Makes TLS connections. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    fn new(
        authorities: &[CertificateDer<'static>],
        identity: Option<Identity>,
    ) -> Result<Self, TlsError> {
        let unfit =
            |error: &dyn std::error::Error| TlsError::Unfit { reason: error.to_string().into() };
        let mut roots = RootCertStore::empty();
        // A machine has odd ones among many.
        let (taken, _) = roots.add_parsable_certificates(authorities.iter().cloned());
        if taken == 0 {
            let reason = "neither this machine nor the settings of the node name an authority";
            return Err(TlsError::Unfit { reason: reason.into() });
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unfit(&error))?
            .with_root_certificates(roots);
        let config = match identity {
            Some(Identity { chain, key }) => {
                config.with_client_auth_cert(chain, key).map_err(|error| unfit(&error))?
            }
            None => config.with_no_client_auth(),
        };
        Ok(Self(Arc::new(config)))
    }

    /// TLS over a connection to `host`, a name or an address, which must have a certificate for it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

/// Why a connection failed, in kinds that a guest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The certificate of the other side.
    Certificate,
    /// The other side refused.
    Refused(u8),
    /// Something else of the protocol.
    Protocol,
}

impl Fault {
    /// That of an error of [`Client::connect`].
    pub(crate) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Self::Certificate
            }
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused((*alert).into()),
            _ => Self::Protocol,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
