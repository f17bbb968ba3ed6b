//! Which addresses a guest may connect and send to, and who may answer it.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wasmtime_wasi::sockets::SocketAddrUse;

use crate::{firmware::denied::Denials, package::manifest::HostPattern};

/// Addresses that may answer by UDP: those that were sent to last. More than a client speaks with at
/// once, and few enough to be looked through for each datagram.
const ADDRESSED: usize = 256;

/// The addresses of one guest.
pub(super) struct Sockets {
    patterns: Vec<HostPattern>,
    denials: Arc<Denials>,
    /// Who was sent a datagram, the earliest first.
    addressed: Mutex<VecDeque<(IpAddr, u16)>>,
}

impl Sockets {
    /// Those that fit one of `patterns`.
    pub(super) fn new(patterns: Vec<HostPattern>, denials: Arc<Denials>) -> Self {
        Self { patterns, denials, addressed: Mutex::default() }
    }

    /// Whether the guest may use the address so. What it is denied is said, with what would allow it.
    pub(super) async fn admit(&self, addr: SocketAddr, usage: SocketAddrUse) -> bool {
        if matches!(usage, SocketAddrUse::UdpReceive) {
            // A stranger can send something as well: no name is looked up for that, and nothing is said.
            return self.addressed().contains(&peer(addr));
        }
        let is_admitted = may_connect(&self.patterns, addr, usage).await;
        match usage {
            SocketAddrUse::UdpSend if is_admitted => self.may_answer(addr),
            _ if is_admitted => {}
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => self.denials.socket(addr),
            _ => self.denials.listening(addr),
        }
        is_admitted
    }

    fn may_answer(&self, addr: SocketAddr) {
        let mut addressed = self.addressed();
        if addressed.contains(&peer(addr)) {
            return;
        }
        if addressed.len() >= ADDRESSED {
            addressed.pop_front();
        }
        addressed.push_back(peer(addr));
    }

    fn addressed(&self) -> MutexGuard<'_, VecDeque<(IpAddr, u16)>> {
        self.addressed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Without the scope of an IPv6 address, which an answer need not have.
fn peer(addr: SocketAddr) -> (IpAddr, u16) {
    (addr.ip(), addr.port())
}

/// Only connections are granted; nothing listens. A pattern with a name means the addresses that the
/// name has now, because a guest connects to an address.
async fn may_connect(patterns: &[HostPattern], addr: SocketAddr, usage: SocketAddrUse) -> bool {
    match usage {
        SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => {}
        // What connects or sends is bound before, by itself.
        SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => {
            return addr.ip().is_unspecified() && addr.port() == 0;
        }
        _ => return false,
    }
    let ip = addr.ip().to_string();
    for pattern in patterns {
        if pattern.allows(&ip, addr.port()) {
            return true;
        }
        let text = pattern.as_str();
        let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
        let is_name = !host.starts_with("*.") && !host.contains(['[', ':']);
        if is_name && pattern.allows(host, addr.port()) {
            let found = tokio::net::lookup_host((host, addr.port())).await;
            if found.is_ok_and(|mut found| found.any(|it| it.ip() == addr.ip())) {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use odeum_proto::{Epoch, ReplicaId, chronicle::Begin};

    use super::*;
    use crate::{
        firmware::{Chronicles, GuestLog},
        package::manifest::Manifest,
    };

    fn name() -> ReplicaId {
        "guest".parse().expect("a name")
    }

    fn sockets(line: &str, log: GuestLog) -> Sockets {
        let text = format!("name = 'guest'\nversion = '1.0.0'\n[capabilities]\n{line}");
        let manifest = Manifest::parse(text.as_bytes()).expect("a manifest");
        Sockets::new(manifest.capabilities.sockets, Arc::new(Denials::new(log)))
    }

    /// What the log of the guest has when that was asked for with these patterns, if it was denied.
    async fn denied(line: &str, addr: &str, usage: SocketAddrUse) -> Option<Vec<String>> {
        let (chronicles, name) = (Chronicles::default(), name());
        let log = GuestLog::new(name.clone(), Epoch(1), chronicles.of(&name));
        if sockets(line, log).admit(addr.parse().expect("an address"), usage).await {
            return None;
        }
        let first = Begin::Behind { ring: 0, number: 0, epoch: Epoch(0) };
        let told = chronicles.lines(&name, first, Duration::ZERO).await;
        Some(told.lines.into_iter().map(|line| line.text).collect())
    }

    #[tokio::test]
    async fn a_connection_is_denied_with_the_line_that_does_allow_it() {
        for addr in ["127.0.0.1:5432", "[::1]:443"] {
            for usage in [SocketAddrUse::TcpConnect, SocketAddrUse::UdpSend] {
                let told = denied("sockets = ['10.0.0.1']", addr, usage).await.expect("denied");
                let line = format!("sockets = [\"{addr}\"]");
                let said = format!(
                    "denied {addr}: write `{line}` under `[capabilities]` in its manifest to allow it"
                );
                assert_eq!(told, [said]);
                assert_eq!(denied(&line, addr, usage).await, None, "{addr}");
            }
        }
    }

    #[tokio::test]
    async fn who_was_sent_a_datagram_may_answer_and_nobody_else() {
        let (line, receive) = ("sockets = ['127.0.0.1']", SocketAddrUse::UdpReceive);
        let unasked = denied(line, "127.0.0.1:1", receive).await;
        assert_eq!(unasked, Some(Vec::new()), "it is not the guest's doing, and nothing is said");
        let sockets = sockets(line, GuestLog::alone(name()));
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(sockets.admit(at(1), SocketAddrUse::UdpSend).await);
        assert!(sockets.admit(at(1), receive).await);
        assert!(!sockets.admit(at(2), receive).await);
        let stranger = SocketAddr::from(([10, 0, 0, 1], 1));
        assert!(!sockets.admit(stranger, SocketAddrUse::UdpSend).await);
        assert!(!sockets.admit(stranger, receive).await);
        for port in (2_u16..).take(ADDRESSED) {
            assert!(sockets.admit(at(port), SocketAddrUse::UdpSend).await);
        }
        assert!(!sockets.admit(at(1), receive).await, "it was sent to before too many others");
        assert!(sockets.admit(at(2), receive).await);
    }

    #[tokio::test]
    async fn nothing_listens_and_no_line_is_said_that_would_not_help() {
        let line = "sockets = ['127.0.0.1']";
        for usage in [SocketAddrUse::TcpBind, SocketAddrUse::UdpBind] {
            assert_eq!(denied("", "0.0.0.0:0", usage).await, None, "what connects is bound before");
        }
        for usage in [
            SocketAddrUse::TcpBind,
            SocketAddrUse::UdpBind,
            SocketAddrUse::TcpListen,
            SocketAddrUse::TcpAccept,
        ] {
            let told = denied(line, "127.0.0.1:80", usage).await.expect("denied");
            let said = "denied 127.0.0.1:80: a guest may connect, and nothing can connect to it";
            assert_eq!(told, [said], "{usage:?}");
        }
    }
}
