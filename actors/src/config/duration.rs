//! Durations in configurations: `"250ms"`, `"5s"`, `"1h 30m"`. For
//! `#[serde(with = "odeum_actors::config::duration")]`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

use super::HumanDuration;

/// Writes a duration as people do.
///
/// # Errors
/// Only the serializer's own.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

/// Reads a duration as people write it.
///
/// # Errors
/// If it is no text, or no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    HumanDuration::deserialize(deserializer).map(|duration| duration.0)
}
