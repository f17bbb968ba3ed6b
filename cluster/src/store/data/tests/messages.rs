//! What a refusal says: the session, the variable, the constraint, and both values.

use odeum_proto::session::Tensor;

use super::*;

fn rule(change: impl FnOnce(&mut Constraints)) -> Constraints {
    let mut constraints = Constraints::default();
    change(&mut constraints);
    constraints
}

/// Registers `x` and says what the refusal of a second value is.
fn written(kind: ValueType, constraints: Constraints, good: Value, bad: Value) -> String {
    let mut group = Group::with_session();
    let outcome = group.operate(register("x", constrained(kind, constraints), good));
    assert!(matches!(outcome, DataOutcome::Operated { .. }), "{outcome:?}");
    group.refused_operation(set("x", bad))
}

fn registered(kind: ValueType, constraints: Constraints, initial: Value) -> String {
    Group::with_session().refused_operation(register("x", constrained(kind, constraints), initial))
}

fn tensor(shape: &[u64]) -> Value {
    let data = vec![0.5; shape.iter().product::<u64>() as usize];
    Value::Tensor(Arc::new(Tensor { shape: shape.to_vec(), data }))
}

fn choice(text: &str) -> Value {
    Value::Choice(text.into())
}

#[test]
fn a_value_that_is_not_allowed_is_named_with_what_is() {
    let float = Value::Float;
    let max = rule(|c| c.max = Some(float(10.0)));
    assert_eq!(
        written(ValueType::Float, max, float(1.0), float(12.5)),
        "x of session s: 12.5 is above max 10"
    );
    let min = rule(|c| c.min = Some(Value::Integer(-3)));
    assert_eq!(
        written(ValueType::Integer, min, Value::Integer(-3), Value::Integer(-4)),
        "x of session s: -4 is below min -3"
    );
    let text = Value::string;
    let short = rule(|c| c.min_length = Some(3));
    assert_eq!(
        written(ValueType::String, short, text("äöü"), text("ää")),
        "x of session s: 2 characters are below min_length 3"
    );
    let long = rule(|c| c.max_length = Some(1));
    assert_eq!(
        written(ValueType::Bytes, long, Value::bytes(b"1"), Value::bytes(b"12")),
        "x of session s: 2 bytes are above max_length 1"
    );
    let pattern = rule(|c| c.pattern = Some("^[a-z]+$".into()));
    assert_eq!(
        written(ValueType::String, pattern, text("abc"), text("a1")),
        "x of session s: \"a1\" does not match pattern ^[a-z]+$"
    );
    let allowed = rule(|c| c.allowed = vec![choice("red"), choice("green")]);
    assert_eq!(
        written(ValueType::Choice, allowed, choice("red"), choice("blue")),
        "x of session s: \"blue\" is not in enum [\"red\", \"green\"]"
    );
    let embedding = |n: usize| Value::Embedding(vec![0.5; n].into());
    let dimensions = rule(|c| c.dimensions = Some(4));
    assert_eq!(
        written(ValueType::Embedding, dimensions, embedding(4), embedding(3)),
        "x of session s: 3 dimensions where dimensions is 4"
    );
    let shape = rule(|c| c.shape = Some(vec![None, Some(2)]));
    assert_eq!(
        written(ValueType::Tensor, shape, tensor(&[7, 2]), tensor(&[2, 3])),
        "x of session s: shape [2, 3] does not fit shape [*, 2]"
    );
}

#[test]
fn a_value_of_another_type_is_named_with_both_types() {
    assert_eq!(
        written(ValueType::Float, Constraints::default(), Value::Float(1.0), Value::string("1")),
        "x of session s is a float; a string cannot be its value"
    );
}

#[test]
fn a_value_that_is_none_is_named_with_what_is_wrong() {
    let refused = |value: Value| Group::with_session().refused_operation(set("x", value));
    assert_eq!(
        refused(Value::Float(f64::NAN)),
        "x of session s: numbers must be finite; element 0 is not"
    );
    assert_eq!(
        refused(Value::Embedding([0.0, f32::INFINITY].into())),
        "x of session s: numbers must be finite; element 1 is not"
    );
    let tensor = Tensor { shape: vec![2, 2], data: vec![1.0; 3] };
    assert_eq!(
        refused(Value::Tensor(Arc::new(tensor))),
        "x of session s: a tensor of shape [2, 2] has 4 elements, not 3"
    );
    assert_eq!(
        refused(Value::Json("{\"a\": 1,\n 2}".into())),
        "x of session s: not JSON: the text is at fault in line 2, column 2"
    );
}

#[test]
fn a_definition_that_makes_no_sense_is_named_with_its_constraint_and_type() {
    let text = Value::string;
    assert_eq!(
        registered(ValueType::String, rule(|c| c.min = Some(Value::Integer(1))), text("a")),
        "x of session s cannot be registered: min cannot constrain a string: it is for integer, \
         float"
    );
    assert_eq!(
        registered(ValueType::Float, rule(|c| c.min = Some(Value::Integer(1))), Value::Float(1.0)),
        "x of session s cannot be registered: min of a float must be a float and is a integer"
    );
    let empty = rule(|c| (c.min_length, c.max_length) = (Some(3), Some(2)));
    assert_eq!(
        registered(ValueType::String, empty, text("a")),
        "x of session s cannot be registered: min_length 3 is above max_length 2"
    );
    assert_eq!(
        registered(ValueType::String, rule(|c| c.pattern = Some("a(".into())), text("a")),
        "x of session s cannot be registered: pattern a( cannot be used: unclosed group"
    );
    assert_eq!(
        registered(
            ValueType::String,
            rule(|c| c.pattern = Some("(.{999}){999}".into())),
            text("a")
        ),
        "x of session s cannot be registered: pattern (.{999}){999} cannot be used: compiled it \
         has more than 2097152 bytes"
    );
    let deep = Definition { history: 65, ..Definition::untyped(ValueType::String) };
    assert_eq!(
        Group::with_session().refused_operation(register("x", deep, text("a"))),
        "x of session s cannot be registered: a history of 65 values where at most 64 are kept"
    );
}

#[test]
fn the_first_value_of_a_variable_must_be_allowed_too() {
    let max = rule(|c| c.max = Some(Value::Integer(1)));
    assert_eq!(
        registered(ValueType::Integer, max, Value::Integer(2)),
        "x of session s: 2 is above max 1"
    );
    assert_eq!(
        registered(ValueType::Integer, Constraints::default(), Value::Float(2.0)),
        "x of session s is a integer; a float cannot be its value"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let mut group = Group::default();
    let operation = set("x", Value::Integer(1));
    let action = DataAction::Operate { session: session("t"), operation };
    assert_eq!(group.refused(action), "no session is called t");
    let mut group = Group::with_session();
    let unregistered = Operation::Set {
        key: "x".into(),
        value: Value::Integer(1),
        expected: None,
        register: false,
    };
    assert_eq!(group.refused_operation(unregistered), "session s has no variable x");
    assert_eq!(
        group.refused_operation(cas("x", Value::Integer(1), 3)),
        "x of session s is not there, expected at version 3"
    );
    group.operate(set("x", Value::Integer(1)));
    assert_eq!(
        group.refused_operation(cas("x", Value::Integer(1), 0)),
        "x of session s is at version 1, expected not there"
    );
}

#[test]
fn what_differs_is_named() {
    let mut group = Group::with_session();
    assert_eq!(
        group.refused(create("s", Some(1_500))),
        "session s is there with ttl none, not 1.5s"
    );
    let metadata = Metadata::from([("owner".into(), "me".into())]);
    let settings = SessionSettings { ttl: None, metadata };
    assert_eq!(
        group.refused(DataAction::CreateSession { session: session("s"), settings }),
        "session s is there with metadata owner none, not \"me\""
    );
    group.operate(set("x", Value::Integer(1)));
    let definition = Definition { history: 1, ..Definition::untyped(ValueType::Integer) };
    assert_eq!(
        group.refused_operation(register("x", definition, Value::Integer(1))),
        "x of session s is registered with another definition"
    );
}

#[test]
fn what_cannot_be_a_name_is_named() {
    let mut group = Group::with_session();
    assert_eq!(
        group.refused_operation(set("", Value::Integer(1))),
        "\"\" of session s cannot be the name of a variable: it is empty"
    );
    assert_eq!(
        group.refused_operation(set("a\nb", Value::Integer(1))),
        "\"a\\nb\" of session s cannot be the name of a variable: '\\n' cannot be in it"
    );
    assert_eq!(
        group.refused_operation(set(&"k".repeat(129), Value::Integer(1))),
        format!(
            "{:?} of session s cannot be the name of a variable: it has 129 bytes where at most \
             128 are allowed",
            "k".repeat(32)
        )
    );
    assert_eq!(
        group.refused(create("t", Some(0))),
        "the ttl of session t cannot be 0; none lives for ever"
    );
}
