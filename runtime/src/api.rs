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
//! | `GET /v1/sessions?limit=&after=` | [`types::SessionPage`] |
//! | `GET /v1/sessions/{id}` | [`types::Session`] |
//! | `DELETE /v1/sessions/{id}` | 204 |
//! | `GET /v1/actors?format=json\|text` | [`types::ActorNode`], or a drawing |
//!
//! A call takes the headers `Idempotency-Key`, `Odeum-Session` and `Odeum-Deadline`. Sent again
//! with the same key it takes effect once.

pub mod client;
mod node;
mod problem;
mod routes;
mod server;
pub mod types;

pub use node::{ApiNode, Deployment};
pub use problem::Problem;
pub use server::{BindError, Listening, bind, spec};

#[cfg(test)]
mod tests;
