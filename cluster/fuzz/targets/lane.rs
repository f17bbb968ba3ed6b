//! A lane: packets to and from entities, cut anywhere.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| odeum_cluster::fuzz::lane(input));
