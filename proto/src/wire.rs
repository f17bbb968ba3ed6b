//! The version of the wire and of the disk, and the messages of the transport itself.
//!
//! Nodes of one [`MAJOR`] understand each other; a peer with another is refused with an error
//! that names both. A minor step only adds what older nodes may ignore.

/// The wire version: raised when bytes change their meaning.
pub const MAJOR: u16 = 1;

/// The step within the wire version: raised when something is added.
pub const MINOR: u16 = 0;
