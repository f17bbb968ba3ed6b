//! What the acts of the demo have in common: the nodes, the story, and waiting for things with a
//! deadline that names what did not happen.

use std::time::{Duration, Instant};

use odeum_proto::NodeId;
use tokio::time::{sleep, timeout};

use super::{
    error::DemoError,
    fleet::{Fleet, Reachable},
    story::Story,
    traffic::Traffic,
};
use crate::api::client::ApiClient;

/// How often a wait looks again: short against the times that the demo measures.
const POLL: Duration = Duration::from_millis(25);
/// How long a wait may take. Everything here takes a second or two on a quiet machine; this is
/// for one that also compiles something with all its cores.
const PATIENCE: Duration = Duration::from_secs(40);

/// The nodes and the story.
pub(super) struct Stage<'a> {
    pub fleet: &'a mut Fleet,
    pub story: &'a mut Story,
}

impl Stage<'_> {
    /// Looks again and again until `look` finds what `event` names, which `node` is to bring
    /// about. `look` returns as its error what it saw instead. Fails at once when a node dies or
    /// the traffic breaks off meanwhile.
    pub(super) async fn until<T>(
        &mut self,
        event: &str,
        node: &NodeId,
        traffic: Option<&Traffic>,
        mut look: impl AsyncFnMut(&mut Fleet) -> Result<T, String>,
    ) -> Result<T, DemoError> {
        let end = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match timeout(left, look(self.fleet)).await {
                Ok(Ok(found)) => {
                    self.story.progress("");
                    return Ok(found);
                }
                Ok(Err(seen)) => last = Some(seen.into_boxed_str()),
                Err(_) => {
                    return Err(DemoError::Deadline {
                        event: event.into(),
                        node: node.clone(),
                        after: PATIENCE,
                        last,
                    });
                }
            }
            self.fleet.check()?;
            match traffic {
                Some(traffic) => self.watch(event, traffic)?,
                None => self.story.progress(format_args!("waiting for {event}")),
            }
            sleep(POLL).await;
        }
    }

    /// Shows how the traffic fares; fails when it broke off.
    fn watch(&self, event: &str, traffic: &Traffic) -> Result<(), DemoError> {
        let (acknowledged, highest, failure) =
            traffic.look(|log| (log.acks.len(), log.highest(), log.failure.clone()));
        if let Some((node, reason)) = failure {
            return Err(DemoError::Traffic { node, reason });
        }
        self.story.progress(format_args!(
            "waiting for {event}; {acknowledged} messages acknowledged, the count is {highest}"
        ));
        Ok(())
    }

    /// Waits until `id` listens and takes requests.
    pub(super) async fn until_ready(&mut self, id: &NodeId) -> Result<Reachable, DemoError> {
        self.until(&format!("{id} to take requests"), id, None, async |fleet| {
            let node = fleet.reachable(id).ok_or("it does not listen yet")?;
            node.client.ready().await.map_err(|error| error.to_string())?;
            Ok(node)
        })
        .await
    }

    /// Waits until `more` messages were acknowledged.
    pub(super) async fn until_acknowledged(
        &mut self,
        more: usize,
        via: &NodeId,
        traffic: &Traffic,
    ) -> Result<(), DemoError> {
        let wanted = traffic.look(|log| log.acks.len()) + more;
        self.until("messages to flow", via, Some(traffic), async |_| {
            let got = traffic.look(|log| log.acks.len());
            if got >= wanted { Ok(()) } else { Err(format!("{got} of {wanted} acknowledged")) }
        })
        .await
    }

    /// The client of a node that runs.
    pub(super) fn client(&mut self, id: &NodeId) -> Result<ApiClient, DemoError> {
        let reachable = self.fleet.reachable(id).ok_or_else(|| DemoError::Process {
            doing: "reach",
            node: id.clone(),
            reason: std::io::ErrorKind::NotConnected.into(),
        })?;
        Ok(reachable.client)
    }
}
