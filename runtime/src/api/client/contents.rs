//! What is in a session: its variables, programs and metadata.

use std::collections::BTreeMap;

use odeum_proto::{RequestId, SessionId, session::ValueType};
use serde::Serialize;
use serde_json::Value as Json;

use super::{ApiClient, ApiError, session::with_query};
use crate::api::types::{
    BatchAnswer, Changed, DefinitionBody, ProgramSummary, REQUEST_HEADER, Reading, SessionProgram,
    SessionVariable, TransactionAnswer, VariableHistory, Written,
};

/// How a variable is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct SetOptions {
    /// The type of the value; that of the variable when there is none.
    pub kind: Option<ValueType>,
    /// The version it must have; 0 when it must not be there.
    pub expected: Option<u64>,
    /// Whether it must be there.
    pub must_exist: bool,
}

/// Changes take a name of the request: sent again under the same name within ten minutes, a change
/// is made once.
impl ApiClient {
    /// A variable.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn variable(
        &self,
        id: &SessionId,
        key: &str,
        consistency: Reading,
    ) -> Result<SessionVariable, ApiError> {
        self.read(self.inside(id, &["variables", key])?, consistency).await
    }

    /// The values of a variable, as far as they are kept.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn history(
        &self,
        id: &SessionId,
        key: &str,
        consistency: Reading,
    ) -> Result<VariableHistory, ApiError> {
        self.read(self.inside(id, &["variables", key, "history"])?, consistency).await
    }

    /// Writes a variable.
    ///
    /// # Errors
    /// See [`ApiError`]; 412 when it has another version than expected, 422 when it does not
    /// allow the value.
    pub async fn set_variable(
        &self,
        id: &SessionId,
        key: &str,
        value: &Json,
        options: SetOptions,
        request: &RequestId,
    ) -> Result<Written, ApiError> {
        let url = with_query(
            self.inside(id, &["variables", key])?,
            &[
                ("type", options.kind.map(|kind| kind.to_string())),
                ("expected", options.expected.map(|version| version.to_string())),
                ("register", options.must_exist.then(|| "false".to_owned())),
            ],
        );
        self.changed(self.http.put(url).json(value), request).await
    }

    /// Makes a variable of a type; one that is there with the same definition stays as it is.
    ///
    /// # Errors
    /// See [`ApiError`]; 409 when it is there with another definition, 422 when the definition
    /// cannot be or does not allow the value.
    pub async fn register_variable(
        &self,
        id: &SessionId,
        key: &str,
        definition: &DefinitionBody,
        request: &RequestId,
    ) -> Result<Written, ApiError> {
        let url = self.inside(id, &["variables", key, "definition"])?;
        self.changed(self.http.put(url).json(definition), request).await
    }

    /// Removes a variable, if it has version `expected` when that is said.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn delete_variable(
        &self,
        id: &SessionId,
        key: &str,
        expected: Option<u64>,
        request: &RequestId,
    ) -> Result<(), ApiError> {
        let url = self.inside(id, &["variables", key])?;
        let url = with_query(url, &[("expected", expected.map(|version| version.to_string()))]);
        let delete = self.http.delete(url).header(REQUEST_HEADER, request.as_str());
        self.send(delete).await.map(drop)
    }

    /// Does several things in a session as one change: a
    /// [`BatchBody`](crate::api::types::BatchBody) in JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn batch(
        &self,
        id: &SessionId,
        batch: &impl Serialize,
        request: &RequestId,
    ) -> Result<BatchAnswer, ApiError> {
        self.changed(self.http.post(self.inside(id, &["batch"])?).json(batch), request).await
    }

    /// Does one of two lists of things in a session as one change: a
    /// [`TransactionBody`](crate::api::types::TransactionBody) in JSON.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn transaction(
        &self,
        id: &SessionId,
        transaction: &impl Serialize,
        request: &RequestId,
    ) -> Result<TransactionAnswer, ApiError> {
        let url = self.inside(id, &["transaction"])?;
        self.changed(self.http.post(url).json(transaction), request).await
    }

    /// The programs of a session, without their contents.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn programs(
        &self,
        id: &SessionId,
    ) -> Result<BTreeMap<String, ProgramSummary>, ApiError> {
        self.read(self.inside(id, &["programs"])?, Reading::Linearizable).await
    }

    /// A program of a session.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn program(&self, id: &SessionId, name: &str) -> Result<SessionProgram, ApiError> {
        self.read(self.inside(id, &["programs", name])?, Reading::Linearizable).await
    }

    /// Stores a program in a session.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn put_program(
        &self,
        id: &SessionId,
        name: &str,
        (language, content): (&str, Vec<u8>),
        request: &RequestId,
    ) -> Result<Changed, ApiError> {
        let url = self.inside(id, &["programs", name])?;
        let url = with_query(url, &[("language", Some(language.to_owned()))]);
        self.changed(self.http.put(url).body(content), request).await
    }

    /// Removes a program of a session.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn delete_program(
        &self,
        id: &SessionId,
        name: &str,
        request: &RequestId,
    ) -> Result<(), ApiError> {
        let delete = self.http.delete(self.inside(id, &["programs", name])?);
        self.send(delete.header(REQUEST_HEADER, request.as_str())).await.map(drop)
    }

    /// Sets an entry of a session's metadata.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn set_metadata(
        &self,
        id: &SessionId,
        key: &str,
        value: &str,
        request: &RequestId,
    ) -> Result<Changed, ApiError> {
        let url = self.inside(id, &["metadata", key])?;
        self.changed(self.http.put(url).json(value), request).await
    }

    /// Removes an entry of a session's metadata.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown one is [`ApiError::Refused`] with status 404.
    pub async fn delete_metadata(
        &self,
        id: &SessionId,
        key: &str,
        request: &RequestId,
    ) -> Result<(), ApiError> {
        let delete = self.http.delete(self.inside(id, &["metadata", key])?);
        self.send(delete.header(REQUEST_HEADER, request.as_str())).await.map(drop)
    }
}
