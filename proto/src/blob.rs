//! Content-addressed bytes between nodes, on the bulk class.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{Digest, NodeId};

/// What one node asks another about a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobRequest {
    /// Send it.
    Get(Digest),
    /// Keep it: acknowledged when it is on disk.
    Put {
        /// Its name, checked against the bytes by the receiver.
        digest: Digest,
        /// The bytes.
        bytes: Bytes,
    },
    /// Say whether it is on disk and undamaged, and keep it then.
    Check(Digest),
    /// Fetch it from others and keep it: acknowledged when it is on disk.
    Hold {
        /// Its name.
        digest: Digest,
        /// Who is known to have it; the receiver may ask others too.
        sources: Vec<NodeId>,
    },
}

/// What the other node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobReply {
    /// The bytes asked for.
    Found(Bytes),
    /// It is not there.
    Missing,
    /// It is on disk now.
    Kept,
    /// It could not be kept.
    Failed {
        /// Why: bytes that are not what their digest says, a full disk, nobody who has it.
        reason: Box<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec, limits};

    #[test]
    fn the_largest_blob_travels_in_one_transfer_with_its_envelope() {
        let bytes = Bytes::from(vec![0; 1 << 10]);
        let (digest, length) = (Digest::of(&bytes), bytes.len());
        let put = codec::encode(&BlobRequest::Put { digest, bytes: bytes.clone() });
        let found = codec::encode(&BlobReply::Found(bytes));
        // A length has nine bytes at most, whatever it is.
        for message in [put.expect("encodes"), found.expect("encodes")] {
            assert!(message.len() - length + 9 <= limits::BULK_BYTES - limits::BLOB_BYTES);
        }
    }
}
