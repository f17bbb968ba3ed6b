//! Firmware packages: what a WebAssembly module is shipped as.
//!
//! A package is one file (`container`): the module, what it is and may do (`manifest`), further
//! files, and who vouches for them (`key`). It is made of a module or a folder (`build`), in which
//! the module is made movable (`normalise`). A node takes what its operator trusts (`trust`). A
//! user's packages are in a folder (`store`) and in registries (`registry`).

pub mod build;
mod container;
pub mod key;
pub mod manifest;
pub mod normalise;
pub mod registry;
pub mod source;
pub mod store;
pub mod trust;

pub use container::{ContainerError, EXTENSION, FileEntry, Index, Package};
