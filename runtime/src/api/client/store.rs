//! Backups and compactions of the store.

use std::{
    fs::File,
    io::{self, Read as _},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use reqwest::{Body, Method, Response};
use tokio::time::timeout;

use super::{ApiClient, ApiError};
use crate::api::types::{CompactReport, Restored};

/// How long a node may say nothing while it makes a backup: the largest blob comes from another node
/// in less.
const SILENCE: Duration = Duration::from_secs(180);
/// How long a backup or a restore may take as a whole: as long as it takes.
const FOREVER: Duration = Duration::from_secs(24 * 3_600);
/// How long a compaction may take; the node gives up before.
const COMPACT_TIMEOUT: Duration = Duration::from_secs(310);
/// Bytes of a file that are sent at a time.
const CHUNK: usize = 256 << 10;

/// A backup as it comes. Dropping it ends it.
#[derive(Debug)]
pub struct BackupBytes {
    client: ApiClient,
    answer: Response,
}

impl ApiClient {
    /// A backup of the whole store.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn backup(&self) -> Result<BackupBytes, ApiError> {
        let request = self.request(Method::GET, &["v1", "store", "backup"]).timeout(FOREVER);
        let answer = timeout(SILENCE, self.send(request)).await.map_err(|_| self.no_word())??;
        Ok(BackupBytes { client: self.clone(), answer })
    }

    /// Restores the backup in `file`, of `length` bytes, into the cluster of the node.
    ///
    /// # Errors
    /// See [`ApiError`]; a cluster that is not empty is [`ApiError::Refused`] with 409, a damaged
    /// file with 422. After [`ApiError::NoAnswer`] the same backup can be sent again.
    pub async fn restore(&self, file: File, length: u64) -> Result<Restored, ApiError> {
        let body = Body::wrap(FileBody { file, left: length });
        let request = self.request(Method::PUT, &["v1", "store", "restore"]);
        self.json(self.send(request.timeout(FOREVER).body(body)).await?).await
    }

    /// Makes the logs of all nodes as short as they can be.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn compact(&self) -> Result<CompactReport, ApiError> {
        let request = self.request(Method::POST, &["v1", "store", "compact"]);
        self.json(self.send(request.timeout(COMPACT_TIMEOUT)).await?).await
    }

    fn no_word(&self) -> ApiError {
        let reason = format!("it said nothing for {}", humantime::format_duration(SILENCE));
        ApiError::NoAnswer { url: self.address(), reason: reason.into() }
    }
}

impl BackupBytes {
    /// The next bytes; `None` at the end of a complete answer.
    ///
    /// # Errors
    /// See [`ApiError`]; [`ApiError::NoAnswer`] when the node could not finish it, whose log says
    /// why.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let chunk = timeout(SILENCE, self.answer.chunk()).await;
        let chunk = chunk.map_err(|_| self.client.no_word())?;
        chunk.map_err(|error| self.client.no_answer(&error))
    }
}

/// A file as the body of a request, read as it is sent. Reading blocks, which the command line
/// can bear: it does nothing else meanwhile.
struct FileBody {
    file: File,
    left: u64,
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let length = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        if length == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; length];
        let read = self.file.read_exact(&mut chunk).map(|()| {
            self.left -= length as u64;
            Frame::data(chunk.into())
        });
        Poll::Ready(Some(read))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
