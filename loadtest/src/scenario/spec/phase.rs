//! How much is asked for how long.

use std::fmt;
use std::time::Duration;

use odeum_runtime::config::HumanDuration;
use schemars::JsonSchema;
use serde::Deserialize;

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
