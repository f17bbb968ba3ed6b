//! Measures Odeum against the systems it stands beside.
//!
//! Every comparison interleaves ours and theirs in one run, so that a noisy machine
//! disturbs both, and reports medians.

mod debian;
pub mod remote;
pub mod report;
pub mod run;
pub mod store;
pub mod vs;
