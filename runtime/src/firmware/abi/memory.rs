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

/// What a guest gave when it was asked for room is none.
#[derive(Debug, thiserror::Error)]
#[error("`{export}` was asked for {len} bytes and gave {ptr}, which is not such a place")]
pub(super) struct BadAlloc {
    export: &'static str,
    len: i32,
    ptr: i32,
}

/// The room that `export` gave, to be written. Address 0 is none: so languages say that there is none.
pub(super) fn room<'a>(
    memory: &'a mut [u8],
    (ptr, len): Slice,
    export: &'static str,
) -> Result<&'a mut [u8], BadAlloc> {
    let rest = memory.get_mut(ptr.cast_unsigned() as usize..).filter(|_| ptr != 0);
    let bytes = rest.and_then(|rest| rest.get_mut(..len.cast_unsigned() as usize));
    bytes.ok_or(BadAlloc { export, len, ptr })
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
