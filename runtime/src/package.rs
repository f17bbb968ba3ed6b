//! Firmware packages: what a WebAssembly module is shipped as.
//!
//! A package says what its module is and what it may do (`manifest`).

pub mod manifest;
