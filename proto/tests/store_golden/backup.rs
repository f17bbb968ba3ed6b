//! What backups are made of, and how they come into a cluster.

use std::sync::Arc;

use odeum_proto::backup::{
    BlobHead, ClusterPart, End, GroupHead, Header, Import, ImportBegin, ImportStep, KnownFirmware,
    Piece, Restore, RestoreStep, Row, SessionRow, VariableRow,
};
use odeum_proto::session::{Definition, Metadata, Program, Quotas, Value, ValueType};
use odeum_proto::{BackupId, SessionId};

use super::*;

pub(super) fn id() -> BackupId {
    UUID.parse().expect("valid")
}

fn session() -> SessionId {
    "s1".parse().expect("valid")
}

fn kinds() -> BTreeMap<EntityKind, u16> {
    BTreeMap::from([(kind(), 300)])
}

fn quotas() -> Quotas {
    Quotas { sessions: 1, variables_per_session: 2, variable_bytes: 300, group_bytes: 70_000 }
}

fn firmware() -> Vec<KnownFirmware> {
    let limits = FirmwareLimits { memory_bytes: 1 << 24, message_time: Duration::from_millis(500) };
    let spec = FirmwareSpec {
        name: name(),
        digest: Digest::of(b"wasm"),
        size: 4,
        limits,
        policy: policy(),
        replicas: 3,
    };
    vec![KnownFirmware { spec, born: Epoch(300) }]
}

fn rows() -> Vec<Row> {
    let metadata = Metadata::from([("a".into(), "b".into())]);
    vec![
        Row::Session(SessionRow {
            id: session(),
            created: Revision(300),
            created_age: 7,
            changed: Revision(301),
            touched_age: 3,
            ttl: Some(Duration::from_secs(1)),
            metadata: metadata.clone(),
            last_version: 2,
        }),
        Row::Variable(VariableRow {
            session: session(),
            key: "k".into(),
            value: Value::Integer(-1),
            version: 300,
            revision: Revision(300),
            age: 1,
            definition: Some(Box::new(Definition {
                history: 3,
                ..Definition::untyped(ValueType::Integer)
            })),
        }),
        Row::Past {
            session: session(),
            key: "k".into(),
            value: Value::Integer(1),
            version: 299,
            revision: Revision(299),
            age: 2,
        },
        Row::Program {
            session: session(),
            name: "p".into(),
            program: Arc::new(Program {
                language: "lua".into(),
                content: Arc::from(&b"return 1"[..]),
                metadata,
            }),
        },
        Row::Answer {
            session: session(),
            request: "r-1".parse().expect("valid"),
            age: 300,
            action: Digest::of(b"action"),
            outcome: DataOutcome::Applied { revision: Revision(300) },
        },
        Row::Entity { entity: entity(), epoch: Epoch(300), born: Epoch(7), gone: true },
        Row::Reply {
            entity: entity(),
            request: "r-2".parse().expect("valid"),
            reply: Some(vec![9].into()),
        },
    ]
}

pub(super) fn restores() -> Vec<Command> {
    [
        RestoreStep::Begin { above: Epoch(70_000), kinds: kinds() },
        RestoreStep::Finish { firmware: firmware() },
    ]
    .map(|step| Command::Restore(Restore { backup: id(), step }))
    .to_vec()
}

pub(super) fn imports() -> Vec<DataAction> {
    let (time, above) = (LogTime(300), Revision(70_000));
    [
        ImportStep::Begin(ImportBegin {
            time,
            above,
            floor: Epoch(7),
            quotas: quotas(),
            division: 1,
        }),
        ImportStep::Rows { number: 300, rows: rows() },
        ImportStep::Finish { parts: 301 },
    ]
    .map(|step| DataAction::Import(Import { backup: id(), step }))
    .to_vec()
}

pub(super) fn refusals() -> Vec<SessionRefusal> {
    let backup = id();
    vec![
        SessionRefusal::Restoring { backup },
        SessionRefusal::NotEmpty { sessions: 300, entities: 1 },
        SessionRefusal::OtherBackup { claimed: backup },
        SessionRefusal::ImportOrder { backup, expected: 1, got: 300 },
        SessionRefusal::ImportRow { backup, number: 300, row: 2 },
        SessionRefusal::ImportDivision { backup, is: 1, got: 300 },
    ]
}

pub(super) fn pieces() -> Vec<Piece> {
    let group = GroupHead {
        group: GroupId::Data(1),
        revision: Revision(300),
        time: LogTime(70_000),
        floor: Epoch(7),
        quotas: quotas(),
        sessions: 1,
        entities: 2,
    };
    let (digest, owners) = (Digest::of(b"wasm"), vec![BlobOwner::package(&name())]);
    vec![
        Piece::Header(Header {
            backup: id(),
            cluster: cluster(),
            created_ms: 300,
            version: "0.1.0".into(),
            control: Revision(300),
            groups: vec![group],
        }),
        Piece::Rows { group: GroupId::Data(1), rows: rows() },
        Piece::Cluster(ClusterPart {
            last_epoch: Epoch(300),
            kinds: kinds(),
            firmware: firmware(),
        }),
        Piece::Blob(BlobHead { digest, size: 4, owners }),
        Piece::Bytes(b"wasm"[..].into()),
        Piece::End(End { pieces: 5, rows: 7, blobs: 1, digest }),
    ]
}
