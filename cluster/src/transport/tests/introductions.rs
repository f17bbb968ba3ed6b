//! Who is let in, and what both sides say to who is not.

use std::os::unix::fs::PermissionsExt;

use odeum_proto::wire::MAJOR;

use super::*;
use crate::transport::pki::{CA_CERT, CA_KEY, NODE_CERT, NODE_KEY, PkiError};

/// Dials from `a` to `b`, expecting a refusal that both say in a line with all of `words`.
async fn refused(log: &Log, (a, b): (&Node, &Node), words: &[&str]) -> TransportError {
    let error = a.transport.dial(b.addr(), PATIENCE).await.expect_err("refused");
    for word in words {
        assert!(error.to_string().contains(word), "{word:?} is not in {error}");
    }
    for node in ["a", "b"] {
        eventually(&format!("a line in the log of {node}"), || !log.of(node).is_empty()).await;
        let lines = log.of(node);
        assert_eq!(lines.len(), 1, "one line: {lines:#?}");
        for word in words {
            assert!(lines[0].contains(word), "{word:?} is not in {}", lines[0]);
        }
    }
    assert!(a.transport.links().borrow().is_empty() && b.transport.links().borrow().is_empty());
    error
}

#[tokio::test]
async fn another_authority_is_refused_and_both_sides_say_so() {
    let (log, ours, theirs) = (Log::new(), Realm::new(), Realm::new());
    let (a, b) = (ours.node("a").await, theirs.node("b").await);
    let error = refused(&log, (&a, &b), &["certificate"]).await;
    assert!(matches!(error, TransportError::Certificate { .. }), "{error}");
}

#[tokio::test]
async fn another_wire_version_is_refused_and_both_sides_name_both() {
    let (log, realm) = (Log::new(), Realm::new());
    let mut config = realm.config("b");
    config.version.major = MAJOR + 1;
    let (a, b) = (realm.node("a").await, Node::start(config, Services::default()).await);
    let (ours, theirs) = (format!("{MAJOR}.0"), format!("{}.0", MAJOR + 1));
    let error = refused(&log, (&a, &b), &["wire version", &ours, &theirs]).await;
    assert!(matches!(error, TransportError::Version { .. }), "{error}");
}

#[tokio::test]
async fn another_cluster_is_refused_and_both_sides_name_both() {
    let (log, realm) = (Log::new(), Realm::new());
    let (one, other) = (ClusterId::random(), ClusterId::random());
    let (a, mut b) = (realm.config("a"), realm.config("b"));
    a.cluster.set(one);
    b.cluster = ClusterCell::known(other);
    let a = Node::start(a, Services::default()).await;
    let b = Node::start(b, Services::default()).await;
    let (one, other) = (one.to_string(), other.to_string());
    let error = refused(&log, (&a, &b), &["cluster", &one, &other]).await;
    assert!(matches!(error, TransportError::OtherCluster { .. }), "{error}");
}

#[tokio::test]
async fn a_node_without_a_cluster_may_dial_one_that_has_one() {
    let realm = Realm::new();
    let config = realm.config("b");
    config.cluster.set(ClusterId::random());
    let (a, b) = (realm.node("a").await, Node::start(config, Services::default()).await);
    assert_eq!(a.transport.dial(b.addr(), PATIENCE).await.expect("linked"), id("b"));
    assert!(a.transport.link(&id("b")).is_some());
}

#[tokio::test]
async fn a_second_node_of_the_same_name_is_refused() {
    let realm = Realm::new();
    let (one, other) = (realm.node("a").await, realm.node("a").await);
    let error = one.transport.dial(other.addr(), PATIENCE).await.expect_err("refused");
    assert!(matches!(error, TransportError::SameNode { .. }), "{error}");
}

#[tokio::test]
async fn an_address_with_another_node_than_expected_is_not_linked() {
    let (log, realm) = (Log::new(), Realm::new());
    let (a, b) = (realm.node("a").await, realm.node("b").await);
    a.transport.set_peers(BTreeMap::from([(id("c"), b.addr())]));
    eventually("a says so", || !log.of("a").is_empty()).await;
    assert!(log.of("a")[0].contains("certificate"), "{:?}", log.of("a"));
    assert!(a.transport.link(&id("c")).is_none());
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_an_error_by_the_deadline() {
    let realm = Realm::new();
    let a = realm.node("a").await;
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").expect("binds");
    let addr = nobody.local_addr().expect("bound");
    let error = a.transport.dial(addr, PATIENCE).await.expect_err("nobody there");
    assert!(matches!(error, TransportError::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let realm = Realm::new();
    let a = realm.node("a").await;
    let mut config = realm.config("b");
    config.listen = a.addr();
    let error = start(config, Services::default()).expect_err("in use");
    assert!(matches!(error, TransportError::Listen { .. }), "{error}");
    assert!(error.to_string().contains(&a.addr().to_string()), "{error}");
}

/// Starts node `a` after `damage` to its folder.
fn start_damaged(damage: impl FnOnce(&Realm, &Path)) -> PkiError {
    let realm = Realm::new();
    let config = realm.config("a");
    damage(&realm, &config.certs);
    match start(config, Services::default()) {
        Err(TransportError::Pki(error)) => Arc::into_inner(error).expect("one owner"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("started"),
    }
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_errors_that_name_the_file() {
    for file in [CA_CERT, NODE_CERT, NODE_KEY] {
        let error = start_damaged(|_, dir| std::fs::remove_file(dir.join(file)).expect("removes"));
        assert!(matches!(error, PkiError::Missing { .. }), "{error}");
        assert!(error.to_string().contains(file), "{error}");

        let error = start_damaged(|_, dir| write(dir, file, "no certificate"));
        assert!(matches!(error, PkiError::Malformed { .. }), "{error}");
        assert!(error.to_string().contains(file), "{error}");
    }

    let copy = |from: &Path, to: &Path, file: &str| {
        std::fs::copy(from.join(file), to.join(file)).expect("copies");
    };
    let error = start_damaged(|_, dir| copy(&Realm::new().certs("a"), dir, CA_CERT));
    assert!(matches!(error, PkiError::OtherAuthority { .. }), "{error}");
    assert!(error.to_string().contains(NODE_CERT), "{error}");

    let error = start_damaged(|realm, dir| copy(&realm.certs("b"), dir, NODE_KEY));
    assert!(matches!(error, PkiError::KeyMismatch { .. }), "{error}");
    assert!(error.to_string().contains(NODE_KEY), "{error}");

    let error = start_damaged(|realm, dir| {
        copy(&realm.certs("b"), dir, NODE_CERT);
        copy(&realm.certs("b"), dir, NODE_KEY);
    });
    assert!(matches!(error, PkiError::OtherNode { .. }), "{error}");
}

#[test]
fn an_expired_certificate_is_an_error_that_names_the_file() {
    let realm = Realm::new();
    let dir = realm.dir.path().join("old");
    realm.authority.issue_for(&id("a"), &dir, -1).expect("certificate");
    let error = tls::load(&dir, &id("a")).err().expect("expired");
    assert!(matches!(error, PkiError::NotNow { .. }), "{error}");
    assert!(error.to_string().contains(NODE_CERT), "{error}");
    assert!(pki::inspect(&dir.join(NODE_CERT)).expect("readable").days_left < 0);
}

#[test]
fn keys_are_for_their_owner_alone_and_an_authority_is_not_overwritten() {
    let realm = Realm::new();
    let certs = realm.certs("a");
    for key in [realm.dir.path().join(CA_KEY), certs.join(NODE_KEY)] {
        let mode = std::fs::metadata(&key).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
    let again = Authority::create(realm.dir.path()).expect_err("refused");
    assert!(matches!(again, PkiError::Exists { .. }), "{again}");
}

#[test]
fn an_authority_that_was_loaded_issues_what_the_first_one_accepts() {
    let realm = Realm::new();
    let authority = Authority::load(realm.dir.path()).expect("loads");
    let dir = realm.dir.path().join("late");
    authority.issue(&id("late"), &dir).expect("certificate");
    assert!(tls::load(&dir, &id("late")).is_ok());
    let info = pki::inspect(&dir.join(NODE_CERT)).expect("readable");
    assert_eq!((info.node, info.authority), (Some(id("late")), false));
}
