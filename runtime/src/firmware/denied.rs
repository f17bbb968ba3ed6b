//! What is said of what a guest was denied: always with the line that would allow it, and not
//! forever, because a guest may ask in a loop.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use odeum_proto::Name;

/// Denials of one instance that are said. One tells what is missing; a loop would say it forever.
const SAID: u32 = 16;

/// Says what one instance is denied.
#[derive(Debug)]
pub(super) struct Denials {
    firmware: Name,
    said: AtomicU32,
}

impl Denials {
    pub(super) fn new(firmware: Name) -> Self {
        Self { firmware, said: AtomicU32::new(0) }
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

    /// A node without a broker.
    pub(super) fn no_broker(&self) {
        if self.may_say() {
            tracing::warn!(
                target: "odeum::guest", firmware = %self.firmware,
                "nothing can be published: this node has no broker; set `mqtt.broker` in its \
                 configuration"
            );
        }
    }

    fn say(&self, what: &str, table: &str, line: &str) {
        if self.may_say() {
            tracing::warn!(
                target: "odeum::guest", firmware = %self.firmware, what,
                "denied: write `{line}` under `{table}` in its manifest to allow it"
            );
        }
    }

    fn may_say(&self) -> bool {
        self.said.fetch_add(1, Ordering::Relaxed) < SAID
    }
}
