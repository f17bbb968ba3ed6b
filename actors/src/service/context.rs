//! What a service sees of the world: being asked to stop, and its private channel.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Health;

/// What a service tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Ready,
    Heartbeat,
    Health(Health),
    Message(Vec<u8>),
    /// Why it fails; the end itself is told by how it exits.
    Failed(Box<str>),
}

/// Reports a service may be ahead of its reader: a burst, not a backlog.
pub(crate) const CHANNEL: usize = 256;

/// A service's side of its channel to the application.
#[derive(Debug)]
pub struct ServiceContext {
    pub(crate) name: Arc<str>,
    pub(crate) inbox: mpsc::Receiver<Vec<u8>>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl ServiceContext {
    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Resolves when the service is asked to stop. Cancel-safe.
    pub async fn stopped(&mut self) {
        // An error means that the application is gone.
        let _ = self.stopping.wait_for(|stopping| *stopping).await;
    }

    /// Whether the service is asked to stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// The next message from the application, or `None` when it is time to stop.
    /// Cancel-safe.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => None,
            message = self.inbox.recv() => message,
        }
    }

    /// Sends a message to the application; waits while the channel is full.
    pub async fn send(&self, message: Vec<u8>) {
        // An error means that the application is gone; `stopped` tells it too.
        let _ = self.reports.send(Report::Message(message)).await;
    }

    /// Tells how the service is.
    pub async fn health(&self, health: Health) {
        // As above.
        let _ = self.reports.send(Report::Health(health)).await;
    }
}
