//! From what a client writes to what the store does.
//!
//! A client need not name the type of a value. Then it is of the type that its variable has, so
//! that `7` is a fine value of a float; of a variable that is not there yet, the type is what the
//! JSON looks like.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::Arc,
};

use odeum_cluster::store::Consistency;
use odeum_proto::{
    SessionId,
    session::{
        Compare, Constraints, Definition, Key, Operation, Program, Test, TextError, Value,
        ValueType,
    },
};
use serde_json::Value as Json;

use super::request::bad;
use crate::api::{
    node::ApiNode,
    problem::Problem,
    types::{CompareBody, DefinitionBody, OperationBody},
};

/// The types of variables that are there.
#[derive(Debug, Clone, Default)]
pub(super) struct Kinds(BTreeMap<Key, ValueType>);

impl Kinds {
    /// Those of `keys` in `session`. A type never changes while its variable is there, so what
    /// this node has will do; only what it does not have is asked of the leader.
    pub(super) async fn look<'a>(
        node: &Arc<dyn ApiNode>,
        session: &SessionId,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Problem> {
        let keys: BTreeSet<&str> = keys.into_iter().collect();
        let mut kinds = Self::default();
        if keys.is_empty() {
            return Ok(kinds);
        }
        for consistency in [Consistency::Local, Consistency::Linearizable] {
            let sight = node.session(session.clone(), consistency).await?;
            let there = sight.session.iter().flat_map(|session| session.variables());
            let wanted = there.filter(|(key, _)| keys.contains(&***key));
            kinds.0 = wanted.map(|(key, variable)| (key.clone(), variable.kind())).collect();
            if kinds.0.len() == keys.len() {
                break;
            }
        }
        Ok(kinds)
    }

    /// The value that `json` stands for, of type `kind` if that is said.
    pub(super) fn value(
        &self,
        session: &SessionId,
        key: &str,
        kind: Option<ValueType>,
        json: &Json,
    ) -> Result<Value, Problem> {
        let looks_like = Value::kind_of_json(json);
        let of = |kind| Value::from_json(kind, json);
        let value = match (kind, self.0.get(key)) {
            (Some(kind), _) => of(kind),
            (None, Some(kind)) => match of(*kind) {
                // Of another type: the store says so, and names both.
                Err(TextError::Form { .. }) if looks_like != *kind => of(looks_like),
                other => other,
            },
            (None, None) => of(looks_like),
        };
        value.map_err(|error| bad_value(session, key, error))
    }

    /// The operations that `bodies` stand for.
    pub(super) fn operations(
        &mut self,
        session: &SessionId,
        bodies: Vec<OperationBody>,
    ) -> Result<Vec<Operation>, Problem> {
        bodies.into_iter().map(|body| self.operation(session, body)).collect()
    }

    fn operation(
        &mut self,
        session: &SessionId,
        body: OperationBody,
    ) -> Result<Operation, Problem> {
        Ok(match body {
            OperationBody::Set { key, value, kind, expected, register } => {
                let value = self.value(session, &key, kind, &value)?;
                Operation::Set { key: key.into(), value, expected, register }
            }
            OperationBody::Register {
                key,
                kind,
                value,
                constraints,
                history,
                metadata,
                replace,
            } => {
                // What comes behind it finds the variable with this type.
                self.0.insert((*key).into(), kind);
                let definition =
                    DefinitionBody { kind, value, constraints, history, metadata, replace };
                register(session, key, definition)?
            }
            OperationBody::Delete { key, expected } => {
                Operation::Delete { key: key.into(), expected }
            }
            OperationBody::SetMetadata { key, value } => {
                Operation::Note { key, value: Some(value) }
            }
            OperationBody::DeleteMetadata { key } => Operation::Note { key, value: None },
            OperationBody::PutProgram { name, language, content, metadata } => {
                let content = content.bytes().ok_or_else(|| {
                    bad(format_args!("program {name:?} of session {session}: it is no Base64"))
                })?;
                let program = Program { language, content: content.into(), metadata };
                Operation::PutProgram { name, program: program.into() }
            }
            OperationBody::DeleteProgram { name } => Operation::DeleteProgram { name },
        })
    }

    /// The comparisons that `bodies` stand for.
    pub(super) fn comparisons(
        &self,
        session: &SessionId,
        bodies: Vec<CompareBody>,
    ) -> Result<Vec<Compare>, Problem> {
        let one = |CompareBody { key, version, exists, value, kind }: CompareBody| {
            let test = match (version, exists, value) {
                (Some(version), None, None) => Test::Version(version),
                (None, Some(exists), None) => Test::Exists(exists),
                (None, None, Some(value)) => Test::Is(self.value(session, &key, kind, &value)?),
                _ => {
                    return Err(bad(format_args!(
                        "the comparison of {key:?} needs one of `version`, `exists`, `value`"
                    )));
                }
            };
            Ok(Compare { key: key.into(), test })
        };
        bodies.into_iter().map(one).collect()
    }
}

/// The variables that are written without saying their type.
pub(super) fn untyped(bodies: &[OperationBody]) -> impl Iterator<Item = &str> {
    bodies.iter().filter_map(|body| match body {
        OperationBody::Set { key, kind: None, .. } => Some(&**key),
        _ => None,
    })
}

/// The variables that are compared with a value without saying its type.
pub(super) fn untyped_comparisons(bodies: &[CompareBody]) -> impl Iterator<Item = &str> {
    let untyped = |body: &&CompareBody| body.kind.is_none() && body.value.is_some();
    bodies.iter().filter(untyped).map(|body| &*body.key)
}

/// The registration that `body` stands for.
pub(super) fn register(
    session: &SessionId,
    key: Box<str>,
    body: DefinitionBody,
) -> Result<Operation, Problem> {
    let DefinitionBody { kind, value, constraints, history, metadata, replace } = body;
    let constraints = constraints.map(|json| Constraints::from_json(kind, &json)).transpose();
    let constraints = constraints.map_err(|error| bad_value(session, &key, error))?;
    let constraints = constraints.unwrap_or_default();
    let definition = Box::new(Definition { kind, constraints, history, metadata });
    let initial =
        Value::from_json(kind, &value).map_err(|error| bad_value(session, &key, error))?;
    Ok(Operation::Register { key: key.into(), definition, initial, replace })
}

fn bad_value(session: &SessionId, key: &str, error: impl Display) -> Problem {
    Problem::BadValue { reason: format!("{key} of session {session}: {error}").into() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn session() -> SessionId {
        "s".parse().expect("an id")
    }

    fn kinds() -> Kinds {
        Kinds([("ratio".into(), ValueType::Float), ("grid".into(), ValueType::Tensor)].into())
    }

    #[test]
    fn a_value_without_a_type_is_of_its_variable_s_type_if_it_can_be() {
        let value = |key: &str, json| kinds().value(&session(), key, None, &json);
        assert_eq!(value("ratio", json!(7)), Ok(Value::Float(7.0)));
        assert_eq!(value("ratio", json!("x")), Ok(Value::string("x")), "refused by the store");
        assert_eq!(value("new", json!(7)), Ok(Value::Integer(7)));
        let problem = value("grid", json!({"shape": [2], "data": [1]})).expect_err("one element");
        assert!(problem.to_string().contains("grid of session s"), "{problem}");
        assert!(problem.to_string().contains("2 elements, not 1"), "{problem}");
    }

    #[test]
    fn what_a_batch_registers_gives_its_type_to_what_comes_behind() {
        let bodies = json!([
            {"register": {"key": "x", "type": "float", "value": 1}},
            {"set": {"key": "x", "value": 2}},
        ]);
        let bodies: Vec<OperationBody> = serde_json::from_value(bodies).expect("operations");
        assert_eq!(untyped(&bodies).collect::<Vec<_>>(), ["x"]);
        let operations = Kinds::default().operations(&session(), bodies).expect("valid");
        assert!(
            matches!(&operations[1], Operation::Set { value: Value::Float(x), .. } if *x == 2.0),
            "{operations:?}"
        );
    }

    #[test]
    fn a_comparison_says_exactly_one_thing() {
        let compare = |json| {
            let bodies = vec![serde_json::from_value(json).expect("a comparison")];
            kinds().comparisons(&session(), bodies)
        };
        let is = compare(json!({"key": "n", "value": null})).expect("a comparison with null");
        assert_eq!(is[0].test, Test::Is(Value::Json("null".into())));
        for bad in [json!({"key": "n"}), json!({"key": "n", "version": 1, "exists": true})] {
            assert!(compare(bad).is_err());
        }
    }
}
