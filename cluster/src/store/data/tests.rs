//! Promises of the state machine of a data group.

use std::sync::Arc;
use std::time::Duration;

use odeum_proto::session::{
    Carried, ClientId, Commit, Constraints, DataAction, DataCommand, DataOutcome, Definition, Done,
    Glob, Metadata, Operation, Origin, Program, SessionSettings, Value, ValueType, Write,
};
use odeum_proto::{EntityId, Epoch, Incarnation, LogTime, NodeId, RequestId, Revision, SessionId};

use super::*;

mod commit;
mod histories;
mod history;
mod import;
mod messages;
mod model;
mod once;
mod quota;
mod time;
mod watch;

/// A group and where its log is, for tests that say one thing after another.
#[derive(Debug, Clone, Default)]
struct Group {
    data: Data,
    revision: u64,
    at: u64,
}

impl Group {
    /// A group with a session `s` that lives for ever.
    fn with_session() -> Self {
        let mut group = Self::default();
        let created = group.run(create("s", None));
        assert!(matches!(created, DataOutcome::Created { created: true, .. }));
        group
    }

    fn send(&mut self, command: &DataCommand) -> DataOutcome {
        self.revision += 1;
        self.data.apply(Revision(self.revision), LogTime(self.at), command)
    }

    fn run(&mut self, action: DataAction) -> DataOutcome {
        self.send(&action.into())
    }

    /// One operation in the session `s`.
    fn operate(&mut self, operation: Operation) -> DataOutcome {
        self.run(DataAction::Operate { session: session("s"), operation })
    }

    /// What the refusal of `action` says.
    fn refused(&mut self, action: DataAction) -> String {
        let before = self.data.clone();
        match self.run(action) {
            DataOutcome::Refused(refusal) => {
                assert_eq!(self.data, before, "a refused command changed something");
                refusal.to_string()
            }
            other => panic!("not refused: {other:?}"),
        }
    }

    fn refused_operation(&mut self, operation: Operation) -> String {
        self.refused(DataAction::Operate { session: session("s"), operation })
    }

    fn version(&self, key: &str) -> u64 {
        let session = self.data.session(&session("s")).expect("there");
        session.variables().get(key).map_or(0, Variable::version)
    }
}

fn session(id: &str) -> SessionId {
    id.parse().expect("valid")
}

fn request(id: &str) -> RequestId {
    id.parse().expect("valid")
}

fn entity(id: &str) -> EntityId {
    id.parse().expect("valid")
}

fn origin(node: &str, incarnation: u64, sequence: u64, lowest_outstanding: u64) -> Origin {
    let node: NodeId = node.parse().expect("valid");
    let client = ClientId { node, incarnation: Incarnation(incarnation) };
    Origin { client, sequence, lowest_outstanding }
}

fn create(id: &str, ttl_ms: Option<u64>) -> DataAction {
    let settings =
        SessionSettings { ttl: ttl_ms.map(Duration::from_millis), metadata: Metadata::new() };
    DataAction::CreateSession { session: session(id), settings }
}

fn set(key: &str, value: Value) -> Operation {
    Operation::Set { key: key.into(), value, expected: None, register: true }
}

fn cas(key: &str, value: Value, expected: u64) -> Operation {
    Operation::Set { key: key.into(), value, expected: Some(expected), register: true }
}

fn delete(key: &str) -> Operation {
    Operation::Delete { key: key.into(), expected: None }
}

fn register(key: &str, definition: Definition, initial: Value) -> Operation {
    Operation::Register {
        key: key.into(),
        definition: Box::new(definition),
        initial,
        replace: false,
    }
}

fn constrained(kind: ValueType, constraints: Constraints) -> Definition {
    Definition { constraints, ..Definition::untyped(kind) }
}

fn program(text: &str) -> Arc<Program> {
    let content = text.as_bytes().into();
    Arc::new(Program { language: "lua".into(), content, metadata: Metadata::new() })
}

fn commit(epoch: u64, id: &str, writes: Vec<Write>) -> Commit {
    Commit {
        entity: entity("firmware/f"),
        epoch: Epoch(epoch),
        request: request(id),
        session: session("f/s"),
        writes,
        reply: vec![7],
        carried: vec![],
    }
}

fn write(key: &str, value: &[u8]) -> Write {
    Write::Set { key: key.into(), value: value.into() }
}

fn erase(key: &str) -> Write {
    Write::Delete { key: key.into() }
}

/// What is derived must be what would be derived anew.
fn check_index(data: &Data) {
    let anew = Data::from(data.snapshot());
    assert_eq!(anew.state, data.state, "running totals of sessions");
    assert_eq!(anew.index.bytes, data.index.bytes, "counted bytes");
    assert_eq!(anew.index.due, data.index.due, "what is due");
    assert_eq!(anew.index.long_windows, data.index.long_windows, "long windows");
    assert!(data.index.ring.same(&anew.index.ring, &data.state.ring), "index of the ring");
}
