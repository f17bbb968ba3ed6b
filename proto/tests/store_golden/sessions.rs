//! What is said of sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use odeum_proto::session::{
    Change, ClientId, Compare, Constraints, DataAction, DataCommand, DataOutcome, Definition,
    DefinitionFault, Done, Ended, LengthUnit, Metadata, NameFault, Operation, Origin, Part,
    Program, Quota, Quotas, Rule, SessionRefusal, SessionSettings, Setting, Tensor, Test, Value,
    ValueFault, ValueType, Violation, What,
};
use odeum_proto::{Epoch, Incarnation, Revision, SessionId};

use super::{entity, node};

fn session() -> SessionId {
    "s-1".parse().expect("valid")
}

fn key<T: From<&'static str>>() -> T {
    "k".into()
}

fn metadata() -> Metadata {
    BTreeMap::from([("a".into(), "b".into())])
}

fn values() -> Vec<Value> {
    vec![
        Value::Float(1.5),
        Value::Integer(-300),
        Value::string("text"),
        Value::Boolean(true),
        Value::Choice("red".into()),
        Value::Module("m".into()),
        Value::Embedding([0.5, -1.0].into()),
        Value::Tensor(Tensor { shape: vec![1, 2], data: vec![0.5, 300.0] }.into()),
        Value::Json("{}".into()),
        Value::bytes(&[1, 2]),
    ]
}

fn definition() -> Definition {
    Definition {
        kind: ValueType::Integer,
        constraints: Constraints {
            min: Some(Value::Integer(1)),
            max: Some(Value::Integer(300)),
            min_length: Some(1),
            max_length: Some(300),
            pattern: Some("a+".into()),
            allowed: vec![Value::Integer(7)],
            dimensions: Some(3),
            shape: Some(vec![None, Some(300)]),
        },
        history: 4,
        metadata: metadata(),
    }
}

fn operations() -> Vec<Operation> {
    let set = |value| Operation::Set { key: key(), value, expected: Some(3), register: true };
    let program = Program {
        language: "lua".into(),
        content: b"return 1".as_slice().into(),
        metadata: metadata(),
    };
    let mut operations: Vec<_> = values().into_iter().map(set).collect();
    operations.extend([
        Operation::Register {
            key: key(),
            definition: definition().into(),
            initial: Value::Integer(7),
            replace: false,
        },
        Operation::Delete { key: key(), expected: None },
        Operation::Note { key: key(), value: Some("v".into()) },
        Operation::Note { key: key(), value: None },
        Operation::PutProgram { name: key(), program: program.into() },
        Operation::DeleteProgram { name: key() },
    ]);
    operations
}

fn actions() -> Vec<DataAction> {
    let operate = |operation| DataAction::Operate { session: session(), operation };
    let mut actions: Vec<_> = operations().into_iter().map(operate).collect();
    let compare = |test| Compare { key: key(), test };
    let delete = || vec![Operation::Delete { key: key(), expected: None }];
    let ttl = Some(Duration::from_millis(1_500));
    actions.extend([
        DataAction::CreateSession {
            session: session(),
            settings: SessionSettings { ttl, metadata: metadata() },
        },
        DataAction::TouchSession { session: session() },
        DataAction::DeleteSession { session: session() },
        DataAction::SetTtl { session: session(), ttl: None },
        DataAction::Batch { session: session(), atomic: true, operations: delete() },
        DataAction::Transaction {
            session: session(),
            compare: vec![
                compare(Test::Version(300)),
                compare(Test::Exists(true)),
                compare(Test::Is(Value::Boolean(false))),
            ],
            then: delete(),
            otherwise: vec![],
        },
        DataAction::SetQuotas(Quotas {
            sessions: 1,
            variables_per_session: 2,
            variable_bytes: 300,
            group_bytes: 70_000,
        }),
        DataAction::Expire { max: 300 },
        DataAction::Compact { upto: Revision(300) },
        DataAction::Fence { entity: entity(), epoch: Epoch(7), born: Epoch(2) },
        DataAction::Forget { entity: entity(), epoch: Epoch(8) },
    ]);
    actions
}

pub(super) fn commands() -> Vec<DataCommand> {
    let client = ClientId { node: node(), incarnation: Incarnation(3) };
    let known = DataCommand {
        origin: Some(Origin { client, sequence: 300, lowest_outstanding: 7 }),
        request: Some("r-1".parse().expect("valid")),
        action: DataAction::TouchSession { session: session() },
    };
    let mut commands = vec![known];
    commands.extend(actions().into_iter().map(DataCommand::from));
    commands
}

pub(super) fn outcomes() -> Vec<DataOutcome> {
    let revision = Revision(300);
    let done = [
        Done::Registered { version: 1, changed: true },
        Done::Written { version: 300 },
        Done::Removed { existed: false },
        Done::Stored,
    ];
    let mut outcomes: Vec<_> =
        done.into_iter().map(|done| DataOutcome::Operated { revision, done }).collect();
    let refusal = SessionRefusal::UnknownSession { session: session() };
    outcomes.extend([
        DataOutcome::Applied { revision },
        DataOutcome::Created { revision, created: true },
        DataOutcome::Deleted { revision, existed: true },
        DataOutcome::Batch { revision, results: vec![Ok(Done::Stored), Err(refusal)] },
        DataOutcome::Transaction { revision, succeeded: true, results: vec![Done::Stored] },
        DataOutcome::Expired { revision, sessions: 300 },
        DataOutcome::Replayed { reply: None },
    ]);
    outcomes
}

fn violations() -> Vec<Violation> {
    vec![
        Violation::Below { got: Value::Integer(1), min: Value::Integer(2) },
        Violation::Above { got: Value::Integer(2), max: Value::Integer(1) },
        Violation::TooShort { got: 1, unit: LengthUnit::Characters, min: 2 },
        Violation::TooLong { got: 2, unit: LengthUnit::Bytes, max: 1 },
        Violation::NoMatch { got: "x".into(), pattern: "a+".into() },
        Violation::NotAllowed { got: "x".into(), allowed: "a, b".into() },
        Violation::Dimensions { got: 1, dimensions: 2 },
        Violation::Shape { got: vec![1], shape: vec![None, Some(2)] },
    ]
}

fn definition_faults() -> Vec<DefinitionFault> {
    let (rule, kind) = (Rule::Min, ValueType::String);
    vec![
        DefinitionFault::NotFor { rule, kind },
        DefinitionFault::OtherType { rule, kind, got: ValueType::Float },
        DefinitionFault::Value { rule, fault: ValueFault::NotFinite { at: 0 } },
        DefinitionFault::Contradiction {
            low: rule,
            high: Rule::Max,
            min: "2".into(),
            max: "1".into(),
        },
        DefinitionFault::TooMany { rule, got: 2, limit: 1 },
        DefinitionFault::TooLarge { rule, got: 2, limit: 1 },
        DefinitionFault::Pattern { pattern: "(".into(), reason: "x".into() },
        DefinitionFault::History { got: 65, limit: 64 },
    ]
}

fn value_faults() -> Vec<ValueFault> {
    vec![
        ValueFault::NotFinite { at: 300 },
        ValueFault::Shape { shape: vec![2], wanted: 2, got: 1 },
        ValueFault::Axes { got: 17 },
        ValueFault::Json { line: 1, column: 2 },
    ]
}

pub(super) fn refusals() -> Vec<SessionRefusal> {
    let (session, key) = (session(), key::<Box<str>>());
    let request = "r-1".parse().expect("valid");
    let name = |part, fault| SessionRefusal::Name {
        session: session.clone(),
        part,
        name: "x".into(),
        fault,
    };
    let differs = |setting| SessionRefusal::SessionDiffers { session: session.clone(), setting };
    let mut refusals = vec![
        SessionRefusal::UnknownSession { session: session.clone() },
        differs(Setting::Ttl { is: None, claimed: Some(Duration::from_secs(1)) }),
        differs(Setting::Metadata { key: key.clone(), is: None, claimed: Some("v".into()) }),
        SessionRefusal::NoTtl { session: session.clone() },
        SessionRefusal::UnknownVariable { session: session.clone(), key: key.clone() },
        name(Part::Variable, NameFault::Empty),
        name(Part::Program, NameFault::TooLong { got: 300 }),
        name(Part::Metadata, NameFault::Control { character: '\n' }),
        name(Part::Language, NameFault::Empty),
        SessionRefusal::TypeMismatch {
            session: session.clone(),
            key: key.clone(),
            is: ValueType::Bytes,
            got: ValueType::Json,
        },
        SessionRefusal::DefinitionDiffers { session: session.clone(), key: key.clone() },
        SessionRefusal::VersionConflict {
            session: session.clone(),
            key: key.clone(),
            is: 0,
            expected: 300,
        },
        SessionRefusal::Operation {
            index: 300,
            refusal: SessionRefusal::UnknownSession { session: session.clone() }.into(),
        },
        SessionRefusal::RequestReused { session: session.clone(), request },
        SessionRefusal::OldIncarnation {
            node: node(),
            is: Incarnation(3),
            claimed: Incarnation(2),
        },
        SessionRefusal::Acknowledged { node: node(), sequence: 1, lowest: 2 },
        SessionRefusal::CompactsFuture { upto: Revision(2), is: Revision(1) },
    ];
    refusals.extend(value_faults().into_iter().map(|fault| SessionRefusal::Value {
        session: session.clone(),
        key: key.clone(),
        fault,
    }));
    refusals.extend(violations().into_iter().map(|violation| SessionRefusal::Violated {
        session: session.clone(),
        key: key.clone(),
        violation,
    }));
    refusals.extend(definition_faults().into_iter().map(|fault| SessionRefusal::Definition {
        session: session.clone(),
        key: key.clone(),
        fault,
    }));
    refusals.extend([Quota::Sessions, Quota::Clients].map(|quota| SessionRefusal::TooMuch {
        quota,
        what: "s".into(),
        got: 2,
        limit: 1,
    }));
    refusals
}

pub(super) fn changes() -> Vec<Change> {
    let set = |value| What::Set { key: key(), value, version: 300 };
    let mut what: Vec<_> = values().into_iter().map(set).collect();
    what.extend([
        What::Created,
        What::Deleted(Ended::Deleted),
        What::Deleted(Ended::Expired),
        What::Ttl(Some(Duration::from_secs(1))),
        What::Defined { key: key() },
        What::Removed { key: key() },
        What::Noted { key: key(), value: Some("v".into()) },
        What::ProgramPut { name: key() },
        What::ProgramDeleted { name: key() },
    ]);
    let change = |what| Change { revision: Revision(300), index: 1, session: session(), what };
    what.into_iter().map(change).collect()
}
