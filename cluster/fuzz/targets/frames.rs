//! A stream of frames, cut anywhere.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| odeum_cluster::fuzz::frames(input));
