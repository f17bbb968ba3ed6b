//! Watches and logs: what comes line by line.

use std::{collections::VecDeque, fmt::Display, marker::PhantomData, time::Duration};

use odeum_proto::{SessionId, session::Glob};
use reqwest::{Response, Url};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{ApiClient, ApiError, session::with_query};
use crate::api::types::{After, LogLine, LogOptions, WatchLine};

/// How long a node may say nothing: three times as long as it does while nothing changes.
const SILENCE: Duration = Duration::from_secs(45);

/// How long a watch may take as a whole: as long as anybody looks on.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Longest line that is read: a session with as much in it as a group of the store holds.
const LINE_BYTES: usize = 512 << 20;

/// What is watched.
#[derive(Debug, Clone)]
pub enum Watched {
    /// One session.
    Session(SessionId),
    /// All sessions with such ids.
    Matching(Glob),
}

/// The lines of a watch as they come. Dropping it ends the watch.
pub type WatchLines = JsonLines<WatchLine>;

/// The lines of a log as they come. Dropping it ends the reading.
pub type LogLines = JsonLines<LogLine>;

/// Lines of JSON as they come. Dropping it ends what tells them.
#[derive(Debug)]
pub struct JsonLines<T> {
    client: ApiClient,
    answer: Response,
    /// What came behind the last line that was taken.
    rest: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
    of: PhantomData<fn() -> T>,
}

impl ApiClient {
    /// Watches sessions, from what came after `after` on, or from now on.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn watch(
        &self,
        watched: &Watched,
        after: Option<&After>,
    ) -> Result<WatchLines, ApiError> {
        let after = ("after", after.map(ToString::to_string));
        let url: Url = match watched {
            Watched::Session(id) => with_query(self.inside(id, &["watch"])?, &[after]),
            Watched::Matching(glob) => {
                let matching = ("match", Some(glob.to_string()));
                with_query(self.path(&["v1", "watch"]), &[matching, after])
            }
        };
        self.lines(url).await
    }

    /// What a firmware has logged, and with [`LogOptions::follow`] what it logs from now on.
    ///
    /// # Errors
    /// See [`ApiError`]; an unknown firmware is [`ApiError::Refused`] with status 404.
    pub async fn logs(
        &self,
        name: &impl Display,
        options: &LogOptions,
    ) -> Result<LogLines, ApiError> {
        let LogOptions { tail, since, follow, after } = options;
        let pairs = [
            ("tail", tail.map(|lines| lines.to_string())),
            ("since", since.map(|since| since.to_string())),
            ("follow", follow.then(|| follow.to_string())),
            ("after", after.as_ref().map(ToString::to_string)),
        ];
        let path = self.path(&["v1", "firmware", &name.to_string(), "logs"]);
        self.lines(with_query(path, &pairs)).await
    }

    async fn lines<T>(&self, url: Url) -> Result<JsonLines<T>, ApiError> {
        let asked = self.send(self.http.get(url).timeout(FOREVER));
        let answer = timeout(SILENCE, asked).await.map_err(|_| self.silent())??;
        let (rest, lines) = (Vec::new(), VecDeque::new());
        Ok(JsonLines { client: self.clone(), answer, rest, lines, of: PhantomData })
    }

    fn silent(&self) -> ApiError {
        let reason = format!("it said nothing for {}", humantime::format_duration(SILENCE));
        ApiError::NoAnswer { url: self.address(), reason: reason.into() }
    }
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// The next line; `None` when there are no more. Cancelling it loses nothing.
    ///
    /// # Errors
    /// See [`ApiError`]. A watch that goes on after what was told loses nothing.
    pub async fn next(&mut self) -> Result<Option<T>, ApiError> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                let line = serde_json::from_slice(&line);
                return line.map(Some).map_err(|error| self.client.not_odeum(&error));
            }
            let chunk = timeout(SILENCE, self.answer.chunk()).await;
            let chunk = chunk.map_err(|_| self.client.silent())?;
            match chunk.map_err(|error| self.client.no_answer(&error))? {
                Some(chunk) => self.take(&chunk)?,
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), ApiError> {
        let mut parts = chunk.split(|byte| *byte == b'\n');
        // What is behind the last newline is no whole line yet.
        let last = parts.next_back().unwrap_or_default();
        for part in parts {
            self.rest.extend_from_slice(part);
            self.lines.push_back(std::mem::take(&mut self.rest));
        }
        self.rest.extend_from_slice(last);
        if self.rest.len() > LINE_BYTES {
            return Err(self.client.not_odeum(&"a line does not end"));
        }
        Ok(())
    }
}
