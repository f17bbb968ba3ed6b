//! Load tests of clusters, ours and our users', and measurements against the systems that Odeum stands
//! beside.
//!
//! A load test is a file ([`scenario`]): it says what is asked, how often, what breaks meanwhile and what
//! must hold. A comparison ([`vs`]) interleaves ours and theirs in one run, so that a noisy machine
//! disturbs both, and reports medians.

mod check;
mod debian;
mod door;
mod fault;
pub mod fleet;
mod guests;
mod monotonic;
mod persist;
pub mod remote;
pub mod report;
pub mod run;
pub mod scenario;
pub mod store;
pub mod vs;
