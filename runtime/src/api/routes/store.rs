//! `/v1/store`: the groups of the replicated store.

use axum::{Json, extract::State};

use super::Node;
use crate::api::types::StoreReport;

pub(super) async fn report(State(node): Node) -> Json<StoreReport> {
    Json(node.store())
}
