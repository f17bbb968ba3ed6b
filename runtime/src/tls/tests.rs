//! An authority of its own, and what is wrong with files.

use std::{fs, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An authority whose files are in a folder: `ca.pem`, and for each whom it certifies `NAME.pem` and
/// `NAME.key`.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        // Two of one name would be taken for each other's successors.
        let name = uuid::Uuid::new_v4().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signs").pem();
        let folder = tempfile::Builder::new().prefix("odeum-").tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), pem).expect("writes");
        Self { issuer: Issuer::new(params, key), folder }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Certifies that somebody is called `host`; the files are called `name`.
    pub(crate) fn certify(&self, name: &str, host: &str) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![host.to_owned()]).expect("valid");
        let pem = params.signed_by(&key, &self.issuer).expect("signs").pem();
        fs::write(self.file(&format!("{name}.pem")), pem).expect("writes");
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).expect("writes");
    }

    /// What accepts connections to `host`.
    pub(crate) fn acceptor(&self, host: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![host.to_owned()]).expect("valid");
        let cert = params.signed_by(&key, &self.issuer).expect("signs");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate");
        TlsAcceptor::from(Arc::new(config))
    }

    pub(crate) fn authorities(&self) -> Authorities {
        Authorities::with_file(&self.file("ca.pem")).expect("an authority")
    }
}

#[test]
fn a_file_without_what_it_should_have_is_named() {
    let ca = Ca::new();
    let text = ca.file("text.pem");
    fs::write(&text, "hello").expect("writes");
    for path in [&text, &ca.file("none.pem")] {
        let error = Authorities::with_file(path).expect_err("is refused").to_string();
        assert!(error.starts_with(&format!("{} has no certificate", path.display())), "{error}");
    }
    let error = Identity::read(&ca.file("ca.pem"), &text).err().expect("is refused");
    assert!(error.to_string().contains("text.pem has no private key"), "{error}");
}

#[test]
fn those_of_the_settings_are_among_all_and_another_process_has_the_same() {
    let ca = Ca::new();
    let all = ca.authorities().all();
    let own = certificates(&ca.file("ca.pem")).expect("a certificate");
    assert_eq!(all.first().map(Vec::as_slice), Some(&own[0][..]));
    assert_eq!(Authorities::only(all.clone()).all(), all);
}
