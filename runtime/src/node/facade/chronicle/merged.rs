//! The lines of all replicas of a firmware as they come, also of those that there are later.

use futures::{StreamExt, stream};
use odeum_proto::{Name, ReplicaId};

use super::reader::Reader;
use crate::api::types::LogLine;

/// Lines of all replicas of a firmware.
pub(super) struct Merged {
    pub(super) name: Name,
    /// How many replicas are read.
    pub(super) known: u32,
    pub(super) readers: stream::SelectAll<stream::BoxStream<'static, LogLine>>,
    /// What the reader of another replica is made of.
    pub(super) template: Reader,
    pub(super) is_over: bool,
}

impl Merged {
    pub(super) async fn next(mut self) -> Option<(LogLine, Self)> {
        let mut changes = self.template.store.changes();
        while !self.is_over {
            let replicas = self
                .template
                .store
                .view(|state| state.firmware().get(&self.name).map_or(0, |spec| spec.replicas));
            for number in self.known.saturating_add(1)..=replicas {
                let Some(replica) = ReplicaId::new(self.name.clone(), number) else { break };
                let reader = self.template.of(replica);
                self.readers.push(stream::unfold(reader, Reader::next).boxed());
            }
            // One that went and comes back is read again.
            self.known = replicas;
            tokio::select! {
                biased;
                line = self.readers.next() => match line {
                    // A replica has gone, and the others go on, or all of them have.
                    Some(LogLine::End { .. }) => {}
                    Some(line) => return Some((line, self)),
                    None if replicas == 0 => {
                        self.is_over = true;
                        let reason = format!("firmware {} is deleted", self.name);
                        return Some((LogLine::End { reason }, self));
                    }
                    None => changes.changed().await.ok()?,
                },
                changed = changes.changed() => changed.ok()?,
            }
        }
        None
    }
}
