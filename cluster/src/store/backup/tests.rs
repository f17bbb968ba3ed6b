//! Promises of the format.

use std::io::Cursor;
use std::sync::Arc;

use odeum_proto::backup::{End, GroupHead, Row, SessionRow, VariableRow};
use odeum_proto::session::{DataOutcome, Definition, Metadata, Program, Quotas, Value};
use odeum_proto::{ClusterId, Epoch, LogTime, Revision, SessionId};
use proptest::collection::vec;
use proptest::prelude::*;

use super::format::{Decoder, Encoder, Fault, parts};
use super::*;

fn session(n: u8) -> SessionId {
    format!("s{n}").parse().expect("valid")
}

fn row() -> impl Strategy<Value = Row> {
    let key = |n: u8| -> Box<str> { format!("k{n}").into() };
    let value = prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        ".{0,40}".prop_map(|text| Value::string(&text)),
        vec(any::<u8>(), 0..200).prop_map(|bytes| Value::bytes(&bytes)),
        vec(-9.0_f32..9.0, 0..20).prop_map(|numbers| Value::Embedding(numbers.into())),
    ];
    prop_oneof![
        (0..9_u8, any::<u64>(), any::<Option<u32>>(), any::<u64>()).prop_map(
            move |(n, age, ttl, at)| {
                Row::Session(SessionRow {
                    id: session(n),
                    created: Revision(at),
                    created_age: age,
                    changed: Revision(at),
                    touched_age: age,
                    ttl: ttl.map(|ms| Duration::from_millis(ms.into())),
                    metadata: Metadata::from([(key(n), key(n))]),
                    last_version: at,
                })
            }
        ),
        (0..9_u8, 0..9_u8, value, any::<u64>(), any::<bool>()).prop_map(
            move |(n, k, value, version, defined)| {
                let definition = Definition { history: 3, ..Definition::untyped(value.kind()) };
                Row::Variable(VariableRow {
                    session: session(n),
                    key: key(k).into(),
                    value,
                    version,
                    revision: Revision(version),
                    age: version,
                    definition: defined.then(|| Box::new(definition)),
                })
            }
        ),
        (0..9_u8, vec(any::<u8>(), 0..200)).prop_map(move |(n, code)| Row::Program {
            session: session(n),
            name: key(n),
            program: Arc::new(Program {
                language: "lua".into(),
                content: code.into(),
                metadata: Metadata::new(),
            }),
        }),
        (0..9_u8, any::<u64>()).prop_map(|(n, at)| Row::Answer {
            session: session(n),
            request: format!("r{at}").parse().expect("valid"),
            age: at,
            action: Digest::of(&[n]),
            outcome: DataOutcome::Applied { revision: Revision(at) },
        }),
        (0..9_u8, any::<u64>(), any::<bool>()).prop_map(|(n, epoch, gone)| Row::Entity {
            entity: format!("lamp/{n}").parse().expect("valid"),
            epoch: Epoch(epoch),
            born: Epoch(epoch / 2),
            gone,
        }),
        (0..9_u8, proptest::option::of(vec(any::<u8>(), 0..50))).prop_map(|(n, reply)| {
            Row::Reply {
                entity: format!("lamp/{n}").parse().expect("valid"),
                request: format!("r{n}").parse().expect("valid"),
                reply: reply.map(Into::into),
            }
        }),
    ]
}

fn header() -> Header {
    let head = GroupHead {
        group: GroupId::Data(0),
        revision: Revision(300),
        time: LogTime(70_000),
        floor: Epoch(7),
        quotas: Quotas::HIGHEST,
        sessions: 1,
        entities: 2,
    };
    Header {
        backup: BackupId::random(),
        cluster: ClusterId::random(),
        created_ms: 300,
        version: "0.1.0".into(),
        control: Revision(9),
        groups: vec![head],
    }
}

/// The pieces of a backup with these rows and blobs, but for its end.
fn pieces(rows: Vec<Vec<Row>>, blobs: &[Vec<u8>]) -> Vec<Piece> {
    let mut pieces = vec![Piece::Header(header())];
    let group = GroupId::Data(0);
    pieces.extend(rows.into_iter().map(|rows| Piece::Rows { group, rows }));
    pieces.push(Piece::Cluster(ClusterPart::default()));
    for bytes in blobs {
        let bytes = Bytes::from(bytes.clone());
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        pieces.push(Piece::Blob(BlobHead { digest, size, owners: vec![] }));
        pieces.extend(parts(&bytes).map(Piece::Bytes));
    }
    pieces
}

fn written(pieces: &[Piece]) -> Vec<u8> {
    let (mut encoder, mut bytes) = Encoder::new();
    for piece in pieces {
        bytes.extend(encoder.piece(piece).expect("encodes"));
    }
    bytes.extend(encoder.end().expect("encodes"));
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<Piece>, Fault> {
    let mut decoder = Decoder::new(Cursor::new(bytes))?;
    let mut pieces = Vec::new();
    while let Some(piece) = decoder.next()? {
        pieces.push(piece);
    }
    Ok(pieces)
}

fn small() -> Vec<u8> {
    let rows = vec![Row::Entity {
        entity: "lamp/1".parse().expect("valid"),
        epoch: Epoch(3),
        born: Epoch(2),
        gone: false,
    }];
    written(&pieces(vec![rows], &[b"a package".to_vec(), vec![]]))
}

#[test]
fn a_backup_that_is_cut_anywhere_is_refused_with_the_offset() {
    let bytes = small();
    read(&bytes).expect("it is whole");
    for cut in 0..bytes.len() {
        match read(&bytes[..cut]).expect_err("cut") {
            Fault::Damaged { offset, .. } => assert!(offset <= cut as u64, "{offset} for {cut}"),
            Fault::Foreign => assert!(cut < 8, "cut at {cut}"),
            other => panic!("{other:?} when cut at {cut}"),
        }
    }
    let more = [&bytes[..], &[0]].concat();
    assert!(matches!(read(&more), Err(Fault::Damaged { .. })), "more behind the end");
}

#[test]
fn a_backup_with_any_other_byte_is_refused_with_the_offset() {
    let bytes = small();
    for at in 0..bytes.len() {
        for bit in [0, 3, 7] {
            let mut other = bytes.clone();
            other[at] ^= 1 << bit;
            match read(&other).expect_err("another byte") {
                Fault::Damaged { offset, .. } => assert!(offset <= at as u64, "{offset} for {at}"),
                Fault::Foreign => assert!(at < 8, "byte {at}"),
                other => panic!("{other:?} for byte {at}"),
            }
        }
    }
}

#[test]
fn a_piece_that_is_left_out_doubled_or_moved_is_found_out() {
    let whole = pieces(vec![vec![], vec![]], &[b"one".to_vec(), b"two".to_vec()]);
    read(&written(&whole)).expect("it is whole");
    for at in 0..whole.len() {
        let mut fewer = whole.clone();
        let gone = fewer.remove(at);
        // A group may have no rows at all, and a cluster no blobs: what is missing is the order.
        if !matches!(gone, Piece::Rows { .. }) {
            assert!(read(&written(&fewer)).is_err(), "without piece {at}");
        }
        // With frames as they were written, nothing can be left out.
        let (mut encoder, mut bytes) = Encoder::new();
        for (number, piece) in whole.iter().enumerate() {
            let frame = encoder.piece(piece).expect("encodes");
            if number != at {
                bytes.extend(frame);
            }
        }
        bytes.extend(encoder.end().expect("encodes"));
        assert!(read(&bytes).is_err(), "without frame {at}");
    }
}

#[test]
fn another_version_and_another_file_are_told_apart_from_damage() {
    let mut newer = small();
    newer[8] = 9;
    let crc = crc32fast::hash(&newer[..12]).to_le_bytes();
    newer[12..16].copy_from_slice(&crc);
    assert!(matches!(read(&newer), Err(Fault::Version(9))));
    assert!(matches!(read(b"#!/bin/sh\nexit 0\n"), Err(Fault::Foreign)));
}

#[test]
fn a_blob_with_other_bytes_than_its_digest_says_is_refused() {
    let digest = Digest::of(b"right");
    let head = Piece::Blob(BlobHead { digest, size: 5, owners: vec![] });
    let mut pieces = pieces(vec![], &[]);
    pieces.extend([head, Piece::Bytes(b"wrong"[..].into())]);
    assert!(matches!(read(&written(&pieces)), Err(Fault::Damaged { .. })));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_nothing_else(
        rows in vec(vec(row(), 0..6), 0..6), blobs in vec(vec(any::<u8>(), 0..300), 0..3),
    ) {
        let pieces = pieces(rows, &blobs);
        let mut read = read(&written(&pieces)).expect("it is whole");
        let is_end = matches!(read.pop(), Some(Piece::End(End { .. })));
        prop_assert!(is_end);
        prop_assert_eq!(read, pieces);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let begun = [&small()[..16], &bytes[..]].concat();
        let _ = read(&begun);
    }
}
