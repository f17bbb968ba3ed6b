//! What is asked.

use odeum_runtime::config::ByteSize;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_saphyr::Spanned;

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
