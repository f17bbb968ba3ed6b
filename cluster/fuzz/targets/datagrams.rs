//! A life of the failure detector: datagrams and timers.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| odeum_cluster::fuzz::datagrams(input));
