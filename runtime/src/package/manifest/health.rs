//! `[health]`: when an instance is not well, and what is done about it.

use std::num::NonZeroU32;

use odeum_proto::{limits, store::Remedy};
use serde::{Deserialize, Serialize};

use super::bounded::{Bytes, Count, Time};

/// For how long something is borne: up to a day.
pub type Lasting = Time<0, 86_400_000>;

/// When an instance is not well.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Health {
    /// How long it may take to start once its package is there, 100 ms to an hour; longer is a
    /// crash. When left out: 30 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_time: Option<Time<100, 3_600_000>>,
    /// How much it may compute. When left out: as much as there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuThreshold>,
    /// How much memory it may use before something is done about it; never more than
    /// `limits.memory`. For guests that handle messages: of a job or a server it is not known. When
    /// left out: that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryThreshold>,
    /// How it is seen whether it is alive. When left out: it is not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness: Option<LivenessCheck>,
}

/// How it is seen whether an instance is alive. A guest that exports the function of its ABI for that
/// is asked; of another one it is seen whether its host comes to its next message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LivenessCheck {
    /// Time between two checks, 100 ms to an hour. No default.
    pub interval: Time<100, 3_600_000>,
    /// How long an answer may take, 10 ms to a minute, beside what is at hand. Default: 1 s.
    #[serde(default = "one_second")]
    pub timeout: Time<10, 60_000>,
    /// Failed checks in a row that are a crash. Default: 3.
    #[serde(default = "three")]
    pub failures: NonZeroU32,
    /// What a guest that serves HTTP is asked for, such as `/healthz`: it has to answer with a
    /// status of 2xx. When left out: it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<UrlPath>,
}

fn one_second() -> Time<10, 60_000> {
    Time::clamped(1_000)
}

fn three() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(2)
}

/// The path of a request, and perhaps its query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UrlPath(Box<str>);

/// A text that is no path of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no path: it begins with `/` and has printable ASCII without spaces behind it, {most} bytes at most"
)]
pub struct UrlPathError {
    given: Box<str>,
    most: usize,
}

impl UrlPath {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UrlPath {
    type Error = UrlPathError;
    fn try_from(given: String) -> Result<Self, UrlPathError> {
        let most = limits::METADATA_BYTES;
        let is_path = given.starts_with('/') && given.chars().all(|it| it.is_ascii_graphic());
        if is_path && given.len() <= most {
            return Ok(Self(given.into()));
        }
        Err(UrlPathError { given: given.chars().take(80).collect::<String>().into(), most })
    }
}

impl From<UrlPath> for String {
    fn from(path: UrlPath) -> Self {
        path.0.into()
    }
}

/// How much an instance may compute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CpuThreshold {
    /// The most, in percent of one core, smoothed over some ten seconds. No default.
    pub above: Count<1, 100_000>,
    /// For how long more is borne, up to a day. No default.
    pub lasting: Lasting,
    /// What is done then. Default: `warn`.
    #[serde(default)]
    pub then: Then,
}

/// How much memory an instance may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MemoryThreshold {
    /// The most. No default.
    pub above: Bytes<0, { 4 << 30 }>,
    /// For how long more is borne, up to a day. No default.
    pub lasting: Lasting,
    /// What is done then. Default: `warn`.
    #[serde(default)]
    pub then: Then,
}

/// What is done about an instance that uses too much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The node's log says so.
    #[default]
    Warn,
    /// It is started anew, which counts as a crash.
    Restart,
    /// It is given up.
    Stop,
}

impl From<Then> for Remedy {
    fn from(then: Then) -> Self {
        match then {
            Then::Warn => Self::Warn,
            Then::Restart => Self::Restart,
            Then::Stop => Self::Stop,
        }
    }
}
