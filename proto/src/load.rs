//! How busy a node is, as it tells its peers once a second.
//!
//! A datagram of its own beside those of the failure detector, whose first byte is the length of
//! a name and so never 0: `0, version, NodeLoad`. Lost ones are not repeated; the next is newer.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, EncodeError};

/// First byte of such a datagram.
pub const TAG: u8 = 0;

/// Raised when the fields change. Another version's datagrams are ignored, so that nodes of both
/// can be in one cluster.
pub const VERSION: u8 = 1;

/// How busy a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Entities that are active on it.
    pub entities: u64,
    /// Processor time of its process, in thousandths of one core.
    pub process_cpu: u32,
    /// Processor time of its machine that is in use, in thousandths of all cores.
    pub machine_cpu: u16,
    /// Memory of its process that is resident, in bytes.
    pub memory_bytes: u64,
    /// Memory of its machine, in bytes.
    pub machine_memory_bytes: u64,
}

impl NodeLoad {
    /// As a datagram.
    ///
    /// # Errors
    /// [`EncodeError`] when the type itself cannot be written.
    pub fn to_datagram(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = vec![TAG, VERSION];
        codec::encode_into(self, &mut bytes)?;
        Ok(bytes)
    }

    /// From a datagram; `None` when it is none of ours, or of another version.
    ///
    /// # Errors
    /// [`DecodeError`] when it is malformed.
    pub fn from_datagram(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        match bytes {
            [TAG, VERSION, body @ ..] => codec::decode(body).map(Some),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits;

    /// When this fails, undo the change or raise [`VERSION`].
    #[test]
    fn the_bytes_of_a_load_are_those_of_its_version() {
        let load = NodeLoad {
            entities: 300,
            process_cpu: 1_500,
            machine_cpu: 250,
            memory_bytes: 7,
            machine_memory_bytes: 1 << 33,
        };
        let bytes = load.to_datagram().expect("encodes");
        let expected =
            b"\x00\x01\xfb\x2c\x01\xfb\xdc\x05\xfa\x07\xfd\x00\x00\x00\x00\x02\x00\x00\x00";
        assert_eq!(bytes, expected);
        assert_eq!(NodeLoad::from_datagram(&bytes), Ok(Some(load)));
        assert_eq!(NodeLoad::from_datagram(b"\x00\x02anything"), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_loads_or_not_but_no_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..limits::DATAGRAM_BYTES),
        ) {
            let _ = NodeLoad::from_datagram(&bytes);
        }
    }
}
