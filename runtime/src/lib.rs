//! What an Odeum node runs: firmware, the HTTP API and the command line.

pub mod api;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod firmware;
pub mod memory;
pub mod node;
pub mod package;
pub mod tls;

/// The README's Rust is compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
