//! What a scenario file says. The documentation of each field is its documentation in the schema, which
//! editors show.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use odeum_runtime::config::{ByteSize, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;

/// A load test: what is asked of which cluster, how often, what breaks meanwhile, and what must hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Its name: also that of its report.
    pub name: String,
    /// What it finds out, in a sentence.
    #[serde(default)]
    pub about: String,
    /// Decides what is drawn by lot: keys, sizes, the order of targets, who is struck by a fault.
    #[serde(default = "defaults::seed")]
    pub seed: u64,
    /// Which cluster.
    #[serde(default)]
    pub cluster: Cluster,
    /// Processes that make the load.
    #[serde(default = "defaults::generators")]
    #[schemars(range(min = 1, max = 64))]
    pub generators: usize,
    /// How sends are spread in time in an open loop.
    #[serde(default)]
    pub arrivals: Arrivals,
    /// Requests that one generator has under way at most. What would exceed it is not sent, and
    /// counted as dropped.
    #[serde(default = "defaults::in_flight")]
    #[schemars(range(min = 1))]
    pub in_flight: usize,
    /// How long a request may take, with all its tries, before it has failed.
    #[serde(default = "defaults::deadline")]
    #[schemars(with = "String")]
    pub deadline: HumanDuration,
    /// A send that begins later than so much after its time is counted as late.
    #[serde(default = "defaults::late")]
    #[schemars(with = "String")]
    pub late: HumanDuration,
    /// What is asked, by names of your choice.
    #[schemars(length(min = 1))]
    pub targets: BTreeMap<String, Target>,
    /// How often each target is asked in proportion to the others; all alike when left out.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, u32>")]
    pub mix: BTreeMap<String, Spanned<u32>>,
    /// How much is asked when, one after the other.
    #[schemars(length(min = 1))]
    pub phases: Vec<Phase>,
    /// What breaks when.
    #[serde(default)]
    #[schemars(with = "Vec<Fault>")]
    pub faults: Vec<Spanned<Fault>>,
    /// What must hold. That nothing is lost, doubled, out of order or wrong must always.
    #[serde(default)]
    #[schemars(with = "Vec<Budget>")]
    pub budgets: Vec<Spanned<Budget>>,
}

/// Which cluster is asked: one that runs, or one that is started on this machine for the time of the test.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// How many nodes are started, called n1, n2 and so on. With a list the scenario runs once for each.
    pub nodes: Sizes,
    /// The APIs of the nodes of a cluster that runs, such as `http://10.0.0.1:7070`. None is started then.
    pub urls: Vec<String>,
    /// Where the nodes that are started are.
    pub network: Network,
}

/// Numbers of nodes.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(with = "OneOrMany")]
pub struct Sizes(pub Vec<usize>);

impl Default for Sizes {
    fn default() -> Self {
        Self(vec![3])
    }
}

/// For the schema alone.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "the schema is made of it")]
enum OneOrMany {
    One(usize),
    Many(Vec<usize>),
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Not an untagged enum, whose errors would not say where.
        struct Said;

        impl<'de> de::Visitor<'de> for Said {
            type Value = Sizes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of nodes, or a list of such numbers")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Sizes, E> {
                let number = usize::try_from(number).map_err(E::custom)?;
                Ok(Sizes(vec![number]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Sizes, E> {
                let number = usize::try_from(number).map_err(E::custom)?;
                Ok(Sizes(vec![number]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut all: A) -> Result<Sizes, A::Error> {
                let mut sizes = Vec::new();
                while let Some(size) = all.next_element()? {
                    sizes.push(size);
                }
                Ok(Sizes(sizes))
            }
        }

        from.deserialize_any(Said)
    }
}

/// Where the nodes are that a scenario starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// In network namespaces where a fault needs them and root is there, else on loopback.
    #[default]
    Auto,
    /// On loopback.
    Loopback,
    /// Each in a network namespace of its own: takes root, `ip` and `nft`.
    Namespaces,
}

/// How sends are spread in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// At even distances.
    #[default]
    Even,
    /// At random, as from many users who know nothing of each other (a Poisson process).
    Poisson,
}

/// Something that is asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Calls firmware of the harness's own that counts: each reply has the count, by which is seen what
    /// was lost, done twice or in another order.
    Call(Call),
    /// Calls firmware that is deployed already.
    Firmware(Deployed),
    /// HTTP requests to the routes of firmware.
    Http(Http),
    /// Reads variables of sessions.
    Read(Variables),
    /// Writes variables of sessions.
    Write(Variables),
    /// Writes variables of sessions if they have the version that was seen last.
    CompareAndSet(Variables),
    /// Writes variables of sessions, and is over when a watch has told of it.
    Watch(Variables),
    /// Asks entities in Rust that count, and waits for the count.
    Ask(Entities),
    /// Tells entities in Rust to count, without an answer.
    Tell(Entities),
    /// Moves firmware of a `call` target to another node, and is over when it has moved.
    Move(Move),
}

/// Firmware that counts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Call {
    /// How many are deployed. Each generator calls its own.
    #[schemars(range(min = 1))]
    pub guests: usize,
    /// Which of them is called.
    pub keys: Keys,
    /// Bytes of a message.
    #[schemars(with = "String")]
    pub payload: ByteSize,
    /// When given, sizes are between `payload` and this.
    #[schemars(with = "Option<String>")]
    pub payload_to: Option<ByteSize>,
    /// Where the count is.
    pub state: State,
    /// Linear memory of each.
    #[schemars(with = "String")]
    pub memory: ByteSize,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            guests: 8,
            keys: Keys::default(),
            payload: ByteSize(0),
            payload_to: None,
            state: State::default(),
            memory: ByteSize(2 << 20),
        }
    }
}

/// Where firmware has its count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In a variable of its session: on the disks of a majority before the reply.
    #[default]
    Session,
    /// In its memory: goes with it when it moves, and ends with its node.
    Memory,
}

/// Firmware that is there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Deployed {
    /// Its name.
    pub name: String,
    /// The message.
    #[serde(default)]
    pub body: String,
    /// The session; the firmware's default session when left out.
    #[serde(default)]
    pub session: Option<String>,
}

/// HTTP requests to firmware.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// Firmware that is deployed already. When left out the harness deploys a server of its own, whose
    /// `/echo` answers the body of the request.
    pub firmware: Option<String>,
    /// The path behind `/f/NAME`.
    pub path: String,
    /// The method.
    pub method: Method,
    /// Bytes of a body.
    #[schemars(with = "String")]
    pub payload: ByteSize,
    /// When given, sizes are between `payload` and this.
    #[schemars(with = "Option<String>")]
    pub payload_to: Option<ByteSize>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            firmware: None,
            path: "/echo".to_owned(),
            method: Method::Post,
            payload: ByteSize(256),
            payload_to: None,
        }
    }
}

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// Variables of sessions, each in a session of its own. Every operation on them is a part of a history
/// that must be linearizable.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Variables {
    /// How many there are at a time, for each generator its own; all targets of variables have the same,
    /// as many as the largest number.
    #[schemars(range(min = 1))]
    pub sessions: usize,
    /// Which of them is meant.
    pub keys: Keys,
    /// Bytes of a value.
    #[schemars(with = "String")]
    pub payload: ByteSize,
    /// When given, sizes are between `payload` and this.
    #[schemars(with = "Option<String>")]
    pub payload_to: Option<ByteSize>,
    /// `read`: what it may miss.
    pub consistency: Consistency,
}

impl Default for Variables {
    fn default() -> Self {
        Self {
            sessions: 16,
            keys: Keys::default(),
            payload: ByteSize(32),
            payload_to: None,
            consistency: Consistency::default(),
        }
    }
}

/// What a read may miss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Nothing that was acknowledged before.
    #[default]
    Linearizable,
    /// Nothing either, while clocks run equally fast.
    Lease,
    /// What the asked node has not heard of yet. It is no part of the history.
    Local,
}

/// Entities in Rust. Only where the harness starts the cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entities {
    /// How many names there are, for all generators together.
    #[schemars(range(min = 1))]
    pub entities: usize,
    /// Which of them is meant.
    pub keys: Keys,
    /// Bytes of a message.
    #[schemars(with = "String")]
    pub payload: ByteSize,
    /// When given, sizes are between `payload` and this.
    #[schemars(with = "Option<String>")]
    pub payload_to: Option<ByteSize>,
}

impl Default for Entities {
    fn default() -> Self {
        Self { entities: 1_000, keys: Keys::default(), payload: ByteSize(64), payload_to: None }
    }
}

/// What is moved.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Move {
    /// The `call` target whose firmware it is.
    #[schemars(with = "String")]
    pub of: Spanned<String>,
}

/// Which of many keys is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Keys {
    /// All equally often.
    #[default]
    Uniform,
    /// The n-th one in proportion to 1 / n to this power.
    Zipfian(f64),
    /// Some of them nearly always.
    Hot {
        /// The share of keys that are hot, from 0 to 1.
        share: f64,
        /// The share of requests that go to them, from 0 to 1.
        load: f64,
    },
}

/// How much is asked for how long. With a rate the loop is open: what is sent does not wait for what was
/// sent before, and times count from when it was to be sent. With clients it is closed, and labelled so.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// More and more, or less and less.
    #[serde(rename_all = "kebab-case")]
    Ramp {
        /// Requests a second at its beginning.
        from: f64,
        /// Requests a second at its end.
        to: f64,
        /// How long.
        #[serde(rename = "for")]
        #[schemars(with = "String")]
        lasts: HumanDuration,
    },
    /// Always the same.
    #[serde(rename_all = "kebab-case")]
    Hold {
        /// Requests a second: an open loop.
        #[serde(default)]
        rate: Option<f64>,
        /// Clients that send when they were answered: a closed loop.
        #[serde(default)]
        clients: Option<usize>,
        /// How long.
        #[serde(rename = "for")]
        #[schemars(with = "String")]
        lasts: HumanDuration,
    },
    /// At once much more.
    #[serde(rename_all = "kebab-case")]
    Spike {
        /// Requests a second.
        rate: f64,
        /// How long.
        #[serde(rename = "for")]
        #[schemars(with = "String")]
        lasts: HumanDuration,
    },
}

impl Phase {
    /// How long it is.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        match self {
            Self::Ramp { lasts, .. } | Self::Hold { lasts, .. } | Self::Spike { lasts, .. } => {
                lasts.0
            }
        }
    }

    /// Makes it so many times shorter.
    pub fn shorten(&mut self, by: u32) {
        match self {
            Self::Ramp { lasts, .. } | Self::Hold { lasts, .. } | Self::Spike { lasts, .. } => {
                lasts.0 /= by;
            }
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ramp { from, to, lasts } => write!(f, "ramp {from}/s to {to}/s in {lasts}"),
            Self::Hold { rate: Some(rate), lasts, .. } => write!(f, "hold {rate}/s for {lasts}"),
            Self::Hold { clients, lasts, .. } => {
                write!(f, "{} clients for {lasts}, a closed loop", clients.unwrap_or_default())
            }
            Self::Spike { rate, lasts } => write!(f, "spike of {rate}/s for {lasts}"),
        }
    }
}

/// For whom a fault is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(from = "String")]
#[schemars(with = "String")]
pub enum Who {
    /// One that is drawn.
    #[default]
    Any,
    /// Who leads the group that knows what is where.
    Leader,
    /// The one with this name.
    Named(String),
}

impl From<String> for Who {
    fn from(text: String) -> Self {
        match text.as_str() {
            "any" => Self::Any,
            "leader" => Self::Leader,
            _ => Self::Named(text),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any node"),
            Self::Leader => f.write_str("the leader"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Which way is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// What it sends and what it is sent.
    #[default]
    Both,
    /// What it sends.
    Out,
    /// What it is sent.
    In,
}

/// Something that breaks, or is done to the cluster while it works. `node` is a name (n1, n2 …), `leader`
/// or `any`, which is drawn; `for` is how long it lasts; with `every` it comes again.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9` of a node, which is started again afterwards.
    Kill(OfNode),
    /// A node stops (SIGSTOP) and goes on (SIGCONT).
    Pause(OfNode),
    /// A node is told to end (SIGTERM), and started again afterwards.
    Restart(OfNode),
    /// All nodes are restarted, one after the other, each when the one before is back.
    Roll(Once),
    /// Firmware of the harness moves to other nodes.
    Move(Moved),
    /// A node gives away all it has, and takes things again afterwards.
    Drain(OfNode),
    /// Firmware of the harness is replaced by another version of it.
    Update(Once),
    /// A node is cut off from all others. Takes namespaces.
    Isolate(Isolate),
    /// Nodes are cut off from the others. Takes namespaces.
    Split(Split),
    /// Packets between nodes are lost. Takes namespaces.
    Loss(Loss),
    /// Packets of a node are late. Takes namespaces, and netem in the kernel.
    Delay(Delay),
    /// A node can send no more than so much. Takes namespaces.
    Bandwidth(Bandwidth),
    /// The disk of a node is full. Takes root.
    DiskFull(OfNode),
    /// Each time a node waits for its disk it waits longer. Takes a C compiler.
    SlowDisk(Delay),
    /// The time of day of a node jumps. Takes a C compiler.
    Clock(Jump),
}

/// A fault of one node.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OfNode {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whom.
    #[serde(default)]
    pub node: Who,
    /// How long.
    #[serde(default = "defaults::lasts", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Something that takes as long as it takes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Once {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
}

/// Firmware moves.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Moved {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// How many of them.
    #[serde(default = "defaults::moved")]
    pub guests: usize,
}

/// A node is cut off.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Isolate {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whom.
    #[serde(default)]
    pub node: Who,
    /// Which way.
    #[serde(default)]
    pub way: Way,
    /// How long.
    #[serde(default = "defaults::lasts", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Some nodes are cut off from the others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Split {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// The names of those on one side.
    pub side: Vec<String>,
    /// How long.
    #[serde(default = "defaults::lasts", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Packets are lost.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Loss {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// How many of a hundred.
    #[schemars(range(min = 1, max = 100))]
    pub percent: u8,
    /// How long.
    #[serde(default = "defaults::lasts", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// Something takes longer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Delay {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whose.
    #[serde(default)]
    pub node: Who,
    /// How much longer.
    #[schemars(with = "String")]
    pub by: HumanDuration,
    /// How long.
    #[serde(default = "defaults::lasts", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// A narrow way.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bandwidth {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whose.
    #[serde(default)]
    pub node: Who,
    /// Bytes that it can send in a second.
    #[schemars(with = "String")]
    pub rate: ByteSize,
    /// How long.
    #[serde(default = "defaults::lasts", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

/// The time of day jumps.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Jump {
    /// When.
    #[schemars(with = "String")]
    pub at: HumanDuration,
    /// Again after so long.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub every: Option<HumanDuration>,
    /// Whose.
    #[serde(default)]
    pub node: Who,
    /// Seconds, backwards when negative.
    pub seconds: i64,
    /// How long.
    #[serde(default = "defaults::lasts", rename = "for")]
    #[schemars(with = "String")]
    pub lasts: HumanDuration,
}

impl Fault {
    /// When it comes, and again after how long.
    #[must_use]
    pub fn when(&self) -> (Duration, Option<Duration>) {
        let mut fault = self.clone();
        let (at, every) = fault.timing();
        (at.0, every.map(|every| every.0))
    }

    fn timing(&mut self) -> (&mut HumanDuration, &mut Option<HumanDuration>) {
        match self {
            Self::Kill(it)
            | Self::Pause(it)
            | Self::Restart(it)
            | Self::Drain(it)
            | Self::DiskFull(it) => (&mut it.at, &mut it.every),
            Self::Roll(it) | Self::Update(it) => (&mut it.at, &mut it.every),
            Self::Move(it) => (&mut it.at, &mut it.every),
            Self::Isolate(it) => (&mut it.at, &mut it.every),
            Self::Split(it) => (&mut it.at, &mut it.every),
            Self::Loss(it) => (&mut it.at, &mut it.every),
            Self::Delay(it) | Self::SlowDisk(it) => (&mut it.at, &mut it.every),
            Self::Bandwidth(it) => (&mut it.at, &mut it.every),
            Self::Clock(it) => (&mut it.at, &mut it.every),
        }
    }

    /// How long it lasts, where that is said.
    #[must_use]
    pub fn lasts(&self) -> Option<Duration> {
        match self {
            Self::Kill(it)
            | Self::Pause(it)
            | Self::Restart(it)
            | Self::Drain(it)
            | Self::DiskFull(it) => Some(it.lasts.0),
            Self::Roll(_) | Self::Update(_) | Self::Move(_) => None,
            Self::Isolate(it) => Some(it.lasts.0),
            Self::Split(it) => Some(it.lasts.0),
            Self::Loss(it) => Some(it.lasts.0),
            Self::Delay(it) | Self::SlowDisk(it) => Some(it.lasts.0),
            Self::Bandwidth(it) => Some(it.lasts.0),
            Self::Clock(it) => Some(it.lasts.0),
        }
    }

    /// Makes the timetable so many times shorter. How long a fault lasts stays: what is detected within
    /// a second is not detected earlier.
    pub fn shorten(&mut self, by: u32) {
        let (at, every) = self.timing();
        at.0 /= by;
        if let Some(every) = every {
            every.0 /= by;
        }
    }

    /// For whom it is, where it is for one.
    #[must_use]
    pub fn who(&self) -> Option<&Who> {
        match self {
            Self::Kill(it)
            | Self::Pause(it)
            | Self::Restart(it)
            | Self::Drain(it)
            | Self::DiskFull(it) => Some(&it.node),
            Self::Isolate(it) => Some(&it.node),
            Self::Delay(it) | Self::SlowDisk(it) => Some(&it.node),
            Self::Bandwidth(it) => Some(&it.node),
            Self::Clock(it) => Some(&it.node),
            Self::Roll(_) | Self::Move(_) | Self::Update(_) | Self::Split(_) | Self::Loss(_) => {
                None
            }
        }
    }

    /// Whether messages that were told, and were not answered, may be lost by it: that is no fault of
    /// the cluster.
    #[must_use]
    pub fn loses_what_is_told(&self) -> bool {
        !matches!(
            self,
            Self::Move(_)
                | Self::Update(_)
                | Self::SlowDisk(_)
                | Self::Clock(_)
                | Self::DiskFull(_)
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill(it) => write!(f, "kill -9 of {}", it.node),
            Self::Pause(it) => write!(f, "{} stopped", it.node),
            Self::Restart(it) => write!(f, "restart of {}", it.node),
            Self::Roll(_) => f.write_str("rolling restart"),
            Self::Move(it) => write!(f, "{} guests move", it.guests),
            Self::Drain(it) => write!(f, "drain of {}", it.node),
            Self::Update(_) => f.write_str("hot update"),
            Self::Isolate(it) => match it.way {
                Way::Both => write!(f, "{} cut off", it.node),
                Way::Out => write!(f, "what {} sends lost", it.node),
                Way::In => write!(f, "what {} is sent lost", it.node),
            },
            Self::Split(it) => write!(f, "{} cut off from the others", it.side.join(", ")),
            Self::Loss(it) => write!(f, "{} % of packets lost", it.percent),
            Self::Delay(it) => write!(f, "packets of {} late by {}", it.node, it.by),
            Self::Bandwidth(it) => write!(f, "{} sends at most {}/s", it.node, it.rate),
            Self::DiskFull(it) => write!(f, "the disk of {} full", it.node),
            Self::SlowDisk(it) => write!(f, "the disk of {} slower by {}", it.node, it.by),
            Self::Clock(it) => write!(f, "time of day of {} moved by {} s", it.node, it.seconds),
        }
    }
}

/// What must hold.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// The time that so many of a hundred requests do not exceed.
    Latency(Latency),
    /// Requests a second that were answered, as a mean of the whole load.
    Rate(Rate),
    /// The share of requests that failed or were dropped.
    Errors(Errors),
    /// Memory of any node at any time.
    Memory(Memory),
    /// By how much the memory of any node is larger at the end than after its start.
    Growth(Memory),
    /// The longest time in which nobody was answered.
    Outage(Outage),
}

/// A bound of times.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Latency {
    /// Which of a hundred, such as 99.9.
    pub percentile: f64,
    /// Of which target; of all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub of: Option<Spanned<String>>,
    /// The bound.
    #[schemars(with = "String")]
    pub at_most: HumanDuration,
}

/// A bound of rates.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Rate {
    /// Of which target; of all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub of: Option<Spanned<String>>,
    /// The bound.
    pub at_least: f64,
}

/// A bound of errors.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Errors {
    /// Of which target; of all when left out.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub of: Option<Spanned<String>>,
    /// The bound, in percent.
    pub at_most_percent: f64,
}

/// A bound of memory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Memory {
    /// The bound.
    #[schemars(with = "String")]
    pub at_most: ByteSize,
}

/// A bound of outages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Outage {
    /// The bound.
    #[schemars(with = "String")]
    pub at_most: HumanDuration,
}

impl Budget {
    /// The target it is about.
    #[must_use]
    pub fn of(&self) -> Option<&Spanned<String>> {
        match self {
            Self::Latency(it) => it.of.as_ref(),
            Self::Rate(it) => it.of.as_ref(),
            Self::Errors(it) => it.of.as_ref(),
            Self::Memory(_) | Self::Growth(_) | Self::Outage(_) => None,
        }
    }
}

/// What is meant when nothing is said.
mod defaults {
    use super::{Duration, HumanDuration};

    pub(super) fn seed() -> u64 {
        1
    }

    pub(super) fn generators() -> usize {
        2
    }

    pub(super) fn in_flight() -> usize {
        1_024
    }

    pub(super) fn deadline() -> HumanDuration {
        HumanDuration(Duration::from_secs(10))
    }

    pub(super) fn late() -> HumanDuration {
        HumanDuration(Duration::from_millis(1))
    }

    pub(super) fn lasts() -> HumanDuration {
        HumanDuration(Duration::from_secs(5))
    }

    pub(super) fn moved() -> usize {
        1
    }
}
