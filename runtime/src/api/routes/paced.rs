//! A backup on its way to a client that may stop to read.
//!
//! A body that nobody asks for its next bytes cannot end by itself, and what it is made of, here a
//! copy of the store's index, would stay for as long as the connection does. So that is held by a
//! task of its own, which hands on one piece at a time and gives up when nobody takes it.

use std::{error::Error, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use odeum_cluster::store::BackupError;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::timeout,
};

use crate::api::node::BackupFeed;

/// A piece of a backup; `None` is its end.
type Next = Option<Result<Bytes, BackupError>>;

/// Why there is no more of a backup that has no end.
type Cut = Box<dyn Error + Send + Sync>;

/// The bytes of `feed`. It is dropped, and `permit` with it, when the client goes, when it was given
/// to its end, and when nobody asks for its next piece within `patience`.
pub(super) fn paced(
    feed: BackupFeed,
    permit: OwnedSemaphorePermit,
    patience: Duration,
) -> impl Stream<Item = Result<Bytes, Cut>> + Send {
    let (to, from) = mpsc::channel(1);
    let mut task = JoinSet::new();
    task.spawn(async move {
        hand_on(feed, to, patience).await;
        drop(permit);
    });
    // The task ends with the stream that holds it.
    stream::unfold(Some((from, task)), move |rest| async move {
        let (mut from, task) = rest?;
        match from.recv().await {
            Some(Some(Ok(bytes))) => Some((Ok(bytes), Some((from, task)))),
            Some(Some(Err(error))) => Some((Err(error.into()), None)),
            Some(None) => None,
            None => {
                let reason = format!("nobody read the backup for {patience:?}");
                Some((Err(reason.into()), None))
            }
        }
    })
}

async fn hand_on(mut feed: BackupFeed, to: mpsc::Sender<Next>, patience: Duration) {
    loop {
        let next = feed.next().await;
        let last = !matches!(next, Some(Ok(_)));
        match timeout(patience, to.send(next)).await {
            Ok(Ok(())) if !last => {}
            Ok(_) => return,
            Err(_) => return tracing::warn!(?patience, "nobody reads the backup: it is given up"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    fn backup(pieces: usize) -> BackupFeed {
        stream::iter((0..pieces).map(|_| Ok(Bytes::from_static(b"piece")))).boxed()
    }

    #[tokio::test]
    async fn a_backup_that_nobody_reads_is_given_up_and_has_no_end() {
        let room = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&room).try_acquire_owned().expect("free");
        let mut body = Box::pin(paced(backup(9), permit, PATIENCE));
        assert!(matches!(body.next().await, Some(Ok(_))));
        assert_eq!(room.available_permits(), 0, "it is under way");
        let _free = room.acquire().await.expect("not closed");
        assert!(matches!(body.next().await, Some(Ok(_))), "this one was on its way");
        let cut = body.next().await.expect("no end").expect_err("cut off");
        assert!(cut.to_string().contains("20ms"), "{cut}");
        assert!(body.next().await.is_none());
    }

    #[tokio::test]
    async fn a_backup_has_its_place_until_it_is_given_or_its_client_goes() {
        let room = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&room).try_acquire_owned().expect("free");
        let pieces = paced(backup(9), permit, PATIENCE).collect::<Vec<_>>().await;
        assert_eq!(pieces.iter().filter(|piece| piece.is_ok()).count(), 9);
        let permit = Arc::clone(&room).acquire_owned().await.expect("not closed");
        let body = paced(stream::pending().boxed(), permit, PATIENCE);
        drop(body);
        let _free = room.acquire().await.expect("not closed");
    }
}
