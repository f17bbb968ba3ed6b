//! What is said of what a guest was denied: always with the line that would allow it, and not
//! forever, because a guest may ask in a loop.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use odeum_proto::chronicle::{Level, Stream};

use super::chronicle::GuestLog;

/// Denials of one instance that are said. One tells what is missing; a loop would say it forever.
const SAID: u32 = 16;

/// Says what one instance is denied.
#[derive(Debug)]
pub(super) struct Denials {
    log: GuestLog,
    said: AtomicU32,
}

impl Denials {
    pub(super) fn new(log: GuestLog) -> Self {
        Self { log, said: AtomicU32::new(0) }
    }

    /// `what` needs `line` under `[capabilities]`.
    pub(super) fn capability(&self, what: &str, line: &str) {
        self.say(what, "[capabilities]", line);
    }

    /// A topic of MQTT.
    pub(super) fn mqtt(&self, topic: &str) {
        self.say(topic, "[capabilities.mqtt]", &format!("publish = [{topic:?}]"));
    }

    /// A connection.
    pub(super) fn socket(&self, addr: SocketAddr) {
        self.say(&addr.to_string(), "[capabilities]", &format!("sockets = [\"{addr}\"]"));
    }

    /// An address to be connected to, which no line would allow.
    pub(super) fn listening(&self, addr: SocketAddr) {
        const NEVER: &str = "a guest may connect, and nothing can connect to it";
        if self.may_say() {
            let firmware = self.log.firmware();
            tracing::warn!(target: "odeum::guest", %firmware, what = %addr, "denied: {NEVER}");
            self.log.keep(Level::Warn, Stream::Node, &format!("denied {addr}: {NEVER}"));
        }
    }

    /// A server that is not who it should be, or that nobody knows.
    pub(super) fn untrusted(&self, host: &str, error: &dyn std::error::Error) {
        if self.may_say() {
            let firmware = self.log.firmware();
            tracing::warn!(target: "odeum::guest", %firmware, host, %error, "not reached by TLS");
            self.log.keep(
                Level::Warn,
                Stream::Node,
                &format!("{host} is not reached by TLS: {error}"),
            );
        }
    }

    /// A node without a broker.
    pub(super) fn no_broker(&self) {
        if self.may_say() {
            const NO_BROKER: &str = "nothing can be published: this node has no broker; set \
                                     `mqtt.broker` in its configuration";
            let firmware = self.log.firmware();
            tracing::warn!(target: "odeum::guest", %firmware, "{NO_BROKER}");
            self.log.keep(Level::Warn, Stream::Node, NO_BROKER);
        }
    }

    fn say(&self, what: &str, table: &str, line: &str) {
        if self.may_say() {
            let advice = format!("write `{line}` under `{table}` in its manifest to allow it");
            let firmware = self.log.firmware();
            tracing::warn!(target: "odeum::guest", %firmware, what, "denied: {advice}");
            self.log.keep(Level::Warn, Stream::Node, &format!("denied {what}: {advice}"));
        }
    }

    fn may_say(&self) -> bool {
        self.said.fetch_add(1, Ordering::Relaxed) < SAID
    }
}
