//! Components of WASI 0.2: jobs and servers of HTTP, built by the plain Rust targets.

use std::{
    fs,
    time::{Duration, Instant},
};

use odeum_proto::{
    call::{CallError, CallRequest},
    codec,
    http::{BODY_BYTES, HttpAnswer, HttpRequest, SESSION},
    store::FirmwareLimits,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::bench::{Ears, compiled, granting, ran, setting};
use super::stage::{PATIENCE, Stage, entity};
use super::{COMMAND, COUNTER, SERVER};
use crate::{
    firmware::{
        Grants, GuestFailure, GuestLimit, HostState, Kind, Setting,
        module::{Linked, Module},
    },
    tls::tests::Ca,
};

fn args(words: &[&str]) -> String {
    format!("args = {words:?}")
}

#[tokio::test]
async fn a_job_gets_arguments_environment_and_output_and_its_exit_code_is_known() {
    let ears = Ears::open();
    let manifest =
        args(&["print", "hello", "env", "MODE", "exit", "7"]) + "\n[environment]\nMODE = 'dry'";
    let (code, _) = ran(COMMAND, &manifest, &setting()).await.expect("ends");
    // WASI 0.2 only knows success and failure.
    assert_eq!(code, 1);
    for said in ["text=hello", "text=dry"] {
        assert_eq!(ears.lines(said).len(), 1, "{}", ears.heard());
    }
    assert_eq!(ran(COMMAND, "", &setting()).await.map(|(code, _)| code), Ok(0));
}

#[tokio::test]
async fn a_job_sees_granted_folders_only() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file.txt"), "contents\n").expect("writes");
    let host = folder.path().to_str().expect("text");
    let grants = Grants { folders: vec![host.parse().expect("a path")], ..Grants::default() };
    let ears = Ears::open();
    let cat = args(&["cat", "/data/file.txt"]);
    let granted =
        format!("{cat}\n[capabilities]\nfolders = [{{ guest = '/data', host = '{host}' }}]");
    let setting = granting(grants);
    assert_eq!(ran(COMMAND, &granted, &setting).await.map(|(code, _)| code), Ok(0));
    assert_eq!(ears.lines("text=contents").len(), 1, "{}", ears.heard());
    assert_eq!(ran(COMMAND, &cat, &setting).await.map(|(code, _)| code), Ok(1));
}

#[tokio::test]
async fn a_job_without_the_clock_has_one_that_stands_still() {
    let ears = Ears::open();
    ran(COMMAND, &args(&["now", ""]), &setting()).await.expect("ends");
    assert_eq!(ears.lines("text=0").len(), 1, "{}", ears.heard());
    let granted = args(&["now", ""]) + "\n[capabilities]\nclock = true";
    ran(COMMAND, &granted, &setting()).await.expect("ends");
    assert!(ears.lines("guest log").last().is_some_and(|line| !line.ends_with("text=0")));
}

#[tokio::test]
async fn a_job_that_loops_or_panics_ends_by_its_limits() {
    let limited = args(&["spin", ""]) + "\n[limits]\nmessage-time = '100ms'";
    let failure = ran(COMMAND, &limited, &setting()).await.expect_err("is ended");
    let limit = GuestLimit::Time { allowed: Duration::from_millis(100) };
    assert_eq!(failure, GuestFailure::Limit(limit));
    let failure = ran(COMMAND, &args(&["fail", ""]), &setting()).await.expect_err("panics");
    assert!(failure.to_string().contains("unreachable"), "{failure}");
}

fn request(path: &str, body: &[u8]) -> HttpRequest {
    HttpRequest {
        method: if body.is_empty() { "GET" } else { "POST" }.to_owned(),
        authority: "localhost".to_owned(),
        path: path.to_owned(),
        headers: vec![("accept".to_owned(), b"*/*".to_vec())],
        body: body.to_vec(),
    }
}

async fn served(module: &Module, path: &str, body: &[u8]) -> Result<HttpAnswer, GuestFailure> {
    served_with(setting(), module, path, body).await
}

async fn served_with(
    setting: Setting,
    module: &Module,
    path: &str,
    body: &[u8],
) -> Result<HttpAnswer, GuestFailure> {
    let Linked::Http(service) = module.linked() else { panic!("{module:?}") };
    service.serve(module.manifest(), &setting, request(path, body)).await
}

/// For bodies of megabytes, which a busy machine copies slowly.
fn patient() -> Setting {
    let setting = setting();
    let limits = FirmwareLimits { message_time: Duration::from_secs(20), ..setting.limits };
    Setting { limits, ..setting }
}

#[tokio::test]
async fn a_server_answers_each_request_with_an_instance_of_its_own() {
    let module = compiled(SERVER, "").await;
    assert_eq!(module.kind(), Kind::Http);
    let answer = served(&module, "/echo", b"hello").await.expect("answers");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert!(answer.headers.contains(&("served-by".to_owned(), b"http-component".to_vec())));
    let answer = served(&module, "/nowhere", b"").await.expect("answers");
    assert_eq!((answer.status, &answer.body[..]), (404, &b"GET /nowhere\n"[..]));
    let large = vec![b'x'; 700_000];
    let answer = served(&module, "/echo", &large).await.expect("answers");
    assert_eq!(answer.body, large);
    for (path, told) in [("/trap", "unreachable"), ("/silent", "without an answer")] {
        let failure = served(&module, path, b"").await.expect_err("no answer");
        assert!(failure.to_string().contains(told), "{failure}");
    }
    let failure = served(&module, "/spin", b"").await.expect_err("no answer");
    assert!(matches!(failure, GuestFailure::Limit(GuestLimit::Time { .. })), "{failure}");
    // More than its memory has: it reads and writes a piece at a time.
    let large = vec![b'x'; 12_000_000];
    let answer = served_with(patient(), &module, "/count", &large).await.expect("answers");
    assert_eq!(answer.body, b"12000000");
    let answer = served_with(patient(), &module, "/large?12000000", b"").await.expect("answers");
    assert_eq!(answer.body.len(), 12_000_000);
    let answer =
        served_with(patient(), &module, "/pipe", &large[..6_000_000]).await.expect("answers");
    assert_eq!(answer.body.len(), 6_000_000);
    let failure =
        served_with(patient(), &module, "/large?17000000", b"").await.expect_err("no answer");
    let limit = GuestLimit::Reply { got: BODY_BYTES + 1, allowed: BODY_BYTES };
    assert_eq!(failure, GuestFailure::Limit(limit));
    // None of it harmed the next.
    assert_eq!(served(&module, "/echo", b"again").await.expect("answers").body, b"again");
}

#[tokio::test]
async fn a_server_reaches_only_whom_its_manifest_names() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let path = format!("/get?{addr}");
    let ears = Ears::open();
    let module = compiled(SERVER, "").await;
    let answer = served(&module, &path, b"").await.expect("answers");
    assert_eq!(answer.status, 502);
    let line = format!("http = [\"127.0.0.1:{}\"]", addr.port());
    assert!(ears.heard().contains(&line), "{line}: {}", ears.heard());
    let granted = format!("[capabilities]\nhttp = ['{addr}']");
    let module = compiled(SERVER, &granted).await;
    let peer = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = vec![0; 4_096];
        let _ = stream.read(&mut head).await.expect("a request");
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npong";
        stream.write_all(answer).await.expect("writes");
        stream.shutdown().await.expect("ends");
    };
    let (answer, ()) = tokio::join!(served(&module, &path, b""), peer);
    let answer = answer.expect("answers");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"pong"[..]));
}

/// Answers one request by HTTPS, if it comes to that.
async fn answer_once(listener: &TcpListener, acceptor: &TlsAcceptor) {
    let (stream, _) = listener.accept().await.expect("a connection");
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut head = vec![0; 4_096];
    let _ = stream.read(&mut head).await.expect("a request");
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\npong";
    stream.write_all(answer).await.expect("writes");
    // A client that has all it needs may be gone.
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn a_server_by_https_is_reached_when_an_authority_says_that_it_is_who_it_should_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let granted = format!("[capabilities]\nhttp = ['localhost:{port}']");
    let module = compiled(SERVER, &granted).await;
    let Linked::Http(service) = module.linked() else { panic!("{module:?}") };
    let (ca, stranger) = (Ca::new(), Ca::new());
    for (trusted, of, host, told) in [
        (&ca, &ca, "localhost", Ok("pong")),
        (&stranger, &ca, "localhost", Err("UnknownIssuer")),
        (&ca, &ca, "elsewhere", Err("not valid for name")),
    ] {
        let ears = Ears::open();
        let grants = Grants { authorities: trusted.authorities(), ..Grants::default() };
        let request = request(&format!("/get?https://localhost:{port}"), b"");
        let (acceptor, setting) = (of.acceptor(host), granting(grants));
        let asked = service.serve(module.manifest(), &setting, request);
        let (answer, ()) = tokio::join!(asked, answer_once(&listener, &acceptor));
        let answer = answer.expect("answers");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        match told {
            Ok(body) => assert_eq!((answer.status, text.as_str()), (200, body), "{}", ears.heard()),
            Err(why) => {
                assert_eq!((answer.status, text.as_str()), (502, "ErrorCode::TlsCertificateError"));
                assert!(ears.heard().contains(why), "{why}: {}", ears.heard());
            }
        }
    }
}

fn call(name: &str, request: &HttpRequest) -> CallRequest {
    CallRequest {
        entity: entity(name),
        request: odeum_proto::RequestId::random(),
        session: Some(SESSION.to_owned()),
        body: codec::encode(request).expect("encodes"),
        remaining: PATIENCE,
    }
}

#[tokio::test]
async fn slow_requests_delay_no_others_and_other_guests_serve_no_http() {
    let stage = Stage::new().await;
    stage.deploy("server", SERVER).await;
    stage.deploy("counter", COUNTER).await;
    stage.until_state("server", HostState::Running).await;
    stage.until_state("counter", HostState::Running).await;
    let spin = stage.deliver(call("server", &request("/spin", b"")));
    let echo = async {
        let began = Instant::now();
        let mut reply = Vec::new();
        for _ in 0..3 {
            reply = stage.deliver(call("server", &request("/echo", b"hi"))).await.expect("ok").body;
        }
        let answer: HttpAnswer = codec::decode(&reply).expect("an answer");
        assert_eq!(answer.body, b"hi");
        began
    };
    let (spun, _) = tokio::join!(spin, echo);
    assert!(matches!(spun, Err(CallError::LimitExceeded { .. })), "{spun:?}");
    let refused = stage.deliver(call("counter", &request("/", b""))).await;
    assert!(matches!(refused, Err(CallError::Refused { .. })), "{refused:?}");
    let refused = stage.try_call("server", "r1", "hello").await.expect_err("is refused");
    assert!(refused.to_string().contains("/f/server/"), "{refused}");
    let status = stage.status("server").await.expect("is there");
    assert_eq!((status.state, status.restarts), (HostState::Running, 0));
}
