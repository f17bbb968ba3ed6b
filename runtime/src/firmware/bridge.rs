//! The bridge between firmlets and an MQTT broker.
//!
//! Each firmware that may use the broker has a connection of its own, kept while its host runs, and
//! made again with a growing pause when it is lost. Both directions are bounded: what is published
//! while the queue is full is dropped and counted, and what arrives while the host's mailbox is full
//! is, too. MQTT is at the edge of the system, so this is as much as it promises: a publication that
//! was taken reaches the broker at least once while the host lives.

mod relay;

use std::{fmt, time::Duration};

use odeum_proto::{ReplicaId, limits};
use rumqttc::{AsyncClient, ClientError, Event, EventLoop, MqttOptions, Packet, QoS, Transport};
use tokio::{sync::mpsc, time::sleep};

use self::relay::Relay;
use crate::{config::Broker, package::manifest::MqttFilter, tls::Client};

/// Publications that wait for the broker: some seconds of a busy firmlet, and at most as many bytes
/// as its messages may put out.
const QUEUE: usize = 256;

/// Packets that rumqttc has under way.
const IN_FLIGHT: usize = 64;

/// How long a silent connection is held to be alive. Source: MQTT 3.1.1 §3.1.2.10.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long a connection to the broker may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);

/// First and longest pause before another try to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What a packet has beyond its payload: the longest topic and the header.
const ENVELOPE_BYTES: usize = (64 << 10) + 16;

/// Something that is published, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Under which topic.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// Takes what a guest publishes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Publisher(Option<mpsc::Sender<Publication>>);

impl Publisher {
    /// One for a guest whose node has no broker.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// One whose publications are taken by whoever has the other end, `bound` at once.
    #[must_use]
    pub fn queue(bound: usize) -> (Self, mpsc::Receiver<Publication>) {
        let (publisher, queue) = mpsc::channel(bound);
        (Self(Some(publisher)), queue)
    }

    /// Whether there is a broker at all.
    pub(super) fn has_broker(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it was taken.
    pub(super) fn publish(&self, publication: Publication) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.try_send(publication).is_ok())
    }
}

/// How a broker is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerAccess {
    /// Where it is.
    pub broker: Broker,
    /// The name the node tells it.
    pub user: Option<String>,
    /// The password that belongs to it.
    pub password: Option<String>,
    /// What makes TLS connections to it; `None` for those without.
    pub tls: Option<Client>,
}

impl fmt::Debug for BrokerAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { broker, user, .. } = self;
        f.debug_struct("BrokerAccess")
            .field("broker", broker)
            .field("user", user)
            .finish_non_exhaustive()
    }
}

/// A connection that is to be [run](Bridge::run).
pub(super) struct Bridge {
    firmware: ReplicaId,
    queue: mpsc::Receiver<Publication>,
    client: AsyncClient,
    events: EventLoop,
    filters: Vec<MqttFilter>,
    /// On the way to a broker that is reached by TLS.
    relay: Option<Relay>,
}

/// A bridge of `firmware` to a broker. `id` tells it from other clients of that.
pub(super) fn bridge(
    access: &BrokerAccess,
    firmware: &ReplicaId,
    id: &str,
    filters: &[MqttFilter],
) -> (Publisher, Bridge) {
    let relay = access.tls.clone().and_then(|tls| {
        let opened = Relay::open(access.broker.clone(), tls);
        opened.inspect_err(|error| tracing::error!(%firmware, %error, "no mqtt relay")).ok()
    });
    let mut options = match (&relay, &access.tls) {
        (Some(relay), _) => {
            let mut options = MqttOptions::new(id, relay.path(), access.broker.port());
            options.set_transport(Transport::Unix);
            options
        }
        // Nothing is sent that should have been encrypted.
        (None, Some(_)) => {
            let mut options = MqttOptions::new(id, "", access.broker.port());
            options.set_transport(Transport::Unix);
            options
        }
        (None, None) => MqttOptions::new(id, access.broker.host(), access.broker.port()),
    };
    let packet = limits::MESSAGE_BYTES + ENVELOPE_BYTES;
    options.set_keep_alive(KEEP_ALIVE).set_max_packet_size(packet, packet);
    if let Some(user) = &access.user {
        options.set_credentials(user, access.password.as_deref().unwrap_or_default());
    }
    let (client, events) = AsyncClient::new(options, IN_FLIGHT);
    let (publisher, queue) = mpsc::channel(QUEUE);
    let (firmware, filters) = (firmware.clone(), filters.to_vec());
    (Publisher(Some(publisher)), Bridge { firmware, queue, client, events, filters, relay })
}

impl Bridge {
    /// Keeps the connection, and gives `arrived` what comes. Ends when the publisher is gone.
    pub(super) async fn run(self, arrived: impl Fn(Publication) -> bool) {
        let Self { firmware, mut queue, client, events, filters, relay } = self;
        let relayed = async {
            match relay {
                Some(relay) => relay.run().await,
                None => std::future::pending().await,
            }
        };
        let forward = async {
            while let Some(Publication { topic, payload }) = queue.recv().await {
                let sent = client.publish(topic, QoS::AtLeastOnce, false, payload).await;
                if let Err(error) = sent {
                    tracing::warn!(%firmware, %error, "publication not sent");
                }
            }
        };
        // All are polled to their ends: an event that is being read must not be lost.
        tokio::select! {
            () = forward => {}
            () = relayed => {}
            () = connect(&firmware, &client, events, &filters, arrived) => {}
        }
    }
}

/// Drives the connection; never ends.
async fn connect(
    firmware: &ReplicaId,
    client: &AsyncClient,
    mut events: EventLoop,
    filters: &[MqttFilter],
    arrived: impl Fn(Publication) -> bool,
) {
    let (mut pause, longest) = PAUSES;
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                pause = PAUSES.0;
                tracing::info!(%firmware, "mqtt broker connected");
                if let Err(error) = subscribe(client, filters) {
                    tracing::warn!(%firmware, %error, "mqtt topics not subscribed");
                }
            }
            Ok(Event::Incoming(Packet::Publish(it))) => {
                let topic = String::from_utf8_lossy(it.topic.as_ref()).into_owned();
                // A broker may send what nobody asked it for.
                if !filters.iter().any(|filter| filter.allows(&topic)) {
                    continue;
                }
                if !arrived(Publication { topic, payload: it.payload.to_vec() }) {
                    tracing::warn!(%firmware, "mqtt message dropped: too many wait");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%firmware, %error, "mqtt broker lost");
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        }
    }
}

fn subscribe(client: &AsyncClient, filters: &[MqttFilter]) -> Result<(), ClientError> {
    filters.iter().try_for_each(|filter| client.try_subscribe(filter.as_str(), QoS::AtLeastOnce))
}

/// Whether something can be published under it. Source: MQTT 3.1.1 §4.7.
pub(super) fn is_topic(text: &str) -> bool {
    !text.is_empty() && !text.contains(['+', '#', '\0'])
}
