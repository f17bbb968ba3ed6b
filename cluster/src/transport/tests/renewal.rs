//! Certificates that change while nodes run.

use quinn::rustls::pki_types::CertificateDer;

use super::*;
use crate::transport::pki::{CA_CERT, NODE_CERT, NODE_KEY, PkiError, Step};

/// Looks at the files often: a test should not wait.
const LOOK: Duration = Duration::from_millis(20);

fn config(realm: &Realm, name: &str) -> TransportConfig {
    TransportConfig { certs_look: LOOK, ..realm.config(name) }
}

async fn start_node(realm: &Realm, name: &str) -> Node {
    Node::start(config(realm, name), Services::default()).await
}

/// The certificate in the node's file.
fn on_disk(realm: &Realm, name: &str) -> CertificateDer<'static> {
    use quinn::rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(realm.certs(name).join(NODE_CERT)).expect("a certificate")
}

/// The certificate that `peer` showed when its link to `node` was made.
fn shown(node: &Node, peer: &str) -> CertificateDer<'static> {
    let conn = node.transport.shared.conn(&id(peer)).expect("linked");
    let identity = conn.quic.peer_identity().expect("a certificate");
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().expect("certificates");
    chain.first().expect("one").clone()
}

/// The certificates a node uses now, to be told from later ones.
fn in_use(node: &Node) -> Arc<tls::Tls> {
    node.transport.shared.tls.load_full()
}

async fn reloaded(node: &Node, before: &Arc<tls::Tls>) {
    eventually("changed certificates are loaded", || !Arc::ptr_eq(&in_use(node), before)).await;
}

/// Makes a link between the two by `dialler`.
async fn dial(dialler: &Node, listener: &Node) -> Result<NodeId, TransportError> {
    dialler.transport.dial(listener.addr(), PATIENCE).await
}

#[tokio::test]
async fn renewed_certificates_are_used_by_new_connections_and_links_stay() {
    let realm = Realm::new();
    let (a, b) = (start_node(&realm, "a").await, start_node(&realm, "b").await);
    dial(&a, &b).await.expect("links");
    let (before, link, old) = (in_use(&b), b.linked("a").await, shown(&a, "b"));

    pki::rotate(realm.dir.path(), &[id("b")]).expect("rotates");
    assert_ne!(on_disk(&realm, "b"), old);
    reloaded(&b, &before).await;

    // As the side that is dialled, and as the side that dials.
    let (c, d) = (start_node(&realm, "c").await, start_node(&realm, "d").await);
    dial(&c, &b).await.expect("links");
    dial(&b, &d).await.expect("links");
    for other in [&c, &d] {
        other.linked("b").await;
        assert_eq!(shown(other, "b"), on_disk(&realm, "b"));
    }
    assert_eq!(b.linked("a").await.generation, link.generation);
    assert_eq!(shown(&a, "b"), old);
}

#[tokio::test]
async fn broken_files_are_refused_with_one_line_and_the_old_ones_stay_in_use() {
    let realm = Realm::new();
    let log = Log::new();
    let (a, b) = (start_node(&realm, "a").await, start_node(&realm, "b").await);
    let (before, good) = (in_use(&b), on_disk(&realm, "b"));
    let dir = realm.certs("b");
    let cert = std::fs::read_to_string(dir.join(NODE_CERT)).expect("reads");
    write(&dir, NODE_CERT, "nonsense");
    eventually("it is refused", || !log.of("b").is_empty()).await;
    assert!(log.of("b").concat().contains(NODE_CERT), "{:?}", log.of("b"));
    assert!(Arc::ptr_eq(&in_use(&b), &before));
    dial(&a, &b).await.expect("links");
    assert_eq!(shown(&a, "b"), good);

    // A second refusal is another line: so the first was one line, however often it was looked at.
    std::fs::copy(realm.certs("a").join(NODE_KEY), dir.join(NODE_KEY)).expect("copies");
    write(&dir, NODE_CERT, &cert);
    let refusals = || log.of("b").iter().filter(|line| line.contains(NODE_KEY)).count();
    eventually("the foreign key is refused", || refusals() == 1).await;
    assert_eq!(log.of("b").iter().filter(|line| line.contains("not a certificate")).count(), 1);

    realm.authority.issue(&id("b"), &dir).expect("renews");
    reloaded(&b, &before).await;
}

#[tokio::test]
async fn the_end_of_a_certificate_is_warned_of_from_14_days_before() {
    let realm = Realm::new();
    let log = Log::new();
    for (name, days) in [("soon", 13), ("late", 15)] {
        let dir = realm.dir.path().join(name);
        realm.authority.issue_for(&id(name), &dir, days).expect("certificate");
    }
    let (soon, late) = (start_node(&realm, "soon").await, start_node(&realm, "late").await);
    let ends = |line: &String| line.contains("ends soon") && line.contains(NODE_CERT);
    assert_eq!(log.of("soon").iter().filter(|line| ends(line)).count(), 1, "{:?}", log.of("soon"));
    assert_eq!(log.of("late"), Vec::<String>::new());

    let before = in_use(&soon);
    realm.authority.issue(&id("soon"), &realm.certs("soon")).expect("renews");
    reloaded(&soon, &before).await;
    assert_eq!(log.of("soon").len(), 1, "{:?}", log.of("soon"));
    late.root.shutdown().await;
}

#[tokio::test]
async fn an_authority_is_changed_while_the_nodes_run() {
    let realm = Realm::new();
    let (a, b) = (start_node(&realm, "a").await, start_node(&realm, "b").await);
    dial(&a, &b).await.expect("links");
    let link = b.linked("a").await;
    // Holds a certificate of the old authority, and is no longer renewed.
    let left = tempfile::tempdir().expect("temporary folder");
    realm.authority.issue(&id("left"), left.path()).expect("certificate");
    let left_config = || TransportConfig { certs: left.path().into(), ..config(&realm, "left") };
    std::fs::create_dir(realm.dir.path().join("left")).expect("an empty folder");

    for (step, trusted) in [(Step::Announce, 2), (Step::Switch, 2), (Step::Retire, 1)] {
        let before = [in_use(&a), in_use(&b)];
        pki::change_authority(realm.dir.path(), step).expect("takes the step");
        reloaded(&a, &before[0]).await;
        reloaded(&b, &before[1]).await;
        // `Switch` changes more than one file of a node, which may be loaded in two goes.
        eventually("all of it is loaded", || {
            in_use(&a).authorities == trusted && in_use(&b).authorities == trusted
        })
        .await;
        let name = format!("new-{step}");
        let authority = Authority::load(realm.dir.path()).expect("loads");
        authority.issue(&id(&name), &realm.dir.path().join(&name)).expect("certificate");
        let new = start_node(&realm, &name).await;
        dial(&new, &a).await.expect("links");
        dial(&b, &new).await.expect("links");
    }
    assert_eq!(b.linked("a").await.generation, link.generation);

    let old = Node::start(left_config(), Services::default()).await;
    let refused = dial(&old, &a).await.expect_err("the old authority is retired");
    assert!(matches!(refused, TransportError::Certificate { .. }), "{refused}");
}

/// A copy of a node's folder as it is now.
fn copied(realm: &Realm, name: &str) -> TempDir {
    let to = tempfile::tempdir().expect("temporary folder");
    for file in [CA_CERT, NODE_CERT, NODE_KEY] {
        std::fs::copy(realm.certs(name).join(file), to.path().join(file)).expect("copies");
    }
    to
}

#[tokio::test]
async fn nodes_before_and_after_a_step_accept_each_other_whoever_dials() {
    let realm = Realm::new();
    let mut states = vec![(copied(&realm, "a"), copied(&realm, "b"))];
    for step in [Step::Announce, Step::Switch, Step::Retire] {
        pki::change_authority(realm.dir.path(), step).expect("takes the step");
        states.push((copied(&realm, "a"), copied(&realm, "b")));
    }
    let node = async |name: &str, certs: &TempDir| {
        let config = TransportConfig { certs: certs.path().into(), ..config(&realm, name) };
        Node::start(config, Services::default()).await
    };
    for pair in states.windows(2) {
        for (first, second) in [(&pair[0].0, &pair[1].1), (&pair[1].0, &pair[0].1)] {
            let (a, b) = (node("a", first).await, node("b", second).await);
            dial(&a, &b).await.expect("links");
            let (a, b) = (node("a", first).await, node("b", second).await);
            dial(&b, &a).await.expect("links");
        }
    }
}

#[test]
fn steps_out_of_order_are_refused_and_interrupted_ones_are_finished() {
    let realm = Realm::new();
    let dir = realm.dir.path();
    let certs = realm.certs("a");
    let refused = |step| {
        let error = pki::change_authority(dir, step).expect_err("refused");
        assert!(matches!(error, PkiError::Order { .. }), "{error}");
        error.to_string()
    };
    let old = std::fs::read(certs.join(CA_CERT)).expect("reads");
    assert!(refused(Step::Switch).contains("announce"));
    assert!(refused(Step::Retire).contains("announce"));
    pki::change_authority(dir, Step::Announce).expect("the first step");
    let both = std::fs::read(certs.join(CA_CERT)).expect("reads");
    // As if it had ended before it came to this folder.
    std::fs::write(certs.join(CA_CERT), &old).expect("writes");
    pki::change_authority(dir, Step::Announce).expect("is finished");
    assert_eq!(std::fs::read(certs.join(CA_CERT)).expect("reads"), both);

    assert!(refused(Step::Retire).contains("switch"));
    let before = std::fs::read(certs.join(NODE_CERT)).expect("reads");
    pki::change_authority(dir, Step::Switch).expect("the second step");
    std::fs::write(certs.join(NODE_CERT), &before).expect("writes");
    assert!(refused(Step::Retire).contains("node a"));
    assert!(refused(Step::Announce).contains("retire"));
    pki::change_authority(dir, Step::Switch).expect("is finished");
    pki::change_authority(dir, Step::Retire).expect("the last step");
    assert!(tls::load(&certs, &id("a")).is_ok());
    assert_ne!(std::fs::read(certs.join(CA_CERT)).expect("reads"), old);
}

#[test]
fn a_node_without_a_certificate_is_not_rotated_and_nothing_else_is() {
    let realm = Realm::new();
    let before = std::fs::read(realm.certs("a").join(NODE_CERT)).expect("reads");
    let error = pki::rotate(realm.dir.path(), &[id("a"), id("b")]).expect_err("refused");
    assert!(matches!(error, PkiError::NoSuchNode { .. }), "{error}");
    assert_eq!(std::fs::read(realm.certs("a").join(NODE_CERT)).expect("reads"), before);
    assert_eq!(pki::rotate(realm.dir.path(), &[]).expect("all").len(), 1);
}
