//! Sessions as tables.

use std::collections::BTreeMap;

use odeum_proto::session::Metadata;
use serde_json::Value as Json;

use super::super::out::{cell, table};
use crate::{
    api::types::{
        OperationResult, ProgramSummary, Session, SessionPage, SessionVariable, VariableHistory,
    },
    config::ByteSize,
};

/// Characters of a value that a table shows; `-o json` shows all.
const SHORT_VALUE: usize = 60;

/// Sessions, one in a row.
pub(super) fn sessions_table(page: &SessionPage) -> String {
    table(
        ["SESSION", "VARIABLES", "SIZE", "TTL", "REVISION"],
        page.sessions.iter().map(|one| {
            [
                cell(&one.id),
                cell(one.variables),
                cell(ByteSize(one.bytes).rounded()),
                one.ttl.map(|ttl| ttl.to_string()),
                cell(one.revision),
            ]
        }),
    )
}

/// The variables of a session, one in a row.
pub(in crate::cli) fn session_table(session: &Session) -> String {
    variables_table(&session.variables)
}

/// A session with all that is in it.
pub(super) fn whole_session(session: &Session) -> String {
    let ttl = session.ttl.map_or_else(|| "none".to_owned(), |ttl| ttl.to_string());
    let mut text = format!(
        "session {}, ttl {ttl}, {}, changed at revision {}",
        session.id,
        ByteSize(session.bytes).rounded(),
        session.revision
    );
    let mut part = |is_empty: bool, table: String| {
        if !is_empty {
            text.push_str("\n\n");
            text.push_str(&table);
        }
    };
    part(session.metadata.is_empty(), metadata_table(&session.metadata));
    part(session.variables.is_empty(), session_table(session));
    part(session.programs.is_empty(), programs_table(&session.programs));
    text
}

pub(super) fn variables_table(variables: &BTreeMap<String, SessionVariable>) -> String {
    let row = |(key, variable): (&String, &SessionVariable)| {
        let value = shown(&variable.value, variable.text.as_deref(), variable.kind.as_str());
        [
            cell(key),
            cell(variable.kind),
            cell(shortened(&value)),
            cell(variable.version),
            cell(variable.revision),
        ]
    };
    let plain = ["VARIABLE", "TYPE", "VALUE", "VERSION", "REVISION"];
    if variables.values().all(|variable| constraints(variable).is_none()) {
        return table(plain, variables.iter().map(row));
    }
    let [a, b, c, d, e] = plain;
    table(
        [a, b, c, d, e, "CONSTRAINTS"],
        variables.iter().map(|(key, variable)| {
            let [a, b, c, d, e] = row((key, variable));
            [a, b, c, d, e, constraints(variable)]
        }),
    )
}

/// One variable: its value alone, as scripts want it.
pub(super) fn variable_text(variable: &SessionVariable) -> String {
    shown(&variable.value, variable.text.as_deref(), variable.kind.as_str())
}

pub(super) fn history_table(history: &VariableHistory) -> String {
    table(
        ["VERSION", "REVISION", "VALUE"],
        history.values.iter().map(|past| {
            let value = shown(&past.value, past.text.as_deref(), history.kind.as_str());
            [cell(past.version), cell(past.revision), cell(shortened(&value))]
        }),
    )
}

pub(super) fn programs_table(programs: &BTreeMap<String, ProgramSummary>) -> String {
    table(
        ["PROGRAM", "LANGUAGE", "SIZE"],
        programs.iter().map(|(name, program)| {
            let size = u64::try_from(program.bytes).unwrap_or(u64::MAX);
            [cell(name), cell(&program.language), cell(ByteSize(size).rounded())]
        }),
    )
}

pub(super) fn metadata_table(metadata: &Metadata) -> String {
    table(["METADATA", "VALUE"], metadata.iter().map(|(key, value)| [cell(key), cell(value)]))
}

pub(super) fn results_table(results: &[OperationResult]) -> String {
    table(
        ["OPERATION", "RESULT"],
        results.iter().enumerate().map(|(at, result)| [cell(at), cell(outcome(result))]),
    )
}

fn outcome(result: &OperationResult) -> String {
    match result {
        OperationResult { error: Some(error), .. } => format!("refused: {}", error.message),
        OperationResult { version: Some(version), changed: Some(false), .. } => {
            format!("was there, at version {version}")
        }
        OperationResult { version: Some(version), .. } => format!("at version {version}"),
        OperationResult { existed: Some(true), .. } => "removed".to_owned(),
        OperationResult { existed: Some(false), .. } => "was not there".to_owned(),
        _ => "stored".to_owned(),
    }
}

/// A value as a person reads it.
pub(in crate::cli) fn shown(value: &Json, text: Option<&str>, kind: &str) -> String {
    match (text, value) {
        (Some(text), _) => text.to_owned(),
        (None, Json::String(text)) if kind == "bytes" => format!("base64:{text}"),
        (None, Json::String(text)) if kind != "json" => text.clone(),
        (None, value) => value.to_string(),
    }
}

/// `text` as far as a table shows it.
pub(in crate::cli) fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHORT_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What a variable allows, as a table shows it.
fn constraints(variable: &SessionVariable) -> Option<String> {
    let object = variable.constraints.as_object().filter(|object| !object.is_empty())?;
    let parts: Vec<_> = object.iter().map(|(name, value)| format!("{name} {value}")).collect();
    Some(shortened(&parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(shortened(&"ä".repeat(61)), format!("{}…", "ä".repeat(60)));
        assert_eq!(shortened("41"), "41");
    }

    #[test]
    fn a_value_is_shown_as_its_type_is_read() {
        assert_eq!(shown(&json!("blue"), None, "string"), "blue");
        assert_eq!(shown(&json!("blue"), None, "json"), "\"blue\"");
        assert_eq!(shown(&json!("NDE="), Some("41"), "bytes"), "41");
        assert_eq!(shown(&json!("/w=="), None, "bytes"), "base64:/w==");
        assert_eq!(shown(&json!([1, 2.5]), None, "embedding"), "[1,2.5]");
    }
}
