//! One record as bytes in a segment, and how to tell a torn tail from damage.
//!
//! A frame is `magic, length, synced, crc32, payload`; the checksum covers all but the magic.
//! `synced` is how much of this segment was known to be on the disk when the frame was written.
//!
//! **The rule.** What the disk had before an fsync returned must be there; what was written after
//! the last fsync may be there in part and in any order, and nobody was told that it is. So bytes
//! that are no frame are *damage* when a later frame proves that they had been synced, or when a
//! later segment exists (a segment is synced before its successor is made). Otherwise they are a
//! *torn tail*, and the log ends before them.
//!
//! Not covered: damage in the very last synced bytes with no frame behind them looks like a torn
//! tail. The commit index that follows almost every append keeps that window small.

use odeum_proto::codec::{self, EncodeError};
use odeum_proto::log::Record;

/// Starts every frame, so that a scan behind damage tries a checksum only where one may begin.
const MAGIC: [u8; 4] = *b"Odw1";

/// Bytes in front of the payload.
pub(super) const HEADER: usize = 20;

/// Bytes in a segment that were on the disk and are no longer what they were.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where, from the start of the file.
    pub(super) offset: u64,
    /// What is wrong there.
    pub(super) reason: Box<str>,
}

/// The records of a segment and where they end.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Each record with the offset of its frame.
    pub(super) records: Vec<(u64, Record)>,
    /// The offset behind the last good frame.
    pub(super) end: u64,
    /// What stood behind `end`, if anything did.
    pub(super) torn: Option<&'static str>,
}

/// Appends `record` as a frame to `bytes`.
pub(super) fn append(bytes: &mut Vec<u8>, synced: u64, record: &Record) -> Result<(), EncodeError> {
    let start = bytes.len();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&synced.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    if let Err(error) = codec::encode_into(record, bytes) {
        bytes.truncate(start);
        return Err(error);
    }
    let payload = bytes.len() - start - HEADER;
    let length = u32::try_from(payload).map_err(|_| {
        bytes.truncate(start);
        EncodeError { what: "log record", reason: "longer than 4 GiB".into() }
    })?;
    bytes[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&bytes[start..]);
    bytes[start + 16..start + 20].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Reads all frames of a segment from `start` on. `newest` says that no later segment exists.
pub(super) fn scan(bytes: &[u8], start: usize, newest: bool) -> Result<Scanned, Damage> {
    let mut scanned = Scanned { records: Vec::new(), end: start as u64, torn: None };
    let mut at = start;
    while at < bytes.len() {
        match frame(&bytes[at..]) {
            Ok(frame) => {
                let record = codec::decode(frame.payload).map_err(|error| Damage {
                    offset: at as u64,
                    reason: error.to_string().into(),
                })?;
                scanned.records.push((at as u64, record));
                at += HEADER + frame.payload.len();
                scanned.end = at as u64;
            }
            // Room for what would have come next.
            Err(_) if newest && bytes[at..].iter().all(|byte| *byte == 0) => return Ok(scanned),
            Err(reason) => {
                let was_synced = !newest || proves_synced(&bytes[at..], at as u64);
                if was_synced {
                    return Err(Damage { offset: at as u64, reason: reason.into() });
                }
                scanned.torn = Some(reason);
                return Ok(scanned);
            }
        }
    }
    Ok(scanned)
}

/// Whether a frame somewhere in `bytes` says that more than the first `offset` bytes of the
/// segment had been synced when it was written.
pub(super) fn proves_synced(bytes: &[u8], offset: u64) -> bool {
    (0..bytes.len()).any(|at| {
        bytes[at..].starts_with(&MAGIC)
            && frame(&bytes[at..]).is_ok_and(|frame| frame.synced > offset)
    })
}

struct Frame<'a> {
    synced: u64,
    payload: &'a [u8],
}

fn frame(bytes: &[u8]) -> Result<Frame<'_>, &'static str> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or("an incomplete header")?;
    let [m0, m1, m2, m3, l0, l1, l2, l3, s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err("no record starts here");
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let payload = bytes[HEADER..].get(..length).ok_or("a record that is longer than its file")?;
    if checksum(&bytes[..HEADER + length]) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err("the checksum does not match");
    }
    Ok(Frame { synced: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]), payload })
}

/// Of length, synced mark and payload.
fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[4..16]);
    hasher.update(&frame[HEADER..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use odeum_proto::GroupId;
    use odeum_proto::log::Change;
    use proptest::prelude::*;

    use super::*;

    fn record(from: u64) -> Record {
        Record { group: GroupId::Control, change: Change::Truncate { from } }
    }

    /// Frames of `records`, each claiming that all before it was synced.
    fn segment(records: usize, synced: bool) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for n in 0..records {
            starts.push(bytes.len());
            let mark = if synced { bytes.len() as u64 } else { 0 };
            append(&mut bytes, mark, &record(n as u64)).expect("encodes");
        }
        (bytes, starts)
    }

    #[test]
    fn a_cut_at_any_byte_leaves_the_records_before_it() {
        let (bytes, starts) = segment(4, true);
        for cut in 0..bytes.len() {
            let whole = starts.iter().skip(1).filter(|&&start| start <= cut).count();
            let scanned = scan(&bytes[..cut], 0, true).expect("a torn tail is no damage");
            assert_eq!(scanned.records.len(), whole, "cut at {cut}");
            assert_eq!(scanned.torn.is_some(), scanned.end as usize != cut);
        }
    }

    #[test]
    fn zeros_behind_the_last_record_are_room_in_the_newest_segment_only() {
        let (mut bytes, _) = segment(3, true);
        let end = bytes.len();
        bytes.resize(end + 4_096, 0);
        let scanned = scan(&bytes, 0, true).expect("no damage");
        assert_eq!((scanned.records.len(), scanned.end as usize, scanned.torn), (3, end, None));
        assert!(scan(&bytes, 0, false).is_err());
    }

    #[test]
    fn in_an_older_segment_every_damage_is_damage() {
        let (bytes, _) = segment(2, true);
        assert!(scan(&bytes[..bytes.len() - 1], 0, false).is_err());
        assert!(scan(&bytes, 0, false).is_ok());
    }

    #[test]
    fn unsynced_records_that_reached_the_disk_out_of_order_are_a_torn_tail() {
        let (mut bytes, starts) = segment(4, false);
        bytes[starts[1] + HEADER] ^= 1;
        let scanned = scan(&bytes, 0, true).expect("nothing had been synced");
        assert_eq!(scanned.records.len(), 1);
        assert_eq!(scanned.end as usize, starts[1]);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_before_a_synced_record_is_named_with_its_offset(
            at in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let (mut bytes, starts) = segment(5, true);
            let at = at.index(starts[4]);
            bytes[at] ^= 1 << bit;
            let damaged = starts.iter().rposition(|&start| start <= at).expect("starts at 0");
            let damage = scan(&bytes, 0, true).expect_err("it had been synced");
            prop_assert_eq!(damage.offset as usize, starts[damaged]);
        }

        #[test]
        fn any_bytes_are_scanned_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = scan(&bytes, 0, true);
            let mut framed = MAGIC.to_vec();
            framed.extend(bytes);
            let _ = scan(&framed, 0, false);
        }
    }
}
