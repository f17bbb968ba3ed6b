//! `odeum call`: one message to a firmware, and its reply.

use std::io::Read;

use clap::Args;
use odeum_proto::{Recipient, RequestId, limits};
use serde_json::json;

use super::{CliError, Invocation};
use crate::{
    api::types::{CallOptions, MAX_DEADLINE, Text},
    config::{ByteSize, HumanDuration},
};

/// Arguments of `odeum call`.
#[derive(Debug, Args)]
#[command(after_help = "The reply is written to stdout as it is; `-o json` tells too which node \
                        gave it.\n\nOf several replicas \
                        one gets it: that which --key or --request-id selects, or any.\n\nExamples:\n  \
                        odeum call counter \"add 2\" --session alice\n  \
                        odeum call counter.2 get\n  odeum call counter \"add 2\" --key alice")]
pub(crate) struct CallArgs {
    /// The firmware, wherever it runs; NAME.2 is a certain one of its replicas
    #[arg(value_name = "FIRMWARE")]
    name: Recipient,
    /// The message; `-` reads it from stdin
    #[arg(value_name = "MESSAGE", default_value = "", hide_default_value = true)]
    #[arg(allow_hyphen_values = true)]
    message: String,
    /// The session the message is about [default: the firmware's own]
    #[arg(long)]
    session: Option<String>,
    /// Selects one of several replicas, the same for the same text [default: the request's name]
    #[arg(long, value_name = "TEXT", value_parser = key)]
    key: Option<String>,
    /// Name of this request: sent again under the same name, it takes effect once
    #[arg(long, value_name = "ID")]
    request_id: Option<RequestId>,
    /// How long to wait for the reply
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = deadline)]
    deadline: HumanDuration,
}

pub(super) async fn call(invocation: &Invocation, args: CallArgs) -> Result<(), CliError> {
    let api = invocation.api()?;
    let message = match args.message.as_str() {
        "-" => read_stdin()?,
        text => text.as_bytes().to_vec(),
    };
    let request = args.request_id.unwrap_or_else(RequestId::random);
    let options = CallOptions {
        request: Some(request.clone()),
        session: args.session,
        key: args.key,
        deadline: args.deadline.0,
    };
    let answer = api.call(&args.name, message, &options).await.map_err(|error| {
        // Nothing listened, so nothing can be doubled.
        let repeat = error.may_have_had_an_effect();
        if repeat { CliError::Call { error, request } } else { error.into() }
    })?;
    let json = json!({
        "reply": Text::of(&answer.body),
        "node": answer.node,
        "epoch": answer.epoch,
        "request": answer.request,
        "replayed": answer.replayed,
    });
    invocation.out.reply(&json, &answer.body)
}

fn read_stdin() -> Result<Vec<u8>, CliError> {
    let mut message = Vec::new();
    let limit = limits::MESSAGE_BYTES as u64;
    // Blocking is fine: nothing else runs before the message is known.
    let read = std::io::stdin().lock().take(limit + 1).read_to_end(&mut message);
    read.map_err(|reason| CliError::Stdin { reason })?;
    if message.len() > limits::MESSAGE_BYTES {
        return Err(CliError::TooLarge { what: "the message".into(), limit: ByteSize(limit) });
    }
    Ok(message)
}

fn key(text: &str) -> Result<String, String> {
    match text.chars().all(|it| it.is_ascii_graphic())
        && (1..=limits::KEY_BYTES).contains(&text.len())
    {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "it must be printable ASCII without spaces, {} bytes at most",
            limits::KEY_BYTES
        )),
    }
}

fn deadline(text: &str) -> Result<HumanDuration, String> {
    let deadline: HumanDuration = text.parse().map_err(|error| format!("{error}"))?;
    if deadline.0.is_zero() || deadline.0 > MAX_DEADLINE {
        return Err(format!("it must be more than 0s and at most {}", HumanDuration(MAX_DEADLINE)));
    }
    Ok(deadline)
}
