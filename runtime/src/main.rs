//! The `odeum` binary.

fn main() {}
