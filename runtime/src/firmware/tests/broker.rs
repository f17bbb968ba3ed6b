//! Firmlets and a real MQTT broker: Debian's `mosquitto` on loopback. Without it these tests are
//! skipped with a message, unless `ODEUM_REQUIRE_BROKER` is set.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use odeum_proto::store::RestartBudget;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::bench::{Ears, compiled, session, setting};
use super::firmlets::firmlet;
use super::packaged;
use super::stage::{PATIENCE, Stage};
use crate::{
    firmware::{
        Arrival, BrokerAccess, Grants, HostState, Instance, Publication, Publisher,
        bridge::{Bridge, bridge},
    },
    package::manifest::MqttFilter,
    tls::{Authorities, Identity, tests::Ca},
};

/// Has these tests fail where there is no broker.
const REQUIRE: &str = "ODEUM_REQUIRE_BROKER";

/// A broker as a process.
struct Mosquitto {
    process: Child,
    addr: SocketAddr,
    folder: TempDir,
    program: PathBuf,
    /// Whose certificates it and its clients have, if it speaks TLS alone.
    ca: Option<Ca>,
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // Fails when it has ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Mosquitto {
    /// `None` when it is not installed.
    fn start() -> Option<Self> {
        Self::started(None)
    }

    /// One that speaks TLS alone, and only with clients who have a certificate.
    fn start_with_tls() -> Option<Self> {
        let ca = Ca::new();
        ca.certify("broker", "localhost");
        ca.certify("client", "client");
        Self::started(Some(ca))
    }

    fn started(ca: Option<Ca>) -> Option<Self> {
        let places = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
        let Some(program) = places.iter().map(Path::new).find(|path| path.exists()) else {
            let required = std::env::var_os(REQUIRE).is_some();
            assert!(!required, "mosquitto is required by {REQUIRE} and not there");
            eprintln!("skipped: mosquitto is not installed (apt-get install mosquitto)");
            return None;
        };
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
        let folder = tempfile::Builder::new().prefix("odeum-").tempdir().expect("a folder");
        let mut config = format!("listener {} 127.0.0.1\nallow_anonymous true\n", addr.port());
        if let Some(ca) = &ca {
            for (key, file) in
                [("cafile", "ca.pem"), ("certfile", "broker.pem"), ("keyfile", "broker.key")]
            {
                config += &format!("{key} {}\n", ca.file(file).display());
            }
            // By default it gives up root's rights before it reads them.
            config += "require_certificate true\nuser root\n";
        }
        fs::write(folder.path().join("mosquitto.conf"), config).expect("writes");
        let process = Self::spawn(program, folder.path());
        let broker = Self { process, addr, folder, program: program.to_owned(), ca };
        broker.until_up();
        Some(broker)
    }

    fn spawn(program: &Path, folder: &Path) -> Child {
        Command::new(program)
            .arg("-c")
            .arg(folder.join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    }

    fn until_up(&self) {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.addr).is_err() {
            assert!(Instant::now() < end, "the broker does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn stop(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
    }

    fn start_again(&mut self) {
        self.process = Self::spawn(&self.program, self.folder.path());
        self.until_up();
    }

    fn access(&self) -> BrokerAccess {
        let Some(ca) = &self.ca else {
            let broker = format!("mqtt://{}", self.addr).parse().expect("an address");
            return BrokerAccess { broker, user: None, password: None, tls: None };
        };
        let identity = Identity::read(&ca.file("client.pem"), &ca.file("client.key"));
        let identity = identity.expect("a certificate");
        self.secured(&ca.authorities(), Some(identity))
    }

    fn secured(&self, authorities: &Authorities, identity: Option<Identity>) -> BrokerAccess {
        let broker = format!("mqtts://localhost:{}", self.addr.port()).parse();
        let tls = Some(authorities.client_as(identity).expect("can be used"));
        BrokerAccess { broker: broker.expect("an address"), user: None, password: None, tls }
    }

    fn bridge(&self, id: &str, filters: &[&str]) -> (Publisher, Bridge) {
        let filter = |text: &&str| text.parse::<MqttFilter>().expect("a filter");
        let filters: Vec<MqttFilter> = filters.iter().map(filter).collect();
        bridge(&self.access(), &id.parse().expect("a name"), id, &filters)
    }
}

/// A client of its own, and what it hears.
fn listener(
    broker: &Mosquitto,
    filters: &[&str],
) -> (Publisher, mpsc::Receiver<Publication>, impl Future<Output = ()> + use<>) {
    let (publisher, bridge) = broker.bridge("listener", filters);
    let (sender, heard) = mpsc::channel(1_024);
    (publisher, heard, bridge.run(move |it| sender.try_send(it).is_ok()))
}

fn publication(topic: &str, payload: &[u8]) -> Publication {
    Publication { topic: topic.to_owned(), payload: payload.to_vec() }
}

/// Publishes until it is heard: a subscription takes effect at some time after the connection.
async fn until_heard(
    publisher: &Publisher,
    heard: &mut mpsc::Receiver<Publication>,
    it: Publication,
) {
    let end = Instant::now() + PATIENCE;
    loop {
        publisher.publish(it.clone());
        match tokio::time::timeout(Duration::from_millis(100), heard.recv()).await {
            Ok(got) if got.as_ref() == Some(&it) => return,
            _ => assert!(Instant::now() < end, "{it:?} is not heard"),
        }
    }
}

/// Publishes until `out/x` has that payload, among whatever else it has.
async fn until_answered(
    publisher: &Publisher,
    heard: &mut mpsc::Receiver<Publication>,
    it: Publication,
    payload: &[u8],
) {
    let answer = publication("out/x", payload);
    let end = Instant::now() + PATIENCE;
    loop {
        publisher.publish(it.clone());
        while let Ok(got) = tokio::time::timeout(Duration::from_millis(100), heard.recv()).await {
            if got.as_ref() == Some(&answer) {
                return;
            }
        }
        assert!(Instant::now() < end, "{answer:?} is not heard");
    }
}

#[tokio::test]
async fn what_a_firmlet_publishes_reaches_others_and_what_they_publish_reaches_it() {
    let Some(broker) = Mosquitto::start() else { return };
    let text = firmlet(
        r#"(func (export "_start") (param i32))
        (func (export "_on_message_received")
          (param $topic i32) (param $tlen i32) (param $ptr i32) (param $len i32)
          (drop (call $publish (i32.const 32) (i32.const 5) (local.get $ptr) (local.get $len))))"#,
    );
    let manifest = "[capabilities.mqtt]\npublish = ['out/+']\nsubscribe = ['in/#']";
    let module = compiled(&text, manifest).await;
    let (publisher, own) = broker.bridge("firmlet", &["in/#"]);
    let (arrivals, mut arrived) = mpsc::channel(1_024);
    let own = own.run(move |it| arrivals.try_send(it).is_ok());
    let (other, mut heard, others) = listener(&broker, &["out/#"]);
    let mut instance = Instance::start(&module, &setting(), publisher).await.expect("starts");
    let talk = async {
        let told = until_heard(&other, &mut arrived, publication("in/lamp", b"hello"));
        told.await;
        let echo = |instance: Instance, body: &'static [u8]| async move {
            let arrival = Arrival::Published { topic: "in/lamp", payload: body };
            instance.handle(arrival, session(&[])).await.expect("handles").0
        };
        let end = Instant::now() + PATIENCE;
        loop {
            instance = echo(instance, b"\x00\xff binary").await;
            match tokio::time::timeout(Duration::from_millis(100), heard.recv()).await {
                Ok(it) => break assert_eq!(it, Some(publication("out/x", b"\x00\xff binary"))),
                Err(_) => assert!(Instant::now() < end, "nothing is heard"),
            }
        }
    };
    tokio::select! {
        () = own => panic!("the bridge ended"),
        () = others => panic!("the other bridge ended"),
        () = talk => {}
    }
}

#[tokio::test]
async fn a_firmlet_that_is_deployed_hears_the_broker_of_its_node_and_is_heard_there() {
    let Some(broker) = Mosquitto::start() else { return };
    let grants = Grants { broker: Some(broker.access()), ..Grants::default() };
    let stage = Stage::granting(RestartBudget::default(), grants).await;
    // It says again what it is told; of nothing it traps.
    let text = firmlet(
        r#"(func (export "_start") (param i32))
        (func (export "_on_message_received")
          (param $topic i32) (param $tlen i32) (param $ptr i32) (param $len i32)
          (if (i32.eqz (local.get $len)) (then unreachable))
          (drop (call $publish (i32.const 32) (i32.const 5) (local.get $ptr) (local.get $len))))"#,
    );
    let manifest = "[capabilities.mqtt]\npublish = ['out/+']\nsubscribe = ['in/#']";
    stage.deploy("lamp", &packaged(manifest, &text)).await;
    stage.until_state("lamp", HostState::Running).await;
    let (other, mut heard, others) = listener(&broker, &["out/#"]);
    let talk = async {
        let told = |payload: &[u8]| publication("in/lamp/1", payload);
        until_answered(&other, &mut heard, told(b"\x00\xff hello"), b"\x00\xff hello").await;
        // What a call has it publish goes the same way, and nowhere else.
        assert_eq!(stage.said("lamp", "r1", "by a call").await, "");
        until_answered(&other, &mut heard, told(b"more"), b"by a call").await;
        other.publish(told(b""));
        let end = Instant::now() + PATIENCE;
        while stage.status("lamp").await.is_none_or(|it| it.restarts == 0) {
            assert!(Instant::now() < end, "it has not trapped");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        until_answered(&other, &mut heard, told(b"again"), b"again").await;
    };
    tokio::select! {
        () = others => panic!("the bridge ended"),
        () = talk => {}
    }
}

#[tokio::test]
async fn a_broker_that_goes_and_comes_back_is_found_again() {
    let Some(mut broker) = Mosquitto::start() else { return };
    let ears = Ears::open();
    let (publisher, mut heard, run) = listener(&broker, &["t/#"]);
    let talk = async {
        until_heard(&publisher, &mut heard, publication("t/1", b"before")).await;
        broker.stop();
        let end = Instant::now() + PATIENCE;
        while ears.lines("mqtt broker lost").is_empty() {
            assert!(Instant::now() < end, "its loss is not noticed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        broker.start_again();
        until_heard(&publisher, &mut heard, publication("t/1", b"after")).await;
    };
    tokio::select! {
        () = run => panic!("the bridge ended"),
        () = talk => {}
    }
}

#[tokio::test]
async fn what_nobody_subscribed_to_and_what_is_too_large_does_not_arrive() {
    let Some(broker) = Mosquitto::start() else { return };
    let (publisher, mut heard, run) = listener(&broker, &["t/+"]);
    let (other, mut own, others) = {
        let (publisher, bridge) = broker.bridge("other", &["t/#"]);
        let (sender, heard) = mpsc::channel(1_024);
        (publisher, heard, bridge.run(move |it| sender.try_send(it).is_ok()))
    };
    let talk = async {
        until_heard(&publisher, &mut heard, publication("t/1", b"a")).await;
        until_heard(&other, &mut own, publication("t/a/b", b"deep")).await;
        until_heard(&other, &mut heard, publication("t/2", b"b")).await;
        let mut seen = Vec::new();
        while let Ok(it) = heard.try_recv() {
            seen.push(it.topic);
        }
        assert!(!seen.contains(&"t/a/b".to_owned()), "{seen:?}");
    };
    tokio::select! {
        () = run => panic!("the bridge ended"),
        () = others => panic!("the other bridge ended"),
        () = talk => {}
    }
}

#[tokio::test]
async fn a_broker_that_speaks_tls_is_reached_with_the_certificates_of_the_settings_alone() {
    let Some(broker) = Mosquitto::start_with_tls() else { return };
    let ears = Ears::open();
    let (publisher, mut heard, run) = listener(&broker, &["t/#"]);
    let large = vec![7; 300_000];
    let talk = async {
        until_heard(&publisher, &mut heard, publication("t/1", b"hello")).await;
        until_heard(&publisher, &mut heard, publication("t/2", &large)).await;
    };
    tokio::select! {
        () = run => panic!("the bridge ended"),
        () = talk => {}
    }
    // A broker that another authority knows, and one that wants to know who is there.
    let stranger = Ca::new();
    let ours = broker.ca.as_ref().expect("it has one").authorities();
    for access in [broker.secured(&stranger.authorities(), None), broker.secured(&ours, None)] {
        let before = ears.lines("mqtt broker connected").len();
        let (_publisher, bridge) = bridge(&access, &"odd".parse().expect("a name"), "odd", &[]);
        let end = Instant::now() + PATIENCE;
        let lost = async {
            while ears.lines("mqtt broker lost").is_empty() {
                assert!(Instant::now() < end, "its refusal is not noticed");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = bridge.run(|_| true) => panic!("the bridge ended"),
            () = lost => {}
        }
        assert_eq!(ears.lines("mqtt broker connected").len(), before);
    }
    assert!(ears.heard().contains("UnknownIssuer"), "{}", ears.heard());
}
