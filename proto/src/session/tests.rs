//! Promises of values, their text form, their constraints, and patterns.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::codec;

fn read(kind: ValueType, json: Json) -> Result<Value, String> {
    Value::from_json(kind, &json).map_err(|error| error.to_string())
}

fn glob(text: &str) -> Glob {
    text.parse().expect("valid")
}

#[test]
fn every_type_is_read_back_from_its_name() {
    for kind in ValueType::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert!("double".parse::<ValueType>().is_err());
}

#[test]
fn values_are_read_from_json_and_written_as_they_came() {
    let cases = [
        (ValueType::Float, json!(0.1)),
        (ValueType::Integer, json!(i64::MAX)),
        (ValueType::Integer, json!(i64::MIN)),
        (ValueType::Integer, json!(9_007_199_254_740_993_i64)),
        (ValueType::String, json!("a\n\"ä")),
        (ValueType::Boolean, json!(false)),
        (ValueType::Choice, json!("red")),
        (ValueType::Module, json!("m")),
        (ValueType::Embedding, json!([0.1, -2.5, 1e-8])),
        (ValueType::Tensor, json!({"shape": [2, 1], "data": [0.1, 3.0]})),
        (ValueType::Json, json!({"a": [1, null, "x"], "b": {}})),
        (ValueType::Bytes, json!("AAEC/w==")),
    ];
    for (kind, json) in cases {
        let value = read(kind, json.clone()).expect("read");
        assert_eq!(value.kind(), kind);
        assert_eq!(value.to_json(), json, "{kind}");
    }
}

#[test]
fn a_whole_number_may_be_written_as_a_float_and_a_float_as_a_whole_number() {
    assert_eq!(read(ValueType::Integer, json!(3.0)), Ok(Value::Integer(3)));
    assert_eq!(read(ValueType::Float, json!(3)), Ok(Value::Float(3.0)));
}

#[test]
fn what_is_no_value_is_named_with_its_type_and_form() {
    let said = |kind, json| read(kind, json).expect_err("refused");
    assert_eq!(said(ValueType::Float, json!("1")), "\"1\" is no float: expected a number");
    assert_eq!(
        said(ValueType::Integer, json!(1.5)),
        "1.5 is no integer: expected a whole number from -9223372036854775808 to \
         9223372036854775807"
    );
    assert!(read(ValueType::Integer, json!(u64::MAX)).is_err());
    assert!(read(ValueType::Integer, json!(1e300)).is_err());
    assert_eq!(said(ValueType::Boolean, json!(1)), "1 is no boolean: expected true or false");
    assert_eq!(
        said(ValueType::Bytes, json!("?")),
        "\"?\" is no bytes: expected a string in Base64"
    );
    assert_eq!(
        said(ValueType::Embedding, json!([1e300])),
        "no embedding: numbers must be finite; element 0 is not"
    );
    assert_eq!(
        said(ValueType::Tensor, json!({"shape": [3], "data": [1]})),
        "no tensor: a tensor of shape [3] has 3 elements, not 1"
    );
    let huge = json!({"shape": [u64::MAX, 2], "data": []});
    assert!(read(ValueType::Tensor, huge).is_err(), "a product beyond counting");
    let axes = json!({"shape": vec![1; 17], "data": [1]});
    assert_eq!(said(ValueType::Tensor, axes), "no tensor: a tensor has at most 16 axes, not 17");
    let long = said(ValueType::Float, json!("x".repeat(1_000)));
    assert!(long.len() < 120, "{long}");
}

#[test]
fn json_that_no_reader_can_represent_is_no_value() {
    let fault = |text: &str| Value::Json(text.into()).check().err();
    assert_eq!(fault("[1, {\"a\": null}, \"x\", true, -1, 1.5e3]"), None);
    for text in ["", "{", "[1,]", "nul", "1e999", "{\"a\": 1} 2", "\"\\ud800\""] {
        assert!(fault(text).is_some(), "{text}");
    }
    let deep = "[".repeat(1_000_000);
    assert!(fault(&deep).is_some(), "and does not overflow the stack");
}

#[test]
fn the_plain_form_is_read_back() {
    let values = [
        Value::bytes(b"\xff"),
        Value::string("ä"),
        Value::Integer(-7),
        Value::Float(0.25),
        Value::Boolean(true),
        Value::Json("{ }".into()),
        Value::Embedding([0.5].into()),
    ];
    for value in values {
        assert_eq!(Value::from_plain(value.kind(), &value.plain()), Some(value));
    }
    assert_eq!(Value::from_plain(ValueType::String, b"\xff"), None);
    assert_eq!(Value::from_plain(ValueType::Integer, b"x"), None);
    assert_eq!(Value::from_plain(ValueType::Json, b"{"), None);
}

#[test]
fn zeros_of_both_signs_are_equal_to_a_reader_and_told_apart_between_replicas() {
    let (plus, minus) = (Value::Float(0.0), Value::Float(-0.0));
    assert!(plus.equals(&minus));
    assert_ne!(plus, minus);
}

#[test]
fn constraints_are_read_from_json_and_written_as_they_came() {
    let cases = [
        (ValueType::Integer, json!({"min": -1, "max": 9_007_199_254_740_993_i64})),
        (ValueType::Float, json!({"min": 0.5})),
        (ValueType::String, json!({"min_length": 1, "max_length": 3, "pattern": "^a"})),
        (ValueType::Choice, json!({"enum": ["a", "b"]})),
        (ValueType::Embedding, json!({"dimensions": 3})),
        (ValueType::Tensor, json!({"dimensions": 2, "shape": [null, 2]})),
        (ValueType::Bytes, json!({})),
    ];
    for (kind, json) in cases {
        let constraints = Constraints::from_json(kind, &json).expect("read");
        assert_eq!(constraints.check_definition(kind, &mut Patterns::default()), Ok(()));
        assert_eq!(constraints.to_json(), json);
    }
    let said =
        |json| Constraints::from_json(ValueType::Integer, &json).expect_err("refused").to_string();
    assert!(said(json!({"maximum": 1})).starts_with("no constraint is called \"maximum\"; there"));
    assert_eq!(said(json!([1])), "constraints are an object, not [1]");
    assert_eq!(
        said(json!({"max_length": -1})),
        "max_length cannot be -1: expected a whole number from 0"
    );
    assert_eq!(said(json!({"enum": []})), "enum cannot be []: expected an array with some values");
}

/// Each constraint is for some types; registered for another one it would have no effect.
#[test]
fn a_constraint_is_refused_for_every_type_that_it_means_nothing_to() {
    let json = json!({
        "min": 1, "max": 1, "min_length": 1, "max_length": 1, "pattern": "a", "enum": [1],
        "dimensions": 1, "shape": [1]
    });
    let all = Constraints::from_json(ValueType::Integer, &json).expect("read");
    let only = |rule: Rule| {
        let mut one = Constraints::default();
        match rule {
            Rule::Min => one.min.clone_from(&all.min),
            Rule::Max => one.max.clone_from(&all.max),
            Rule::MinLength => one.min_length = all.min_length,
            Rule::MaxLength => one.max_length = all.max_length,
            Rule::Pattern => one.pattern.clone_from(&all.pattern),
            Rule::Enum => one.allowed.clone_from(&all.allowed),
            Rule::Dimensions => one.dimensions = all.dimensions,
            Rule::Shape => one.shape.clone_from(&all.shape),
        }
        one
    };
    let rules = [
        Rule::Min,
        Rule::Max,
        Rule::MinLength,
        Rule::MaxLength,
        Rule::Pattern,
        Rule::Enum,
        Rule::Dimensions,
        Rule::Shape,
    ];
    for rule in rules {
        for kind in ValueType::ALL {
            let refused = matches!(
                only(rule).check_definition(kind, &mut Patterns::default()),
                Err(DefinitionFault::NotFor { .. })
            );
            assert_eq!(refused, !rule.kinds().contains(&kind), "{rule} for {kind}");
        }
    }
}

#[test]
fn more_patterns_than_are_kept_are_still_right() {
    let mut patterns = Patterns::default();
    for n in 0..crate::limits::COMPILED_PATTERNS * 2 {
        let pattern = format!("^{n}$");
        let compiled = patterns.get(&pattern).expect("compiles");
        assert!(compiled.is_match(&n.to_string()) && !compiled.is_match("x"));
    }
    assert!(patterns.get(&"a".repeat(crate::limits::PATTERN_BYTES + 1)).is_err());
}

#[test]
fn globs_select_names() {
    for (pattern, name, selected) in [
        ("*", "", true),
        ("*", "a/b", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a?c", "aäc", true),
        ("a?c", "ac", false),
        ("a*c", "ac", true),
        ("a*c", "abcbc", true),
        ("a*c", "abcb", false),
        ("*a*b*", "xxaxxbxx", true),
        ("*a*b*", "xxbxxaxx", false),
        ("**", "x", true),
        ("?", "", false),
    ] {
        assert_eq!(glob(pattern).matches(name), selected, "{pattern} {name}");
    }
    assert_eq!(glob("rack/*/x").prefix(), "rack/");
    assert!("".parse::<Glob>().is_err());
}

#[test]
fn a_malicious_glob_takes_no_time() {
    let pattern = format!("{}b", "*a".repeat(100));
    assert!(!glob(&pattern).matches(&"a".repeat(5_000)));
}

/// As plain as it gets, and exponential.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), None) => matches(rest, text),
        (Some(('*', rest)), Some((_, behind))) => matches(rest, text) || matches(pattern, behind),
        (Some((wanted, rest)), Some((got, behind))) => {
            (*wanted == '?' || wanted == got) && matches(rest, behind)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn globs_match_as_their_definition_says(pattern in "[ab*?]{1,8}", name in "[ab]{0,8}") {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        prop_assert_eq!(glob(&pattern).matches(&name), matches(&chars(&pattern), &chars(&name)));
        if glob(&pattern).matches(&name) {
            prop_assert!(name.starts_with(glob(&pattern).prefix()));
        }
    }

    #[test]
    fn every_finite_number_survives_its_text_form(bits in any::<u64>(), short in any::<u32>()) {
        let value = Value::Float(f64::from_bits(bits));
        prop_assume!(value.check().is_ok());
        let text = value.to_json().to_string();
        let json = serde_json::from_str(&text).expect("JSON");
        prop_assert!(read(ValueType::Float, json).expect("a float").equals(&value));
        let value = Value::Embedding([f32::from_bits(short)].into());
        prop_assume!(value.check().is_ok());
        let text = value.to_json().to_string();
        let json = serde_json::from_str(&text).expect("JSON");
        prop_assert!(read(ValueType::Embedding, json).expect("an embedding").equals(&value));
    }

    #[test]
    fn any_text_is_json_exactly_when_it_can_be_given_back(text in "[\\[\\]{}:,\"a1e9.-]{0,12}") {
        let ours = Value::Json(text.as_str().into()).check().is_ok();
        prop_assert_eq!(ours, serde_json::from_str::<Json>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn any_bytes_are_a_command_or_none_but_never_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..256),
    ) {
        if let Ok(command) = codec::decode::<DataCommand>(&bytes) {
            let _ = (command.weight(), command.to_string());
        }
        let _ = codec::decode::<DataOutcome>(&bytes);
    }
}
