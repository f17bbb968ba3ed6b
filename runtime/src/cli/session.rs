//! `odeum session`: sessions and what is in them.

mod args;
mod register;
mod show;
mod text;

use odeum_proto::{RequestId, SessionId, session::Glob};
use serde_json::{Value as Json, json};

use super::{CliError, Invocation};
use crate::api::{
    client::{ApiClient, ApiError, SessionQuery, SetOptions, VariableQuery},
    types::{MAX_PAGE, Reading, SettingsBody, TtlBody},
};
use args::{CreateArgs, FileArgs, MetaCommand, ProgramCommand, ValueArgs};

pub(crate) use args::SessionCommand;
pub(super) use show::{session_table, shortened, shown};

pub(super) async fn session(
    invocation: &Invocation,
    command: SessionCommand,
) -> Result<(), CliError> {
    use SessionCommand as C;
    let api = invocation.api()?;
    match command {
        C::Get { id, key, matching, read } => {
            let what = (key, matching);
            get(invocation, &api, &id, what, read.consistency).await
        }
        C::List { matching, limit, after, read } => {
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            let query = SessionQuery { matching, after, limit, consistency: read.consistency };
            list(invocation, &api, &query).await
        }
        C::History { id, key, read } => {
            let history = api.history(&id, &key, read.consistency).await?;
            invocation.out.result(&history, show::history_table)
        }
        C::Create(args) => create(invocation, &api, args).await,
        C::Delete { id } => {
            api.delete_session(&id).await?;
            let json = json!({ "deleted": { "session": &id } });
            invocation.out.result(&json, |_| format!("session {id} is deleted"))
        }
        C::Touch { id, change } => {
            let request = change.request();
            let touched = api.touch_session(&id, &request).await.map_err(again(&request))?;
            invocation.out.result(&touched, |_| format!("session {id} lives on"))
        }
        C::Ttl { id, ttl, change } => {
            let (ttl, request) = (TtlBody { ttl: ttl.0 }, change.request());
            let set = api.set_session_ttl(&id, &ttl, &request).await.map_err(again(&request))?;
            invocation.out.result(&set, |_| match ttl.ttl {
                Some(ttl) => format!("session {id} lives for {ttl} after each write and touch"),
                None => format!("session {id} lives for ever"),
            })
        }
        C::Set { value, must_exist } => set(invocation, &api, value, None, must_exist).await,
        C::Cas { value, expected } => set(invocation, &api, value, Some(expected), false).await,
        C::Register(args) => register::register(invocation, &api, *args).await,
        C::Batch { file } => batch(invocation, &api, file).await,
        C::Transaction { file } => transaction(invocation, &api, file).await,
        C::Program(command) => program(invocation, &api, command).await,
        C::Meta(command) => meta(invocation, &api, command).await,
        C::Unset { id, key, expected, change } => {
            let request = change.request();
            let removed = api.delete_variable(&id, &key, expected, &request).await;
            removed.map_err(again(&request))?;
            deleted(invocation, "variable", &key, &id)
        }
    }
}

async fn create(
    invocation: &Invocation,
    api: &ApiClient,
    args: CreateArgs,
) -> Result<(), CliError> {
    let CreateArgs { id, ttl, metadata, change } = args;
    let metadata = metadata.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    let (settings, request) = (SettingsBody { ttl, metadata }, change.request());
    let made = api.create_session(&id, &settings, &request).await.map_err(again(&request))?;
    invocation.out.result(&made, |made| match made.created {
        true => format!("session {id} is created"),
        false => format!("session {id} is there already, with the same settings"),
    })
}

async fn get(
    invocation: &Invocation,
    api: &ApiClient,
    id: &SessionId,
    (key, matching): (Option<String>, Option<Glob>),
    consistency: Reading,
) -> Result<(), CliError> {
    if let Some(key) = key {
        let variable = api.variable(id, &key, consistency).await?;
        return invocation.out.result(&variable, show::variable_text);
    }
    if let Some(matching) = matching {
        let query = VariableQuery {
            matching: Some(matching),
            limit: Some(MAX_PAGE),
            consistency,
            ..VariableQuery::default()
        };
        let page = api.variables(id, &query).await?;
        invocation.out.result(&page, |page| show::variables_table(&page.variables))?;
        if page.next.is_some() {
            invocation.out.note(&format!("these are the first {MAX_PAGE}; there are more"));
        }
        return Ok(());
    }
    let session = api.session_read(id, consistency).await?;
    invocation.out.result(&session, show::whole_session)
}

/// A page of sessions, and how the next one is asked for.
pub(super) async fn list(
    invocation: &Invocation,
    api: &ApiClient,
    query: &SessionQuery,
) -> Result<(), CliError> {
    let page = api.sessions(query).await?;
    invocation.out.result(&page, show::sessions_table)?;
    if let Some(next) = &page.next {
        invocation.out.note(&format!("there are more: add `--after {next}`"));
    }
    Ok(())
}

async fn set(
    invocation: &Invocation,
    api: &ApiClient,
    args: ValueArgs,
    expected: Option<u64>,
    must_exist: bool,
) -> Result<(), CliError> {
    let ValueArgs { id, key, value, kind, change } = args;
    let (value, request) = (text::value(&value, kind)?, change.request());
    let options = SetOptions { kind, expected, must_exist };
    let written = api.set_variable(&id, &key, &value, options, &request).await;
    let written = written.map_err(again(&request))?;
    invocation
        .out
        .result(&written, |written| format!("{key} of {id} is at version {}", written.version))
}

async fn batch(invocation: &Invocation, api: &ApiClient, file: FileArgs) -> Result<(), CliError> {
    let FileArgs { id, file, change } = file;
    let (batch, request): (Json, _) = (text::json_file(&file)?, change.request());
    let answer = api.batch(&id, &batch, &request).await.map_err(again(&request))?;
    invocation.out.result(&answer, |answer| show::results_table(&answer.results))
}

async fn transaction(
    invocation: &Invocation,
    api: &ApiClient,
    file: FileArgs,
) -> Result<(), CliError> {
    let FileArgs { id, file, change } = file;
    let (transaction, request): (Json, _) = (text::json_file(&file)?, change.request());
    let answer = api.transaction(&id, &transaction, &request).await.map_err(again(&request))?;
    invocation.out.result(&answer, |answer| {
        let done = if answer.succeeded { "then" } else { "otherwise" };
        format!("`{done}` was done\n{}", show::results_table(&answer.results))
    })
}

async fn program(
    invocation: &Invocation,
    api: &ApiClient,
    command: ProgramCommand,
) -> Result<(), CliError> {
    match command {
        ProgramCommand::Put { id, name, file, language, change } => {
            let (content, request) = (text::file(&file)?, change.request());
            let put = api.put_program(&id, &name, (&language, content), &request).await;
            let put = put.map_err(again(&request))?;
            invocation.out.result(&put, |_| format!("program {name} of {id} is stored"))
        }
        ProgramCommand::Get { id, name } => {
            let program = api.program(&id, &name).await?;
            let bytes = program.content.bytes().unwrap_or_default();
            invocation.out.reply(&program, &bytes)
        }
        ProgramCommand::List { id } => {
            invocation.out.result(&api.programs(&id).await?, show::programs_table)
        }
        ProgramCommand::Delete { id, name, change } => {
            let request = change.request();
            api.delete_program(&id, &name, &request).await.map_err(again(&request))?;
            deleted(invocation, "program", &name, &id)
        }
    }
}

async fn meta(
    invocation: &Invocation,
    api: &ApiClient,
    command: MetaCommand,
) -> Result<(), CliError> {
    match command {
        MetaCommand::Set { id, key, value, change } => {
            let request = change.request();
            let set = api.set_metadata(&id, &key, &value, &request).await;
            let set = set.map_err(again(&request))?;
            invocation.out.result(&set, |_| format!("{key} of {id} is set"))
        }
        MetaCommand::Unset { id, key, change } => {
            let request = change.request();
            api.delete_metadata(&id, &key, &request).await.map_err(again(&request))?;
            deleted(invocation, "entry", &key, &id)
        }
        MetaCommand::List { id } => {
            let metadata = api.session(&id).await?.metadata;
            invocation.out.result(&metadata, show::metadata_table)
        }
    }
}

fn deleted(
    invocation: &Invocation,
    what: &str,
    name: &str,
    id: &SessionId,
) -> Result<(), CliError> {
    let json = json!({ "deleted": { what: name, "session": id } });
    invocation.out.result(&json, |_| format!("{what} {name} of {id} is removed"))
}

/// What an error of a change says: how to ask again, when it may have been made.
fn again(request: &RequestId) -> impl Fn(ApiError) -> CliError {
    let request = request.clone();
    move |error| match error.may_have_had_an_effect() {
        true => CliError::Call { error, request: request.clone() },
        false => error.into(),
    }
}
