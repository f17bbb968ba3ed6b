//! The first bytes of a connection.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| odeum_cluster::fuzz::introduction(input));
