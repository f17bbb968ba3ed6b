//! What the process logs and how: the one place that sets `tracing` up.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, prelude::*};

use crate::config::{ConfigError, LogFormat, Resolved};

/// The setting that holds the filter.
const FILTER_KEY: &str = "log.filter";

/// Sends log lines to stderr as the settings say. To be called once, before anything is logged; a
/// second call changes nothing.
///
/// # Errors
/// [`ConfigError::BadValue`] when the filter cannot be read.
pub fn start(resolved: &Resolved) -> Result<(), ConfigError> {
    let log = &resolved.config.log;
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| ConfigError::BadValue {
        key: FILTER_KEY.into(),
        at: resolved.origin(FILTER_KEY),
        reason: error.to_string().into(),
    })?;
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match log.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
    };
    // The only failure is that somebody set it up before us, who then has the say.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(())
}
