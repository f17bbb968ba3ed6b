//! The promises of the supervisor's decisions, without a runtime.
