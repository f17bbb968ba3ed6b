//! `odeum session register`: a variable of a type, with what it allows.

use clap::Args;
use odeum_proto::{SessionId, session::ValueType};
use serde_json::{Map, Value as Json, json};

use super::{again, args::ChangeArgs, text};
use crate::{
    api::{
        client::ApiClient,
        types::{DefinitionBody, value_type},
    },
    cli::{CliError, Invocation},
};

/// Arguments of `odeum session register`.
#[derive(Debug, Args)]
#[command(
    after_help = "Types: float, integer, string, boolean, choice, module, embedding, tensor, \
                        json, bytes.\n\nExample: odeum session register user-42 score 0 --type \
                        integer --min 0 --max 100"
)]
pub(crate) struct RegisterArgs {
    /// The session
    id: SessionId,
    /// The variable
    key: String,
    /// Its first value, as for `odeum session set`
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// Its type, for good
    #[arg(long = "type", value_name = "TYPE", value_parser = value_type)]
    kind: ValueType,
    /// The least number
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    min: Option<String>,
    /// The greatest number
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    max: Option<String>,
    /// The least length: characters of a text, bytes of bytes
    #[arg(long, value_name = "LENGTH")]
    min_length: Option<u64>,
    /// The greatest length
    #[arg(long, value_name = "LENGTH")]
    max_length: Option<u64>,
    /// A regular expression that the text must match
    #[arg(long, value_name = "REGEX")]
    pattern: Option<String>,
    /// A value that is allowed; may be given several times
    #[arg(long = "enum", value_name = "VALUE")]
    allowed: Vec<String>,
    /// The length of an embedding, the number of axes of a tensor
    #[arg(long, value_name = "NUMBER")]
    dimensions: Option<u64>,
    /// The lengths of the axes of a tensor, such as `2,*`
    #[arg(long, value_name = "LENGTHS", value_parser = shape)]
    shape: Option<Shape>,
    /// How many earlier values are kept
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    history: u8,
    /// What is said of it; may be given several times
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = text::entry)]
    metadata: Vec<(String, String)>,
    /// Replace another definition of the same type; the value stays
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Lengths of axes; `None` for any.
#[derive(Debug, Clone)]
struct Shape(Vec<Option<u64>>);

fn shape(text: &str) -> Result<Shape, String> {
    let axis = |part: &str| match part.trim() {
        "*" => Ok(None),
        number => number.parse().map(Some).map_err(|_| format!("{number:?} is no length, nor `*`")),
    };
    text.split(',').map(axis).collect::<Result<_, _>>().map(Shape)
}

pub(super) async fn register(
    invocation: &Invocation,
    api: &ApiClient,
    args: RegisterArgs,
) -> Result<(), CliError> {
    let constraints = constraints(&args)?;
    let RegisterArgs { id, key, value, kind, history, metadata, replace, change, .. } = args;
    let definition = DefinitionBody {
        kind,
        value: text::value(&value, Some(kind))?,
        constraints: (!constraints.is_empty()).then_some(Json::Object(constraints)),
        history,
        metadata: metadata.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
        replace,
    };
    let request = change.request();
    let written = api.register_variable(&id, &key, &definition, &request).await;
    let written = written.map_err(again(&request))?;
    invocation.out.result(&written, |written| {
        format!("{key} of {id} is of type {kind}, at version {}", written.version)
    })
}

fn constraints(args: &RegisterArgs) -> Result<Map<String, Json>, CliError> {
    let number = |name: &str, text: &Option<String>| {
        let text = text.as_deref();
        text.map(|text| text::from_json::<Json>(text.as_bytes(), name)).transpose()
    };
    let allowed = args.allowed.iter().map(|text| text::value(text, Some(args.kind)));
    let allowed = allowed.collect::<Result<Vec<_>, _>>()?;
    let entries = [
        ("min", number("--min", &args.min)?),
        ("max", number("--max", &args.max)?),
        ("min_length", args.min_length.map(Json::from)),
        ("max_length", args.max_length.map(Json::from)),
        ("pattern", args.pattern.as_deref().map(Json::from)),
        ("enum", (!allowed.is_empty()).then_some(Json::Array(allowed))),
        ("dimensions", args.dimensions.map(Json::from)),
        ("shape", args.shape.as_ref().map(|Shape(shape)| json!(shape))),
    ];
    let given = entries.into_iter().filter_map(|(name, json)| Some((name.to_owned(), json?)));
    Ok(given.collect())
}
