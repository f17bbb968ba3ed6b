//! Debian's `docker-registry` as a process of its own on loopback.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long it may take to start on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry that is killed when the test ends, however it ends.
pub(crate) struct Registry {
    process: Child,
    address: String,
}

impl Registry {
    /// Starts one that keeps its files in `folder`; `None` when the program is not there, which is
    /// said.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let found = Command::new("docker-registry").arg("--version").output();
        if found.is_err() {
            let required = std::env::var_os("ODEUM_REQUIRE_REGISTRY").is_some();
            assert!(!required, "docker-registry is required and not there");
            // Past the harness, which keeps what a test that passes prints.
            let told = writeln!(std::io::stderr(), "skipped: install Debian's docker-registry");
            told.expect("stderr is open");
            return None;
        }
        // Free a moment ago: it is told its port, and cannot choose one.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let address = free.expect("a free port").to_string();
        let config = json!({
            "version": "0.1",
            "log": { "level": "error" },
            "storage": { "filesystem": { "rootdirectory": folder.join("registry") } },
            "http": { "addr": address },
        });
        let path = folder.join("registry.yml");
        fs::write(&path, config.to_string()).expect("written");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        let registry = Self { process, address };
        let start = Instant::now();
        while TcpStream::connect(&registry.address).is_err() {
            assert!(start.elapsed() < PATIENCE, "the registry does not listen");
            sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// Where it listens, `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A manifest as it is kept.
    pub(crate) fn manifest(&self, name: &str, tag: &str) -> Value {
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json\r\n";
        let (_, body) = self.ask("GET", &format!("/v2/{name}/manifests/{tag}"), accept, b"", 200);
        serde_json::from_slice(&body).expect("JSON")
    }

    /// A blob.
    pub(crate) fn blob(&self, name: &str, digest: &str) -> Vec<u8> {
        self.ask("GET", &format!("/v2/{name}/blobs/{digest}"), "", b"", 200).1
    }

    /// Puts a blob there, and gives its digest.
    pub(crate) fn put_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        let (head, _) = self.ask("POST", &format!("/v2/{name}/blobs/uploads/"), "", b"", 202);
        let location = head
            .lines()
            .find_map(|line| {
                line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case("location"))
            })
            .map(|(_, value)| value.trim_start_matches("http://").trim_start_matches(&self.address))
            .expect("a location")
            .to_owned();
        let kind = "Content-Type: application/octet-stream\r\n";
        self.ask("PUT", &format!("{location}&digest={digest}"), kind, bytes, 201);
        digest
    }

    /// Puts a manifest there.
    pub(crate) fn put_manifest(&self, name: &str, tag: &str, manifest: &Value) {
        let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
        let body = manifest.to_string();
        self.ask("PUT", &format!("/v2/{name}/manifests/{tag}"), kind, body.as_bytes(), 201);
    }

    /// Puts a module there as other tools do: a layer of its own, and their configuration.
    pub(crate) fn put_wasm(&self, name: &str, tag: &str, module: &[u8]) {
        let config = br#"{"architecture":"wasm","os":"wasip1","layerDigests":[]}"#;
        let layer = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": self.put_blob(name, bytes), "size": bytes.len() });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": layer("application/vnd.wasm.config.v0+json", config),
            "layers": [layer("application/wasm", module)],
        });
        self.put_manifest(name, tag, &manifest);
    }

    /// One request, which must be answered with `code`: head and body of the answer.
    fn ask(
        &self,
        method: &str,
        path: &str,
        more: &str,
        body: &[u8],
        code: u16,
    ) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).expect("the registry listens");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\n{more}Content-Length: {length}\r\n\r\n",
            self.address
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let is_code = head.split(' ').nth(1) == Some(&code.to_string());
        assert!(is_code, "{method} {path}: {head}\n{}", String::from_utf8_lossy(&answer[end..]));
        (head, answer[end + 4..].to_vec())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `sha256:` and the digest, by the program that every Debian has.
fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum runs");
    child.stdin.take().expect("piped").write_all(bytes).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    format!("sha256:{}", text.split(' ').next().expect("a digest"))
}
