//! Scenarios with a budget, one module for each.

pub mod entities;
pub mod faults;
pub mod generator;
pub mod migration;
pub mod store;
