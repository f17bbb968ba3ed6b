//! What the rows of a backup count in the group that they come into, which is what their contents
//! counted in the group that they come from.

use odeum_proto::backup::Row;

use super::request::answer_bytes;
use super::session::program_bytes;
use super::variable::{past_bytes, plain_bytes};
use super::window::request_bytes;
use super::{entity, session};

/// What `row` counts against a group's quota. Its place in a file is another matter
/// ([`Row::weight`]): there the names of what it belongs to are in every row.
pub(in crate::store) fn counted(row: &Row) -> u64 {
    match row {
        Row::Session(row) => session::empty_bytes(&row.id, &row.metadata),
        Row::Variable(row) => {
            let defined = row.definition.as_ref().map_or(0, |definition| definition.weight());
            plain_bytes(&row.key, &row.value) + defined as u64
        }
        Row::Past { value, .. } => past_bytes(value),
        Row::Program { name, program, .. } => program_bytes(name, program),
        Row::Answer { request, outcome, .. } => answer_bytes(request, outcome),
        Row::Entity { entity, .. } => entity::empty_bytes(entity),
        Row::Reply { request, reply, .. } => request_bytes(request, reply.as_deref()),
    }
}
