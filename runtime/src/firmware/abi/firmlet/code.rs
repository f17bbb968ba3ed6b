//! The codes that a firmlet's imports return. What is negative is an error.

/// Done.
pub(super) const OK: i32 = 0;
/// The host failed, or was given what is not in the guest's memory.
pub(super) const HOST: i32 = -2;
/// There is no room for more.
pub(super) const OUT_OF_MEMORY: i32 = -3;
/// Reading or writing failed.
pub(super) const IO: i32 = -4;
/// There is no such thing on this node.
pub(super) const NOT_SUPPORTED: i32 = -10;
/// An argument cannot be meant.
pub(super) const INVALID_ARGUMENT: i32 = -20;
/// A number is outside of what it may be.
pub(super) const OUT_OF_RANGE: i32 = -21;
/// A text is no UTF-8.
pub(super) const INVALID_FORMAT: i32 = -22;
/// There is no such file.
pub(super) const NOT_FOUND: i32 = -31;
/// It is there, and not for this guest.
pub(super) const NO_ACCESS: i32 = -32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_their_document() {
        let document = include_str!("../../../../wit/firmlet.md");
        for code in [
            OK,
            HOST,
            OUT_OF_MEMORY,
            IO,
            NOT_SUPPORTED,
            INVALID_ARGUMENT,
            OUT_OF_RANGE,
            INVALID_FORMAT,
            NOT_FOUND,
            NO_ACCESS,
        ] {
            // It is written with a real minus sign.
            let row = format!("| {} |", code.to_string().replace('-', "−"));
            assert!(document.contains(&row), "{row}");
        }
    }
}
