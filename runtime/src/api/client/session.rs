//! Sessions: what a client reads and changes.

use odeum_proto::{RequestId, SessionId, session::Glob};
use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;

use super::{ApiClient, ApiError};
use crate::api::types::{
    Changed, REQUEST_HEADER, Reading, Session, SessionCreated, SessionPage, SettingsBody, TtlBody,
    VariablePage,
};

/// Which sessions are listed; all, from the first on, unless told otherwise.
#[derive(Debug, Clone, Default)]
pub struct SessionQuery {
    /// Those with such ids.
    pub matching: Option<Glob>,
    /// Behind this one.
    pub after: Option<SessionId>,
    /// At most so many.
    pub limit: Option<usize>,
    /// How fresh the list must be.
    pub consistency: Reading,
}

/// Which variables are listed; all, from the first on, unless told otherwise.
#[derive(Debug, Clone, Default)]
pub struct VariableQuery {
    /// Those with such names.
    pub matching: Option<Glob>,
    /// Behind this one.
    pub after: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// How fresh the list must be.
    pub consistency: Reading,
}

/// Changes take a name of the request: sent again under the same name within ten minutes, a change
/// is made once.
impl ApiClient {
    /// A page of sessions.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn sessions(&self, query: &SessionQuery) -> Result<SessionPage, ApiError> {
        let url = with_query(
            self.path(&["v1", "sessions"]),
            &[
                ("match", query.matching.as_ref().map(ToString::to_string)),
                ("after", query.after.as_ref().map(ToString::to_string)),
                ("limit", query.limit.map(|limit| limit.to_string())),
                ("consistency", Some(query.consistency.to_string())),
            ],
        );
        self.json(self.send(self.http.get(url)).await?).await
    }

    /// A session with its variables, as it is after all that was acknowledged.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn session(&self, id: &SessionId) -> Result<Session, ApiError> {
        self.session_read(id, Reading::Linearizable).await
    }

    /// A session with its variables, as fresh as wished.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn session_read(
        &self,
        id: &SessionId,
        consistency: Reading,
    ) -> Result<Session, ApiError> {
        self.read(self.inside(id, &[])?, consistency).await
    }

    /// Creates a session; one that is there with the same settings stays as it is.
    ///
    /// # Errors
    /// See [`ApiError`]; 409 when it is there with other settings.
    pub async fn create_session(
        &self,
        id: &SessionId,
        settings: &SettingsBody,
        request: &RequestId,
    ) -> Result<SessionCreated, ApiError> {
        let put = self.http.put(self.inside(id, &[])?).json(settings);
        self.changed(put, request).await
    }

    /// Deletes a session with all that is in it.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn delete_session(&self, id: &SessionId) -> Result<(), ApiError> {
        self.send(self.http.delete(self.inside(id, &[])?)).await.map(drop)
    }

    /// Renews a session's time to live.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn touch_session(
        &self,
        id: &SessionId,
        request: &RequestId,
    ) -> Result<Changed, ApiError> {
        self.changed(self.http.post(self.inside(id, &["touch"])?), request).await
    }

    /// Gives a session another time to live.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn set_session_ttl(
        &self,
        id: &SessionId,
        ttl: &TtlBody,
        request: &RequestId,
    ) -> Result<Changed, ApiError> {
        self.changed(self.http.put(self.inside(id, &["ttl"])?).json(ttl), request).await
    }

    /// A page of a session's variables.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn variables(
        &self,
        id: &SessionId,
        query: &VariableQuery,
    ) -> Result<VariablePage, ApiError> {
        let url = with_query(
            self.inside(id, &["variables"])?,
            &[
                ("match", query.matching.as_ref().map(ToString::to_string)),
                ("after", query.after.clone()),
                ("limit", query.limit.map(|limit| limit.to_string())),
            ],
        );
        self.read(url, query.consistency).await
    }

    /// The address of something in a session, whose id is one segment of it.
    pub(super) fn inside(&self, id: &SessionId, segments: &[&str]) -> Result<Url, ApiError> {
        let path: Vec<&str> =
            ["v1", "sessions", id.as_str()].into_iter().chain(segments.iter().copied()).collect();
        // An address is tidied up wherever it comes by, and these would go.
        match path.iter().find(|segment| matches!(**segment, "." | "..")) {
            Some(name) => Err(ApiError::NoPath { name: (*name).into() }),
            None => Ok(self.path(&path)),
        }
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        url: Url,
        consistency: Reading,
    ) -> Result<T, ApiError> {
        let url = with_query(url, &[("consistency", Some(consistency.to_string()))]);
        self.json(self.send(self.http.request(Method::GET, url)).await?).await
    }

    pub(super) async fn changed<T: DeserializeOwned>(
        &self,
        change: RequestBuilder,
        request: &RequestId,
    ) -> Result<T, ApiError> {
        let change = change.header(REQUEST_HEADER, request.as_str()).timeout(super::CHANGE_TIMEOUT);
        self.json(self.send(change).await?).await
    }
}

pub(super) fn with_query(mut url: Url, given: &[(&str, Option<String>)]) -> Url {
    for (key, value) in given {
        if let Some(value) = value {
            url.query_pairs_mut().append_pair(key, value);
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_with_slashes_and_odd_characters_reaches_the_server_whole() {
        let client = ApiClient::new("http://127.0.0.1:7070/").expect("an address");
        let id: SessionId = "counter/a?b#c%2F/d".parse().expect("an id");
        let url = client.inside(&id, &["variables", "x/y ä"]).expect("an address");
        assert_eq!(
            url.as_str(),
            "http://127.0.0.1:7070/v1/sessions/counter%2Fa%3Fb%23c%252F%2Fd/variables/x%2Fy%20%C3%A4"
        );
    }

    #[test]
    fn a_name_that_would_change_the_address_is_refused() {
        let client = ApiClient::new("http://127.0.0.1:7070/").expect("an address");
        let id: SessionId = "..".parse().expect("an id");
        assert!(matches!(client.inside(&id, &[]), Err(ApiError::NoPath { .. })));
    }
}
