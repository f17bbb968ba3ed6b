//! The HTTP API of a node: its JSON ([`types`]), the client that speaks it ([`client`]), and the
//! actor that serves it ([`bind`], [`spec`]) for what is behind it ([`ApiNode`]).
//!
//! Everything a person does with `odeum` goes through here, so that `curl` can do the same. Every
//! answer that is no success is [`types::ErrorBody`] in JSON; its statuses are at [`Problem`].
//!
//! | request | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 when it is in a cluster and the store has a leader, else 503 |
//! | `GET /v1/status` | [`types::NodeStatus`] |
//! | `GET /v1/nodes` | list of [`types::NodeSummary`] |
//! | `POST /v1/nodes/{id}/leave?patience=` | 204 when it has left |
//! | `POST /v1/nodes/{id}/stay` | 204 |
//! | `GET /v1/links` | [`types::LinksReport`] |
//! | `GET /v1/doctor` | [`crate::doctor::Facts`] |
//! | `GET /v1/firmware` | list of [`types::FirmwareSummary`] |
//! | `GET /v1/firmware/{name}` | [`types::FirmwareSummary`] |
//! | `PUT /v1/firmware/{name}?memory=&time=` wasm or wat | 201 [`types::Deployed`] |
//! | `DELETE /v1/firmware/{name}` | 204 |
//! | `POST /v1/firmware/{name}/call` message | 200 reply; headers `Odeum-Node`, `Odeum-Epoch`, `Odeum-Replayed` |
//! | `GET /v1/blobs?limit=&after=` | [`types::BlobPage`] |
//! | `GET /v1/store` | [`types::StoreReport`] |
//! | `GET /v1/store/backup` | the bytes of a [backup](odeum_cluster::store::Backup), cut off when it fails |
//! | `PUT /v1/store/restore` the bytes of a backup | [`types::Restored`] |
//! | `POST /v1/store/compact` | [`types::CompactReport`] |
//! | `GET /v1/sessions?match=&limit=&after=` | [`types::SessionPage`] |
//! | `PUT /v1/sessions/{id}` [`types::SettingsBody`] or nothing | 201 or 200 [`types::SessionCreated`] |
//! | `GET /v1/sessions/{id}` | [`types::Session`] |
//! | `DELETE /v1/sessions/{id}` | 204 |
//! | `POST /v1/sessions/{id}/touch` | [`types::Changed`] |
//! | `PUT /v1/sessions/{id}/ttl` [`types::TtlBody`] | [`types::Changed`] |
//! | `GET /v1/sessions/{id}/variables?match=&limit=&after=` | [`types::VariablePage`] |
//! | `GET /v1/sessions/{id}/variables/{key}` | [`types::SessionVariable`]; its version as `ETag` |
//! | `PUT /v1/sessions/{id}/variables/{key}?type=&expected=&register=` a JSON value | [`types::Written`] |
//! | `PUT /v1/sessions/{id}/variables/{key}/definition` [`types::DefinitionBody`] | [`types::Written`] |
//! | `GET /v1/sessions/{id}/variables/{key}/history` | [`types::VariableHistory`] |
//! | `DELETE /v1/sessions/{id}/variables/{key}?expected=` | 204 |
//! | `POST /v1/sessions/{id}/batch` [`types::BatchBody`] | [`types::BatchAnswer`] |
//! | `POST /v1/sessions/{id}/transaction` [`types::TransactionBody`] | [`types::TransactionAnswer`] |
//! | `GET /v1/sessions/{id}/programs` | [`types::ProgramSummary`] by name |
//! | `GET /v1/sessions/{id}/programs/{name}` | [`types::SessionProgram`] |
//! | `PUT /v1/sessions/{id}/programs/{name}?language=` its bytes | [`types::Changed`] |
//! | `DELETE /v1/sessions/{id}/programs/{name}` | 204 |
//! | `PUT /v1/sessions/{id}/metadata/{key}` a JSON string | [`types::Changed`] |
//! | `DELETE /v1/sessions/{id}/metadata/{key}` | 204 |
//! | `GET /v1/sessions/{id}/watch?after=` | lines of [`types::WatchLine`] as they come |
//! | `GET /v1/watch?match=&after=` | the same of many sessions |
//! | `GET /v1/actors?format=json\|text` | [`types::ActorNode`], or a drawing |
//!
//! A call takes the headers `Idempotency-Key`, `Odeum-Session` and `Odeum-Deadline`. Sent again
//! with the same key it takes effect once. So does a change of a session within ten minutes.
//!
//! A session's id and a variable's name are one segment of a path, with `%2F` for `/`; where no
//! word of the table follows, an id may have its `/` as they are. A write may name the version
//! that it expects, by `expected` or by `If-Match`; 0, or `If-None-Match: *`, is for what must not
//! be there.
//!
//! Reads of a session take `consistency`: `linearizable`, unless told otherwise, `lease` or
//! `local`; see [`odeum_cluster::store::Consistency`]. Their answers have the header
//! `Odeum-Revision`, after which a watch goes on, local ones `Odeum-Leader-Heard-Ms`, too: by as
//! much they may be behind. Watches are lines of JSON, or server-sent events for who accepts
//! `text/event-stream`, and end with an `end` line when the node stops.

pub mod client;
mod node;
mod problem;
mod routes;
mod server;
pub mod types;

pub use node::{
    ApiNode, BackupFeed, Deployment, Feed, Listing, LogFeed, Received, Sight, Subject, Told,
};
pub use problem::Problem;
pub use server::{BindError, Listening, bind, spec};

#[cfg(test)]
mod tests;
