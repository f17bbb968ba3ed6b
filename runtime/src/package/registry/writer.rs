//! Takes what a registry sends, and no more than it has announced.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// Bytes in memory, up to a bound.
#[derive(Debug)]
pub(super) struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl Bounded {
    pub(super) fn new(limit: usize) -> Self {
        // Memory follows what comes, not what is announced.
        Self { bytes: Vec::new(), limit }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.bytes.into()
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        more: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.bytes.len() + more.len() > self.limit {
            let told =
                format!("the registry sends more than the {} bytes it announced", self.limit);
            return Poll::Ready(Err(io::Error::other(told)));
        }
        self.bytes.extend_from_slice(more);
        Poll::Ready(Ok(more.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn more_than_was_announced_is_refused() {
        let mut writer = Bounded::new(5);
        writer.write_all(b"hello").await.expect("it fits");
        assert!(writer.write_all(b"!").await.is_err());
        assert_eq!(&writer.into_bytes()[..], b"hello");
    }
}
