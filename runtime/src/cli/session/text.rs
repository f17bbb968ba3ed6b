//! From what is typed to what is sent.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use odeum_proto::{limits, session::ValueType};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::super::CliError;
use crate::config::{ByteSize, HumanDuration};

/// Most bytes of a file that is sent: what a node takes of a batch.
const FILE_BYTES: u64 = 4 << 20;

pub(super) const BATCH_HELP: &str = r#"The JSON: {"operations": [OPERATION, ...]}, with "atomic": false to do what can be done.
An OPERATION is one of
  {"set": {"key": "a", "value": 1, "expected": 3}}   also "type", "register": false
  {"register": {"key": "a", "type": "integer", "value": 0, "constraints": {"min": 0}}}
  {"delete": {"key": "a", "expected": 3}}
  {"set_metadata": {"key": "owner", "value": "me"}}, {"delete_metadata": {"key": "owner"}}
  {"put_program": {"name": "p", "language": "lua", "content": {"encoding": "utf-8", "value": "x"}}}
  {"delete_program": {"name": "p"}}

Example: echo '{"operations": [{"set": {"key": "a", "value": 1}}]}' | odeum session batch user-42"#;

pub(super) const TRANSACTION_HELP: &str = r#"The JSON: {"compare": [COMPARISON, ...], "then": [OPERATION, ...], "otherwise": [OPERATION, ...]}
A COMPARISON is one of {"key": "a", "version": 3}, {"key": "a", "exists": true}, {"key": "a", "value": 7};
an OPERATION is as for `odeum session batch`."#;

/// A time to live; none is for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ttl(pub(super) Option<HumanDuration>);

pub(super) fn ttl(text: &str) -> Result<Ttl, String> {
    if text == "none" {
        return Ok(Ttl(None));
    }
    text.parse().map(|ttl| Ttl(Some(ttl))).map_err(|error| format!("{error}; or `none`"))
}

/// An entry of metadata.
pub(super) fn entry(text: &str) -> Result<(String, String), String> {
    let entry = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = entry.ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// The value that is typed as `text`, or read from stdin when that is `-`.
pub(super) fn value(text: &str, kind: Option<ValueType>) -> Result<Json, CliError> {
    if text != "-" {
        return parse(text.as_bytes(), kind);
    }
    let bytes = read(std::io::stdin().lock(), Path::new("-"), limits::MESSAGE_BYTES as u64)?;
    // The newline that ends a line is no part of a text, as it is none of what is typed.
    match kind {
        Some(ValueType::Bytes) => parse(&bytes, kind),
        _ => parse(bytes.strip_suffix(b"\n").unwrap_or(&bytes), kind),
    }
}

/// The JSON of a value that is typed as `bytes`.
fn parse(bytes: &[u8], kind: Option<ValueType>) -> Result<Json, CliError> {
    use ValueType as T;
    let text = || {
        let text = std::str::from_utf8(bytes);
        text.map_err(|error| CliError::NoText { at: error.valid_up_to() })
    };
    match kind {
        Some(T::Bytes) => Ok(Json::String(BASE64.encode(bytes))),
        Some(T::String | T::Choice | T::Module) => Ok(Json::String(text()?.to_owned())),
        Some(_) => from_json(text()?.as_bytes(), "the value"),
        None => {
            let text = text()?;
            match from_json(text.as_bytes(), "the value") {
                // What begins like JSON was meant as JSON.
                Err(error) if text.trim_start().starts_with(['{', '[', '"']) => Err(error),
                Err(_) => Ok(Json::String(text.to_owned())),
                json => json,
            }
        }
    }
}

/// The JSON in a file, or from stdin.
pub(super) fn json_file<T: DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    let name = if path == Path::new("-") { "stdin".to_owned() } else { path.display().to_string() };
    from_json(&file(path)?, &name)
}

/// JSON in `bytes`, called `what`.
pub(super) fn from_json<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, CliError> {
    let json = serde_json::from_slice(bytes);
    json.map_err(|error| CliError::BadJson { what: what.into(), error })
}

/// The bytes of a file, or of stdin.
pub(super) fn file(path: &Path) -> Result<Vec<u8>, CliError> {
    if path == Path::new("-") {
        return read(std::io::stdin().lock(), path, FILE_BYTES);
    }
    let file = std::fs::File::open(path);
    let file = file.map_err(|reason| CliError::Unreadable { path: path.to_owned(), reason })?;
    read(file, path, FILE_BYTES)
}

fn read(from: impl Read, path: &Path, limit: u64) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    // Blocking is fine: nothing else runs before it is known.
    let read = from.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|reason| CliError::Unreadable { path: named(path), reason })?;
    if bytes.len() as u64 > limit {
        let what = named(path).display().to_string().into();
        return Err(CliError::TooLarge { what, limit: ByteSize(limit) });
    }
    Ok(bytes)
}

fn named(path: &Path) -> PathBuf {
    if path == Path::new("-") { PathBuf::from("stdin") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn typed(text: &str, kind: Option<ValueType>) -> Json {
        parse(text.as_bytes(), kind).expect("a value")
    }

    #[test]
    fn what_is_no_json_is_a_text_unless_it_begins_like_json() {
        assert_eq!(typed("7", None), json!(7));
        assert_eq!(typed("-7.5", None), json!(-7.5));
        assert_eq!(typed("true", None), json!(true));
        assert_eq!(typed("blue", None), json!("blue"));
        assert_eq!(typed("two words", None), json!("two words"));
        assert_eq!(typed("\"7\"", None), json!("7"));
        assert_eq!(typed("{\"a\": [1]}", None), json!({"a": [1]}));
        let text = parse(b"{\"a\": 1,}", None).expect_err("a comma too many").to_string();
        assert!(text.contains("line 1 column 9"), "{text}");
    }

    #[test]
    fn a_type_says_how_the_text_is_read() {
        assert_eq!(typed("7", Some(ValueType::String)), json!("7"));
        assert_eq!(typed("{", Some(ValueType::Choice)), json!("{"));
        assert_eq!(typed("hi", Some(ValueType::Bytes)), json!("aGk="));
        assert_eq!(typed("[1, 2]", Some(ValueType::Embedding)), json!([1, 2]));
        assert!(parse(b"seven", Some(ValueType::Integer)).is_err());
        assert_eq!(parse(&[0xff], Some(ValueType::Bytes)).expect("bytes"), json!("/w=="));
        assert!(parse(&[0xff], Some(ValueType::String)).is_err());
    }

    #[test]
    fn an_entry_of_metadata_has_a_name() {
        assert_eq!(entry("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(entry("=b").is_err() && entry("a").is_err());
    }
}
