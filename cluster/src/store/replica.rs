//! The replica of one group on this node, as it comes and goes.

use std::sync::Arc;
use std::time::Duration;

use super::error::StoreError;
use super::front::Shared;
use super::group::Group;

/// How long a replica that was left by a crash of its actor may take to let go of its files: its
/// running requests end first, and each of them has a deadline.
const LETTING_GO: Duration = Duration::from_secs(10);

impl Shared {
    /// Starts the replica, after what may be left of an earlier one has ended.
    pub(super) async fn start(&self) -> Result<Arc<Group>, StoreError> {
        self.stop().await?;
        let rpc = Arc::clone(&self.rpc.0);
        let replicated = Arc::clone(&self.replicated);
        let group = Arc::new(Group::open(&self.config, self.group, rpc, replicated).await?);
        self.running.send_replace(Some(Arc::clone(&group)));
        Ok(group)
    }

    /// Ends the replica and waits until its files are closed.
    pub(super) async fn stop(&self) -> Result<(), StoreError> {
        let Some(group) = self.running.send_replace(None) else { return Ok(()) };
        group.shutdown().await;
        let ended = group.ended();
        drop(group);
        tokio::time::timeout(LETTING_GO, ended)
            .await
            .map_err(|_| StoreError::stopped("an earlier replica still holds the log"))
    }
}
