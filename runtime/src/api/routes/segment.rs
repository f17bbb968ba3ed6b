//! Ids of sessions in paths.
//!
//! An id may have `/` in it, and is one segment of a path when they are written `%2F`. Because
//! people write `/v1/sessions/counter/default`, an id may also go over several segments: it ends
//! before the first word that is about something in a session.

use axum::http::{Request, Uri, uri::PathAndQuery};

/// What sessions are under.
const SESSIONS: &str = "/v1/sessions/";

/// What there is in a session. A session whose id has one of these behind a `/` can only be named
/// with `%2F`.
const INSIDE: [&str; 8] =
    ["batch", "metadata", "programs", "touch", "transaction", "ttl", "variables", "watch"];

/// `request` with the id of its session, if its path has one, in one segment.
pub(super) fn joined<B>(mut request: Request<B>) -> Request<B> {
    if let Some(uri) = joined_uri(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

fn joined_uri(uri: &Uri) -> Option<Uri> {
    let path = joined_path(uri.path())?;
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

/// `path` with an id in one segment; `None` when it needs no change.
fn joined_path(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.strip_prefix(SESSIONS)?.split('/').collect();
    let behind = segments.iter().skip(1).position(|segment| INSIDE.contains(segment));
    let end = behind.map_or(segments.len(), |at| at + 1);
    let (id, rest) = segments.split_at(end);
    let mut joined = format!("{SESSIONS}{}", id.join("%2F"));
    for segment in rest {
        joined.push('/');
        joined.push_str(segment);
    }
    (id.len() > 1).then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_over_several_segments_ends_before_what_is_in_the_session() {
        for (path, joined) in [
            ("/v1/sessions/counter/default", "/v1/sessions/counter%2Fdefault"),
            ("/v1/sessions/a/b/variables/k", "/v1/sessions/a%2Fb/variables/k"),
            ("/v1/sessions/a/b/c/watch", "/v1/sessions/a%2Fb%2Fc/watch"),
            ("/v1/sessions/batch/a/variables", "/v1/sessions/batch%2Fa/variables"),
            ("/v1/sessions/a/", "/v1/sessions/a%2F"),
        ] {
            assert_eq!(joined_path(path).as_deref(), Some(joined), "{path}");
        }
    }

    #[test]
    fn what_is_in_one_segment_or_about_something_else_stays() {
        for path in [
            "/v1/sessions",
            "/v1/sessions/",
            "/v1/sessions/a",
            "/v1/sessions/a%2Fbatch/variables/x%2Fy/history",
            "/v1/sessions/variables/variables",
            "/v1/firmware/a/call",
        ] {
            assert_eq!(joined_path(path), None, "{path}");
        }
    }

    #[test]
    fn the_query_stays() {
        let uri: Uri = "/v1/sessions/a/b?consistency=local".parse().expect("a path");
        let joined = joined_uri(&uri).expect("two segments");
        assert_eq!(joined.to_string(), "/v1/sessions/a%2Fb?consistency=local");
    }
}
