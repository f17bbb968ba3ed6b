//! A backup as bytes.
//!
//! ```text
//! magic version crc32          16 bytes
//! length crc32 piece           one frame for each piece, the last of which is the end
//! ```
//! The checksum of a frame covers its length, and the end has the digest of all that is before it:
//! a file that was cut, or in which a bit is not what it was, is found out with the offset of the
//! frame that is at fault.
//!
//! Pure: [`Encoder`] makes bytes, and [`Decoder`] takes them from any reader.

use std::collections::BTreeSet;
use std::io::{self, Read};

use bytes::Bytes;
use odeum_proto::backup::{BlobHead, End, Header, Piece};
use odeum_proto::codec::{self, EncodeError};
use odeum_proto::{Digest, GroupId, limits};

const MAGIC: [u8; 8] = *b"ODEUMBAK";

/// Format of backups. 3: firmware names nodes, and others to be apart from.
pub(super) const VERSION: u32 = 3;

/// Magic, version, checksum of both.
const PREAMBLE: usize = 16;

/// Length and checksum in front of a piece.
const FRAME: usize = 8;

/// Largest piece: as the largest frame between nodes, which has to carry the same rows.
const PIECE: usize = limits::FRAME_BYTES;

/// Turns the pieces of a backup into bytes.
#[derive(Debug)]
pub(super) struct Encoder {
    hasher: blake3::Hasher,
    pieces: u64,
    rows: u64,
    blobs: u64,
}

impl Encoder {
    /// With the first bytes of the file.
    pub(super) fn new() -> (Self, Vec<u8>) {
        let mut preamble = Vec::with_capacity(PREAMBLE);
        preamble.extend_from_slice(&MAGIC);
        preamble.extend_from_slice(&VERSION.to_le_bytes());
        preamble.extend_from_slice(&[0; 4]);
        let crc = crc32fast::hash(&preamble[..12]).to_le_bytes();
        preamble[12..].copy_from_slice(&crc);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&preamble);
        (Self { hasher, pieces: 0, rows: 0, blobs: 0 }, preamble)
    }

    /// The next piece.
    ///
    /// # Errors
    /// [`EncodeError`] when it is larger than any piece is.
    pub(super) fn piece(&mut self, piece: &Piece) -> Result<Vec<u8>, EncodeError> {
        let frame = frame(piece)?;
        self.hasher.update(&frame);
        self.pieces += 1;
        match piece {
            Piece::Rows { rows, .. } => self.rows += rows.len() as u64,
            Piece::Blob(_) => self.blobs += 1,
            _ => {}
        }
        Ok(frame)
    }

    /// The end.
    ///
    /// # Errors
    /// As [`piece`](Self::piece).
    pub(super) fn end(&self) -> Result<Vec<u8>, EncodeError> {
        let Self { hasher, pieces, rows, blobs } = self;
        let digest = digest(hasher);
        frame(&Piece::End(End { pieces: *pieces, rows: *rows, blobs: *blobs, digest }))
    }
}

fn frame(piece: &Piece) -> Result<Vec<u8>, EncodeError> {
    let mut frame = vec![0; FRAME];
    codec::encode_into(piece, &mut frame)?;
    let length = u32::try_from(frame.len() - FRAME).ok().filter(|&n| n as usize <= PIECE);
    let length = length.ok_or_else(|| EncodeError {
        what: "piece of a backup",
        reason: format!("longer than {PIECE} bytes").into(),
    })?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&frame[..4], &frame[FRAME..]).to_le_bytes();
    frame[4..FRAME].copy_from_slice(&crc);
    Ok(frame)
}

fn checksum(length: &[u8], piece: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(piece);
    hasher.finalize()
}

fn digest(hasher: &blake3::Hasher) -> Digest {
    // Its text is read back by what printed it.
    hasher.finalize().to_hex().parse().unwrap_or_else(|_| Digest::of(&[]))
}

/// What is wrong with the bytes of a backup.
#[derive(Debug)]
pub(super) enum Fault {
    /// They are none of a backup.
    Foreign,
    /// Another version wrote them.
    Version(u32),
    /// They are not what was written.
    Damaged {
        /// Where the frame at fault begins.
        offset: u64,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// They cannot be read.
    Read(io::Error),
}

/// Reads a backup piece by piece and takes nothing on trust: each piece is what was written and
/// comes where it can come, and behind the end there is nothing.
#[derive(Debug)]
pub(super) struct Decoder<R> {
    from: R,
    offset: u64,
    hasher: blake3::Hasher,
    pieces: u64,
    rows: u64,
    blobs: u64,
    stage: Stage,
    groups: BTreeSet<GroupId>,
}

/// What may come next.
#[derive(Debug)]
enum Stage {
    Header,
    /// Rows or the cluster.
    Rows,
    /// A blob or the end.
    Blobs,
    /// The rest of a blob.
    Bytes {
        blob: BlobHead,
        left: u64,
        hasher: Box<blake3::Hasher>,
    },
    Over,
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes.
    pub(super) fn new(mut from: R) -> Result<Self, Fault> {
        let mut preamble = Vec::new();
        let first = Read::take(&mut from, PREAMBLE as u64).read_to_end(&mut preamble);
        first.map_err(Fault::Read)?;
        if !preamble.starts_with(&MAGIC) {
            return Err(Fault::Foreign);
        }
        let header: &[u8; PREAMBLE] =
            preamble.first_chunk().ok_or_else(|| damaged(0, "the file is too short"))?;
        let [.., v0, v1, v2, v3, _, _, _, _] = *header;
        if crc32fast::hash(&header[..12]).to_le_bytes() != header[12..] {
            return Err(damaged(0, "the checksum of its beginning does not match"));
        }
        let version = u32::from_le_bytes([v0, v1, v2, v3]);
        if version != VERSION {
            return Err(Fault::Version(version));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&preamble);
        Ok(Self {
            from,
            offset: PREAMBLE as u64,
            hasher,
            pieces: 0,
            rows: 0,
            blobs: 0,
            stage: Stage::Header,
            groups: BTreeSet::new(),
        })
    }

    /// How many bytes have been read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; `None` behind the end.
    pub(super) fn next(&mut self) -> Result<Option<Piece>, Fault> {
        let at = self.offset;
        if matches!(self.stage, Stage::Over) {
            return match self.exactly(1)?.len() {
                0 => Ok(None),
                _ => Err(damaged(at, "there is more behind the end")),
            };
        }
        let head = self.exactly(FRAME)?;
        let head: &[u8; FRAME] =
            head.first_chunk().ok_or_else(|| damaged(at, "the file ends too early"))?;
        let [l0, l1, l2, l3, c0, c1, c2, c3] = *head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > PIECE {
            return Err(damaged(at, "a piece that is longer than any is"));
        }
        let bytes = self.exactly(length)?;
        if bytes.len() < length {
            return Err(damaged(at, "the file ends too early"));
        }
        if checksum(&head[..4], &bytes) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(damaged(at, "the checksum does not match"));
        }
        let piece: Piece =
            codec::decode(&bytes).map_err(|error| damaged(at, &error.to_string()))?;
        self.admit(&piece).map_err(|reason| damaged(at, &reason))?;
        self.hasher.update(head).update(&bytes);
        self.offset += (FRAME + length) as u64;
        self.pieces += 1;
        Ok(Some(piece))
    }

    /// At most `length` bytes: fewer where the file ends.
    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::with_capacity(length);
        let read = Read::take(&mut self.from, length as u64).read_to_end(&mut bytes);
        read.map(|_| bytes).map_err(Fault::Read)
    }

    /// Whether `piece` can come here; what may come behind it.
    fn admit(&mut self, piece: &Piece) -> Result<(), String> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        self.stage = match (stage, piece) {
            (Stage::Header, Piece::Header(Header { groups, .. })) => {
                self.groups = groups.iter().map(|head| head.group).collect();
                Stage::Rows
            }
            (Stage::Rows, Piece::Rows { group, rows }) if self.groups.contains(group) => {
                self.rows += rows.len() as u64;
                Stage::Rows
            }
            (Stage::Rows, Piece::Cluster(_)) => Stage::Blobs,
            (Stage::Blobs, Piece::Blob(blob)) => {
                if blob.size > limits::BLOB_BYTES as u64 {
                    return Err(format!("blob {} is larger than any is", blob.digest));
                }
                self.blobs += 1;
                Stage::of(blob.clone(), blob.size, Box::default())?
            }
            (Stage::Bytes { blob, left, mut hasher }, Piece::Bytes(bytes)) => {
                let left = left.checked_sub(bytes.len() as u64).filter(|_| !bytes.is_empty());
                let left = left.ok_or_else(|| format!("blob {} has other bytes", blob.digest))?;
                hasher.update(bytes);
                Stage::of(blob, left, hasher)?
            }
            (Stage::Blobs, Piece::End(end)) => {
                let Self { pieces, rows, blobs, .. } = *self;
                let digest = digest(&self.hasher);
                if *end != (End { pieces, rows, blobs, digest }) {
                    return Err("the end is of another backup".to_owned());
                }
                Stage::Over
            }
            _ => return Err("a piece that cannot come here".to_owned()),
        };
        Ok(())
    }
}

impl Stage {
    /// What may come behind the bytes of `blob`, `left` of which are missing.
    fn of(blob: BlobHead, left: u64, hasher: Box<blake3::Hasher>) -> Result<Self, String> {
        if left > 0 {
            return Ok(Self::Bytes { blob, left, hasher });
        }
        if digest(&hasher) != blob.digest {
            return Err(format!("blob {} has other bytes", blob.digest));
        }
        Ok(Self::Blobs)
    }
}

fn damaged(offset: u64, reason: &str) -> Fault {
    Fault::Damaged { offset, reason: reason.into() }
}

/// The bytes of a blob, piece by piece.
pub(super) fn parts(bytes: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
    let bytes = bytes.clone();
    let step = odeum_proto::backup::PIECE_BYTES;
    (0..bytes.len()).step_by(step).map(move |at| bytes.slice(at..bytes.len().min(at + step)))
}
