//! A server that asks another one by HTTPS, inside the node and in a process of its own that the kernel
//! shuts in.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{fs, sync::Arc, time::Duration};

use odeum_proto::{http::HttpRequest, store::FirmwareLimits};
use odeum_runtime::{
    firmware::{Engine, Grants, GuestLog, Launcher, Module, Runner, Setting, Usage},
    package::build,
    tls::Authorities,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// An authority as PEM, and a server called `localhost` that it certifies.
fn certified() -> (String, TlsAcceptor) {
    let (ca_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
    let mut ca = CertificateParams::new(Vec::new()).expect("valid");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).expect("signs").pem();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("valid");
    let server = server.signed_by(&key, &Issuer::new(ca, ca_key)).expect("signs");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .expect("a certificate");
    (pem, TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn a_guest_reaches_a_server_by_https_in_both_isolations() {
    let folder = tempfile::tempdir().expect("a folder");
    let (pem, acceptor) = certified();
    fs::write(folder.path().join("ca.pem"), pem).expect("writes");
    let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/guests/http-component");
    let wasm = fs::read(format!("{guests}/http-component.wasm")).expect("the guest");
    fs::write(folder.path().join("module.wasm"), wasm).expect("writes");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let engine = Engine::new().expect("an engine");
    for isolation in ["task", "process"] {
        let manifest = format!(
            "name = 'guest'\nversion = '1.0.0'\nisolation = '{isolation}'\n\
             [capabilities]\nhttp = ['localhost:{port}']"
        );
        fs::write(folder.path().join("odeum.toml"), manifest).expect("writes");
        let package = build::of_folder(folder.path()).expect("a package").package;
        let module = Module::compile(&engine, package.digest(), &package).await.expect("compiles");
        let authorities = Authorities::with_file(&folder.path().join("ca.pem"));
        let authorities = authorities.expect("an authority");
        let setting = Setting {
            firmware: "guest".parse().expect("valid"),
            log: GuestLog::alone("guest".parse().expect("valid")),
            limits: FirmwareLimits { memory_bytes: 4 << 20, message_time: Duration::from_secs(1) },
            grants: Arc::new(Grants { authorities, ..Grants::default() }),
            usage: Usage::default(),
        };
        let launcher = Launcher::program(env!("CARGO_BIN_EXE_odeum"));
        let server = Runner::new(module, setting, launcher).server().await.expect("it starts");
        let request = HttpRequest {
            method: "GET".to_owned(),
            authority: "here:1".to_owned(),
            path: format!("/get?https://localhost:{port}"),
            headers: Vec::new(),
            body: Vec::new(),
        };
        let peer = async {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut stream = acceptor.accept(stream).await.expect("TLS");
            let mut head = vec![0; 4_096];
            let _ = stream.read(&mut head).await.expect("a request");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npong";
            stream.write_all(answer).await.expect("writes");
            // A client that has all it needs may be gone.
            let _ = stream.shutdown().await;
        };
        let (answer, ()) = tokio::join!(server.serve(request), peer);
        let answer = answer.expect("answers");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"pong"[..]), "{isolation}");
    }
}
