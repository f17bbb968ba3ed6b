//! Sessions over HTTP: what is written is read, and what is refused says why.

use odeum_proto::{SessionId, limits, session::ValueType};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value as Json, json};

use super::{Served, id};
use crate::api::{
    client::{SessionQuery, SetOptions, VariableQuery},
    types::{Reading, SettingsBody},
};

/// An answer as it is on the wire.
pub(super) struct Raw {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Json,
}

impl Served {
    /// Sends JSON, or nothing, and takes whatever comes back.
    pub(super) async fn raw(&self, method: Method, path: &str, body: Option<Json>) -> Raw {
        self.raw_with(method, path, body, &[]).await
    }

    pub(super) async fn raw_with(
        &self,
        method: Method,
        path: &str,
        body: Option<Json>,
        headers: &[(&str, &str)],
    ) -> Raw {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut request = http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("answered");
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.bytes().await.expect("a body");
        let body = serde_json::from_slice(&body).unwrap_or(Json::Null);
        Raw { status, headers, body }
    }

    /// What must be done.
    pub(super) async fn ok(&self, method: Method, path: &str, body: Option<Json>) -> Json {
        let Raw { status, body, .. } = self.raw(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {body}");
        body
    }

    /// What must be refused: its status, its word and its message.
    pub(super) async fn no(
        &self,
        method: Method,
        path: &str,
        body: Option<Json>,
    ) -> (u16, String, String) {
        let Raw { status, body, .. } = self.raw(method.clone(), path, body).await;
        assert!(!status.is_success(), "{method} {path}: {status} {body}");
        let text = |field: &str| body[field].as_str().expect("an error in JSON").to_owned();
        (status.as_u16(), text("error"), text("message"))
    }

    /// A server with session `s`.
    pub(super) async fn with_session() -> Self {
        let served = Self::start().await;
        served.ok(Method::PUT, "/v1/sessions/s", None).await;
        served
    }
}

const VARIABLE: &str = "/v1/sessions/s/variables/x";

/// A value of each type, and a constraint that it satisfies.
fn every_type() -> [(ValueType, Json, Json); 10] {
    [
        (ValueType::Float, json!(0.1), json!({"min": 0.0, "max": 1.0})),
        (ValueType::Integer, json!(9_007_199_254_740_993_i64), json!({"min": 1})),
        (ValueType::String, json!("ä \"quoted\"\n"), json!({"max_length": 20})),
        (ValueType::Boolean, json!(true), json!({})),
        (ValueType::Choice, json!("blue"), json!({"enum": ["blue", "red"]})),
        (ValueType::Module, json!("core.main"), json!({"pattern": "^[a-z.]+$"})),
        (ValueType::Embedding, json!([0.1, -2.0, 3.5]), json!({"dimensions": 3})),
        (
            ValueType::Tensor,
            json!({"shape": [2, 1], "data": [1.5, 2.5]}),
            json!({"shape": [2, null]}),
        ),
        (ValueType::Json, json!({"a": [1, null, {"b": "c"}]}), json!({"max_length": 100})),
        (ValueType::Bytes, json!("/wCA"), json!({"min_length": 3})),
    ]
}

#[tokio::test]
async fn a_value_of_every_type_is_read_as_it_was_written() {
    let served = Served::with_session().await;
    for (kind, value, constraints) in every_type() {
        let set = format!("/v1/sessions/s/variables/set-{kind}?type={kind}");
        served.ok(Method::PUT, &set, Some(value.clone())).await;
        let registered = format!("/v1/sessions/s/variables/registered-{kind}");
        let definition = json!({"type": kind.as_str(), "value": value, "constraints": constraints, "history": 2});
        served.ok(Method::PUT, &format!("{registered}/definition"), Some(definition)).await;
        // Of the variable's own type, which need not be said again.
        let written = served.ok(Method::PUT, &registered, Some(value.clone())).await;
        assert_eq!(written["version"], 2, "{kind}");

        for name in [format!("set-{kind}"), format!("registered-{kind}")] {
            let one =
                served.ok(Method::GET, &format!("/v1/sessions/s/variables/{name}"), None).await;
            assert_eq!((&one["type"], &one["value"]), (&json!(kind.as_str()), &value), "{name}");
            let all = served.client.session(&id("s")).await.expect("the session");
            assert_eq!((all.variables[&name].kind, &all.variables[&name].value), (kind, &value));
        }
        let one = served.ok(Method::GET, &registered, None).await;
        let constraints = if constraints == json!({}) { Json::Null } else { constraints };
        assert_eq!(one["constraints"], constraints, "{kind}");
    }
}

#[tokio::test]
async fn a_whole_number_is_a_fine_value_of_a_float() {
    let served = Served::with_session().await;
    served.ok(Method::PUT, VARIABLE, Some(json!(0.5))).await;
    served.ok(Method::PUT, VARIABLE, Some(json!(7))).await;
    assert_eq!(served.ok(Method::GET, VARIABLE, None).await["value"], json!(7.0));
    let (status, code, message) = served.no(Method::PUT, VARIABLE, Some(json!("seven"))).await;
    assert_eq!((status, code.as_str()), (422, "type-mismatch"));
    for part in ["x", "session s", "float", "string"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_value_that_a_constraint_forbids_is_refused_with_all_that_matters() {
    let served = Served::with_session().await;
    let definition = json!({"type": "integer", "value": 5, "constraints": {"min": 0, "max": 10}});
    served.ok(Method::PUT, &format!("{VARIABLE}/definition"), Some(definition)).await;
    let (status, code, message) = served.no(Method::PUT, VARIABLE, Some(json!(11))).await;
    assert_eq!((status, code.as_str()), (422, "constraint-violated"));
    for part in ["session s", "x", "max", "11", "10"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert_eq!(served.ok(Method::GET, VARIABLE, None).await["value"], 5);
}

#[tokio::test]
async fn a_write_that_expects_another_version_is_refused_with_both() {
    let served = Served::with_session().await;
    served.ok(Method::PUT, &format!("{VARIABLE}?expected=0"), Some(json!(1))).await;
    served.ok(Method::PUT, VARIABLE, Some(json!(2))).await;
    let (status, code, message) =
        served.no(Method::PUT, &format!("{VARIABLE}?expected=1"), Some(json!(3))).await;
    assert_eq!((status, code.as_str()), (412, "version-conflict"));
    assert!(message.contains("version 2") && message.contains("version 1"), "{message}");

    let tag = served.raw(Method::GET, VARIABLE, None).await.headers["etag"].clone();
    let tag = tag.to_str().expect("ASCII").to_owned();
    assert_eq!(tag, "\"2\"");
    for (condition, value, status) in [
        ("if-match", tag.as_str(), 200),
        ("if-match", tag.as_str(), 412),
        ("if-none-match", "*", 412),
    ] {
        let headers = [(condition, value)];
        let answer = served.raw_with(Method::PUT, VARIABLE, Some(json!(3)), &headers).await;
        assert_eq!(answer.status, status, "{condition} {value}: {}", answer.body);
    }
    let conflict = served.no(Method::DELETE, &format!("{VARIABLE}?expected=1"), None).await;
    assert_eq!(conflict.0, 412);
    served.ok(Method::DELETE, &format!("{VARIABLE}?expected=3"), None).await;
    assert_eq!(served.no(Method::GET, VARIABLE, None).await.0, 404);
}

#[tokio::test]
async fn a_change_with_a_key_is_made_once_and_answered_twice() {
    let served = Served::with_session().await;
    let key = [("idempotency-key", "order-17")];
    let put = || served.raw_with(Method::PUT, VARIABLE, Some(json!(1)), &key);
    let (first, again) = (put().await, put().await);
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.body, again.body);
    assert_eq!(served.ok(Method::GET, VARIABLE, None).await["version"], 1);

    let other = served.raw_with(Method::PUT, VARIABLE, Some(json!(2)), &key).await;
    assert_eq!((other.status.as_u16(), &other.body["error"]), (409, &json!("request-reused")));
    let batch = json!({"operations": [{"delete": {"key": "x"}}]});
    let other = served.raw_with(Method::POST, "/v1/sessions/s/batch", Some(batch), &key).await;
    assert_eq!(other.status, 409);
}

#[tokio::test]
async fn a_batch_is_done_whole_or_not_at_all_unless_it_says_otherwise() {
    let served = Served::with_session().await;
    let operations = json!([
        {"set": {"key": "a", "value": 1}},
        {"register": {"key": "b", "type": "float", "value": 1, "constraints": {"max": 2}}},
        {"set": {"key": "b", "value": 3}},
        {"set_metadata": {"key": "owner", "value": "me"}},
        {"put_program": {"name": "p", "language": "lua",
                         "content": {"encoding": "utf-8", "value": "return 1"}}},
        {"delete": {"key": "nothing"}},
    ]);
    let path = "/v1/sessions/s/batch";
    let whole = json!({"operations": operations});
    let (status, code, message) = served.no(Method::POST, path, Some(whole)).await;
    assert_eq!((status, code.as_str()), (422, "constraint-violated"));
    for part in ["operation 2", "b of session s", "3", "max 2"] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert!(served.client.session(&id("s")).await.expect("the session").variables.is_empty());

    let some = json!({"atomic": false, "operations": operations});
    let answer = served.ok(Method::POST, path, Some(some)).await;
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), 6);
    assert_eq!((&results[0], &results[5]), (&json!({"version": 1}), &json!({"existed": false})));
    assert_eq!(results[2]["error"]["error"], "constraint-violated");
    let session = served.client.session(&id("s")).await.expect("the session");
    assert_eq!(session.variables.len(), 2);
    assert_eq!(session.metadata["owner"].as_ref(), "me");
    assert_eq!(session.programs["p"].language, "lua");
}

#[tokio::test]
async fn a_transaction_does_one_list_when_all_holds_and_else_the_other() {
    let served = Served::with_session().await;
    served.ok(Method::PUT, VARIABLE, Some(json!(0.5))).await;
    let transaction = json!({
        "compare": [{"key": "x", "version": 1}, {"key": "y", "exists": false},
                    {"key": "x", "value": 0.5}],
        "then": [{"set": {"key": "x", "value": 1}}, {"set": {"key": "y", "value": 2}}],
        "otherwise": [{"delete": {"key": "x"}}],
    });
    let path = "/v1/sessions/s/transaction";
    let first = served.ok(Method::POST, path, Some(transaction.clone())).await;
    assert_eq!(
        (&first["succeeded"], &first["results"]),
        (&json!(true), &json!([{"version": 2}, {"version": 1}]))
    );
    assert_eq!(served.ok(Method::GET, VARIABLE, None).await["value"], json!(1.0), "still a float");
    let second = served.ok(Method::POST, path, Some(transaction)).await;
    assert_eq!(
        (&second["succeeded"], &second["results"]),
        (&json!(false), &json!([{"existed": true}]))
    );
}

#[tokio::test]
async fn a_session_is_created_once_and_its_settings_are_kept() {
    let served = Served::start().await;
    let path = "/v1/sessions/s";
    let settings = json!({"ttl": "10m", "metadata": {"owner": "me"}});
    let created = served.raw(Method::PUT, path, Some(settings.clone())).await;
    assert_eq!((created.status.as_u16(), &created.body["created"]), (201, &json!(true)));
    let again = served.raw(Method::PUT, path, Some(settings)).await;
    assert_eq!((again.status.as_u16(), &again.body["created"]), (200, &json!(false)));
    let (status, code, message) = served.no(Method::PUT, path, Some(json!({"ttl": "1h"}))).await;
    assert_eq!((status, code.as_str()), (409, "session-differs"));
    assert!(message.contains("600s") && message.contains("3600s"), "{message}");

    served.ok(Method::POST, &format!("{path}/touch"), None).await;
    served.ok(Method::PUT, &format!("{path}/ttl"), Some(json!({"ttl": null}))).await;
    served.ok(Method::PUT, &format!("{path}/metadata/note"), Some(json!("hi"))).await;
    served.ok(Method::DELETE, &format!("{path}/metadata/owner"), None).await;
    assert_eq!(served.no(Method::DELETE, &format!("{path}/metadata/owner"), None).await.0, 404);
    let session = served.ok(Method::GET, path, None).await;
    assert_eq!((&session["ttl"], &session["metadata"]), (&Json::Null, &json!({"note": "hi"})));

    served.ok(Method::DELETE, path, None).await;
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(served.no(method, path, None).await.0, 404);
    }
    assert_eq!(served.no(Method::POST, &format!("{path}/touch"), None).await.1, "unknown-session");
}

#[tokio::test]
async fn earlier_values_are_shown_as_far_as_they_are_kept() {
    let served = Served::with_session().await;
    let definition = json!({"type": "integer", "value": 0, "history": 2});
    served.ok(Method::PUT, &format!("{VARIABLE}/definition"), Some(definition)).await;
    for value in 1..=4 {
        served.ok(Method::PUT, VARIABLE, Some(json!(value))).await;
    }
    let history = served.client.history(&id("s"), "x", Reading::Local).await.expect("a history");
    let values: Vec<_> = history.values.iter().map(|past| (past.version, &past.value)).collect();
    assert_eq!(values, [(3, &json!(2)), (4, &json!(3)), (5, &json!(4))]);
}

#[tokio::test]
async fn programs_are_stored_listed_read_and_removed() {
    let served = Served::with_session().await;
    let (session, request) = (id("s"), id("r"));
    let code = vec![0, 0xff, b'x'];
    let put = served.client.put_program(&session, "a/b", ("wasm", code.clone()), &request);
    put.await.expect("stored");
    let programs = served.client.programs(&session).await.expect("a list");
    assert_eq!((programs["a/b"].language.as_str(), programs["a/b"].bytes), ("wasm", 3));
    let program = served.client.program(&session, "a/b").await.expect("a program");
    assert_eq!(program.content.bytes(), Some(code));
    served.client.delete_program(&session, "a/b", &id("other")).await.expect("removed");
    let path = "/v1/sessions/s/programs/a%2Fb";
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(served.no(method, path, None).await.0, 404);
    }
}

#[tokio::test]
async fn sessions_and_variables_are_found_by_names_of_any_form() {
    let served = Served::start().await;
    let request = |n: usize| format!("r{n}").parse().expect("an id");
    for (n, text) in ["counter/default", "counter/a/b", "counter/a?b#c%2F", "a+b&c", "x/batch/y"]
        .iter()
        .enumerate()
    {
        let session: SessionId = id(text);
        let settings = SettingsBody::default();
        let client = &served.client;
        client.create_session(&session, &settings, &request(n)).await.expect("created");
        for (m, key) in ["plain", "a/b", "ü? #%2F", "batch"].into_iter().enumerate() {
            let (value, options, request) = (json!(key), SetOptions::default(), request(100 + m));
            let set = client.set_variable(&session, key, &value, options, &request);
            set.await.expect("written");
            let variable = client.variable(&session, key, Reading::Local).await.expect("read");
            assert_eq!(variable.value, json!(key), "{text}: {key}");
        }
        assert_eq!(client.session(&session).await.expect("found").id, session);
    }
    // As people write them.
    let plain = served.ok(Method::GET, "/v1/sessions/counter/a/b?consistency=lease", None).await;
    assert_eq!(plain["id"], "counter/a/b");
    let variable = served.ok(Method::GET, "/v1/sessions/counter/a/b/variables/plain", None).await;
    assert_eq!(variable["value"], "plain");
}

#[tokio::test]
async fn pages_and_patterns_find_everything_once() {
    let served = Served::start().await;
    for n in 0..7 {
        let id = format!("user-{n}");
        served.ok(Method::PUT, &format!("/v1/sessions/{id}"), None).await;
        served.ok(Method::PUT, &format!("/v1/sessions/s{n}"), None).await;
        served
            .ok(Method::PUT, &format!("/v1/sessions/user-0/variables/k{n}"), Some(json!(n)))
            .await;
    }
    let matching = Some(id("user-*"));
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let query = SessionQuery {
            matching: matching.clone(),
            after,
            limit: Some(3),
            ..SessionQuery::default()
        };
        let page = served.client.sessions(&query).await.expect("a page");
        assert!(page.sessions.len() <= 3);
        found.extend(page.sessions.into_iter().map(|one| one.id.to_string()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, (0..7).map(|n| format!("user-{n}")).collect::<Vec<_>>());

    let query =
        VariableQuery { matching: Some(id("k?")), limit: Some(4), ..VariableQuery::default() };
    let page = served.client.variables(&id("user-0"), &query).await.expect("a page");
    assert_eq!((page.variables.len(), page.next.as_deref()), (4, Some("k3")));
    let query = VariableQuery { after: page.next, ..query };
    let page = served.client.variables(&id("user-0"), &query).await.expect("a page");
    assert_eq!((page.variables.len(), page.next), (3, None));
}

#[tokio::test]
async fn an_answer_says_as_of_when_it_is_and_a_local_one_how_far_it_may_be_behind() {
    let served = Served::with_session().await;
    for (reading, behind) in [("local", true), ("lease", false), ("linearizable", false)] {
        let path = format!("/v1/sessions/s?consistency={reading}");
        let headers = served.raw(Method::GET, &path, None).await.headers;
        assert_eq!(headers["odeum-revision"], "1");
        let heard = headers.get("odeum-leader-heard-ms").map(|ms| ms.to_str().expect("ASCII"));
        assert_eq!(heard, behind.then_some("1250"), "{reading}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_about_a_session_is_said() {
    let served = Served::with_session().await;
    let put = |path: &str, body: Json| (Method::PUT, format!("/v1/sessions/s{path}"), Some(body));
    let post = |path: &str, body: Json| (Method::POST, format!("/v1/sessions/s{path}"), Some(body));
    let get = |path: &str| (Method::GET, format!("/v1/sessions{path}"), None);
    let long = "x".repeat(limits::KEY_BYTES + 1);
    let large = json!("x".repeat(limits::VARIABLE_BYTES + 1));
    let cases = [
        (get("/s?consistency=lcoal"), 400, "nearest is `local`"),
        (get("/s?consistncy=local"), 400, "consistncy"),
        (get("?limit=0"), 400, "1 to 1000"),
        (get("?match="), 400, "name pattern"),
        (get("/s/variables/missing"), 404, "missing"),
        (get("/none"), 404, "session none"),
        (get("/s/watch?after=soon"), 400, "GROUP:NUMBER"),
        (get("/s/batch"), 405, "GET"),
        (put("/variables/x?type=flaot", json!(1)), 400, "nearest is `float`"),
        (put("/variables/x?type=integer", json!("one")), 422, "whole number"),
        (put("/variables/x?type=bytes", json!("?")), 422, "Base64"),
        (put("/variables/x?register=false", json!(1)), 404, "no variable x"),
        (put(&format!("/variables/{long}"), json!(1)), 400, "128"),
        (put("/variables/x", large), 413, "262144"),
        (put("/variables/x/definition", json!({"type": "integer"})), 400, "`value`"),
        (put("/variables/x/definition", json!({"type": "int", "value": 1})), 400, "integer"),
        (
            put(
                "/variables/x/definition",
                json!({"type": "boolean", "value": true, "constraints": {"min": 1}}),
            ),
            422,
            "min cannot constrain a boolean",
        ),
        (
            put(
                "/variables/x/definition",
                json!({"type": "integer", "value": 1, "constraints": {"mim": 1}}),
            ),
            422,
            "mim",
        ),
        (
            put(
                "/variables/x/definition",
                json!({"type": "integer", "value": 1, "constraints": {"min": 2}}),
            ),
            422,
            "below min 2",
        ),
        (put("/ttl", json!({})), 400, "`ttl`"),
        (put("/ttl", json!({"ttl": "0s"})), 400, "cannot be 0"),
        (put("/ttl", json!({"ttl": 5})), 400, "line 1 column"),
        (put("", json!({"tll": "5s"})), 400, "tll"),
        (put("/metadata/k", json!(5)), 400, "string"),
        (post("/batch", json!({"operations": [{"sett": {}}]})), 400, "sett"),
        (
            post(
                "/batch",
                json!({"operations": [{"set": {"key": "x", "value": 1, "expcted": 1}}]}),
            ),
            400,
            "expcted",
        ),
        (post("/transaction", json!({"compare": [{"key": "x"}]})), 400, "`version`"),
    ];
    for ((method, path, body), status, part) in cases {
        let (got, _, message) = served.no(method.clone(), &path, body).await;
        assert_eq!(got, status, "{method} {path}: {message}");
        assert!(message.contains(part), "{method} {path}: {part:?} is not in: {message}");
    }
}

#[tokio::test]
async fn json_that_is_none_is_refused_with_its_place() {
    let served = Served::with_session().await;
    for (body, place) in
        [("{\"a\": 1,}", "line 1 column 9"), ("[1\n2]", "line 2 column 1"), ("", "empty")]
    {
        let (status, error, _) = served.refused(Method::PUT, VARIABLE, body.into()).await;
        assert_eq!((status, error.error.as_str()), (400, "bad-request"));
        assert!(error.message.contains(place), "{}", error.message);
    }
}
