//! Pieces of a guest's memory as core ABIs pass them: an address and a length.

use crate::firmware::store::Stop;

/// An address and a length in bytes, both unsigned.
pub(super) type Slice = (i32, i32);

/// The bytes at `at`; `import` names who was given them.
pub(super) fn slice<'a>(
    memory: &'a [u8],
    at: Slice,
    import: &'static str,
) -> Result<&'a [u8], Stop> {
    let (ptr, len) = (at.0.cast_unsigned(), at.1.cast_unsigned());
    let bytes = memory.get(ptr as usize..).and_then(|rest| rest.get(..len as usize));
    bytes.ok_or(Stop::Pointer { import, ptr, len })
}

/// As [`slice`], to be written.
pub(super) fn slice_mut<'a>(
    memory: &'a mut [u8],
    at: Slice,
    import: &'static str,
) -> Result<&'a mut [u8], Stop> {
    let (ptr, len) = (at.0.cast_unsigned(), at.1.cast_unsigned());
    let bytes = memory.get_mut(ptr as usize..).and_then(|rest| rest.get_mut(..len as usize));
    bytes.ok_or(Stop::Pointer { import, ptr, len })
}
