//! The actor of one link, with its mailbox filled by hand.

use odeum_actors::{Handle, Restart, Strategy, SupervisorSpec, child};
use odeum_proto::wire::{Hello, WireVersion};

use super::*;
use crate::transport::endpoint::Dialler;
use crate::transport::hello::{self, Introduced, Introduction, Met};
use crate::transport::link::{Link, LinkMessage};

/// A link of `node` to `b`, who is in no address book, under a supervisor of its own.
async fn link(node: &Node) -> (Handle<LinkMessage>, Supervisor) {
    let TransportHandle { shared, endpoint } = node.transport.clone();
    let dialler = Dialler {
        shared: Arc::clone(&shared),
        version: WireVersion::CURRENT,
        attempts: Arc::default(),
    };
    let make = move || Link::new(id("b"), Arc::clone(&shared), dialler.clone(), endpoint.clone());
    let (link, spec) = child("Link b", make);
    let spec = spec.restart(Restart::Transient);
    let root = SupervisorSpec::new("Links", Strategy::OneForOne).child(spec).start().await;
    (link, root.expect("starts"))
}

/// A connection to `peer`, past the introduction.
async fn introduced(node: &Node, peer: &Node) -> Introduced {
    let shared = &node.transport.shared;
    let endpoint = shared.quic.load_full().expect("runs");
    let client = settings::client(&shared.tls.load());
    let connecting = endpoint.connect_with(client, peer.addr(), pki::COMMON_NAME).expect("config");
    let hello = Hello {
        node: shared.local.clone(),
        incarnation: shared.incarnation,
        cluster: None,
        attempt: 1,
    };
    let introduction = Introduction { version: WireVersion::CURRENT, hello };
    let quic = connecting.await.expect("connects");
    match hello::as_dialler(quic, &introduction, None).await.expect("introduced") {
        Met::New(introduced) => introduced,
        Met::Linked(peer) => panic!("linked to {peer} already"),
    }
}

async fn linked_to(node: &Node, incarnation: u64) {
    let mut links = node.transport.links();
    let up = links.wait_for(|links| {
        links.get(&id("b")).is_some_and(|link| link.incarnation == Incarnation(incarnation))
    });
    tokio::time::timeout(PATIENCE, up).await.expect("in time").expect("running");
}

/// On one thread: what is told without a pause is in the mailbox before the link reads any of it.
#[tokio::test]
async fn a_connection_that_comes_while_another_is_lost_is_kept_though_nobody_asked_for_either() {
    let realm = Realm::new();
    let a = realm.node("a").await;
    let services = || Services::default().with(Service::Call, Arc::new(Echo));
    let mut starts = Vec::new();
    for incarnation in 1..=2 {
        let config = TransportConfig { incarnation: Incarnation(incarnation), ..realm.config("b") };
        starts.push(Node::start(config, services()).await);
    }
    let (link, root) = link(&a).await;
    let first = introduced(&a, &starts[0]).await;
    link.tell(LinkMessage::Adopt(Box::new(first))).await.expect("runs");
    linked_to(&a, 1).await;

    let second = Box::new(introduced(&a, &starts[1]).await);
    let conn = a.transport.shared.conn(&id("b")).expect("linked");
    a.transport.shared.remove(&conn);
    let lost = LinkMessage::Lost { conn, reason: TransportError::Stopped };
    assert!(link.try_tell(lost).is_ok() && link.try_tell(LinkMessage::Adopt(second)).is_ok());
    linked_to(&a, 2).await;
    assert_eq!(a.ask("b", b"there?").await.expect("answered"), "there?");

    let keeps = link.ask(PATIENCE, |reply| LinkMessage::Retire { reply }).await;
    assert!(!keeps.expect("runs"), "a link in use does not end");
    root.shutdown().await;
}
