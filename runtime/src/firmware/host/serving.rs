//! Requests to a guest that serves HTTP, several at once: each has an instance of its own, and none
//! changes anything of the firmware.

use std::sync::Arc;

use odeum_actors::{Context, Reply};
use odeum_proto::{
    call::{CallError, CallRequest},
    codec, http,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{HostActor, HostParts, message::Answered};
use crate::firmware::{process::REQUESTS, runner::Server};

/// What serves.
pub(super) struct Serving {
    server: Server,
    slots: Arc<Semaphore>,
}

impl Serving {
    pub(super) fn new(server: Server) -> Self {
        Self { server, slots: Arc::new(Semaphore::new(REQUESTS)) }
    }

    /// What serves.
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// What waits until nothing is under way, and keeps anything from beginning while it is held.
    pub(super) fn quiet(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let slots = Arc::clone(&self.slots);
        let all = u32::try_from(REQUESTS).unwrap_or(u32::MAX);
        // Nobody closes it.
        async move { slots.acquire_many_owned(all).await.ok() }
    }

    /// Has a request answered beside the actor.
    pub(super) fn begin(
        &self,
        parts: &HostParts,
        ctx: &mut Context<HostActor>,
        call: CallRequest,
        reply: Reply<Answered>,
    ) {
        if let Err(error) = parts.check_lease() {
            reply.send(Err(error));
            return;
        }
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            let entity = parts.entity.clone();
            reply.send(Err(CallError::Overloaded { entity, queued: REQUESTS }));
            return;
        };
        let (server, parts) = (self.server.clone(), parts.clone());
        ctx.spawn(async move {
            reply.send(parts.serve(&server, call).await);
            drop(slot);
        });
    }
}

impl HostParts {
    async fn serve(&self, server: &Server, call: CallRequest) -> Answered {
        if call.session.as_deref() != Some(http::SESSION) {
            let reason = format!("it serves HTTP requests: send them to /f/{}/", self.spec.name);
            return Err(self.refused(reason));
        }
        let request = codec::decode(&call.body);
        let request = request.map_err(|error| self.refused(error.to_string()))?;
        match server.serve(request).await {
            Ok(answer) => {
                let body = codec::encode(&answer);
                Ok(self.reply(body.map_err(|error| self.refused(error.to_string()))?, false))
            }
            Err(failure) => {
                tracing::warn!(entity = %self.entity, error = %failure, "request failed");
                Err(self.failed(&failure))
            }
        }
    }
}
