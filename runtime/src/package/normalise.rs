//! Makes a module movable: whoever holds a running instance of the result can read all of its state
//! and write it into a fresh one.
//!
//! A pure, static pass that runs once, when a package is built. It only appends exports: for every
//! mutable global, every memory, every table that the code changes, and every function whose
//! reference can be in one of those. For each passive segment that the code may drop it appends a
//! function that traps exactly when the segment is dropped, and one that drops it. The start section
//! becomes an export, because it must run when an instance begins and not when one goes on
//! elsewhere. The bytes of the code and all indices stay as they are, so it costs nothing at run
//! time, and names and debug information stay right.
//!
//! | export | what it is |
//! |---|---|
//! | `odeum.move.start` | what the start section named: to be called once, right after instantiation |
//! | `odeum.move.global.N`, `….memory.N`, `….table.N`, `….func.N` | the item with index N |
//! | `odeum.move.data.N.dropped`, `….elem.N.dropped` | traps if passive segment N was dropped |
//! | `odeum.move.data.N.drop`, `….elem.N.drop` | drops it |
//!
//! What cannot be moved is left as it is, and the [`Obstacle`]s say why: state that the module
//! shares with somebody else, and references to things of the host. A normalised module is normalised
//! already: doing it again changes nothing.

mod append;
mod plan;
mod scan;

use std::fmt;

/// What the names of all appended exports begin with. No other export may.
pub const PREFIX: &str = "odeum.move.";

/// The export that is called once, right after instantiation, when it is there.
pub const START: &str = "odeum.move.start";

/// A module that cannot be read. It is no valid one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NormaliseError {
    /// It does not parse.
    #[error("the module cannot be read at byte {at}: {reason}")]
    Unreadable {
        /// The byte, from 0.
        at: u64,
        /// What the parser said.
        reason: Box<str>,
    },
    /// It would be larger than a section can be.
    #[error("the module has too many items to be made movable")]
    TooLarge,
}

impl From<wasmparser::Error> for NormaliseError {
    fn from(error: wasmparser::Error) -> Self {
        Self::Unreadable { at: error.offset(), reason: error.message().into() }
    }
}

/// Whether a running instance can move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Movability {
    /// It can.
    Movable,
    /// It cannot: each of these stands in the way.
    Fixed(Vec<Obstacle>),
}

/// Why an instance cannot move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It is a component.
    #[error("it is a component, of which only core modules can move yet")]
    Component,
    /// It shares state with whoever gives it that.
    #[error("it imports the {what} `{name}`, which others may change")]
    Imported {
        /// A memory, a table, a mutable global.
        what: &'static str,
        /// As `module.name`.
        name: Box<str>,
    },
    /// It is made for threads.
    #[error("its {what} {index} is shared between threads")]
    Shared {
        /// A memory, a table, a global.
        what: &'static str,
        /// Which one.
        index: u32,
    },
    /// It holds references to something outside of it, or to objects that are not numbered.
    #[error("its {what} {index} holds references of another type than funcref")]
    Reference {
        /// A table, a global.
        what: &'static str,
        /// Which one.
        index: u32,
    },
    /// It exports something under a name of this pass.
    #[error("it exports `{name}`, which is a name of Odeum's own")]
    Name {
        /// The name.
        name: Box<str>,
    },
    /// It was not made movable when its package was built.
    #[error("it was packaged without being made movable: build the package again")]
    NotNormalised,
}

impl fmt::Display for Movability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Fixed(obstacles) = self else { return f.write_str("yes") };
        f.write_str("no: ")?;
        for (i, obstacle) in obstacles.iter().enumerate() {
            write!(f, "{}{obstacle}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// The module made movable; as it is when it cannot be.
///
/// # Errors
/// [`NormaliseError`] when it is no valid module.
pub fn normalise(wasm: &[u8]) -> Result<(Vec<u8>, Movability), NormaliseError> {
    // Behind the magic word: the version and the layer of a core module.
    if wasm.get(4..8).is_some_and(|version| version != [1, 0, 0, 0]) {
        return Ok((wasm.to_vec(), Movability::Fixed(vec![Obstacle::Component])));
    }
    let module = scan::scan(wasm)?;
    let (exports, mut obstacles) = module.exports();
    obstacles.extend(module.obstacles());
    if obstacles.is_empty() {
        Ok((append::append(wasm, &module, &exports)?, Movability::Movable))
    } else {
        Ok((wasm.to_vec(), Movability::Fixed(obstacles)))
    }
}

/// Whether an instance of the module, as it is, can move.
///
/// # Errors
/// [`NormaliseError`] when it is no valid module.
pub fn movability(wasm: &[u8]) -> Result<Movability, NormaliseError> {
    Ok(match normalise(wasm)? {
        (normalised, Movability::Movable) if normalised != wasm => {
            Movability::Fixed(vec![Obstacle::NotNormalised])
        }
        (_, movability) => movability,
    })
}

#[cfg(test)]
mod tests;
