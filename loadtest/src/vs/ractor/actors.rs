//! The same counter twice: on our library, and on ractor alone.

use odeum_actors::{Actor, ActorError, Context, Reply};
use ractor::{ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

pub(super) struct Counter(pub(super) u64);

pub(super) enum Count {
    Add(u64),
    Get(Reply<u64>),
    Crash,
}

impl Actor for Counter {
    type Message = Count;

    async fn handle(&mut self, _: &mut Context<Self>, message: Count) -> Result<(), ActorError> {
        match message {
            Count::Add(n) => self.0 += n,
            Count::Get(reply) => reply.send(self.0),
            Count::Crash => return Err(ActorError::msg("as told")),
        }
        Ok(())
    }
}

pub(super) struct RawCounter;

pub(super) enum RawCount {
    Add(u64),
    Get(RpcReplyPort<u64>),
}

impl ractor::Message for RawCount {}

impl ractor::Actor for RawCounter {
    type Msg = RawCount;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RawCount>, (): ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _: ActorRef<RawCount>,
        message: RawCount,
        state: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RawCount::Add(n) => *state += n,
            RawCount::Get(reply) => {
                // An error means that the caller has given up.
                let _ = reply.send(*state);
            }
        }
        Ok(())
    }
}

pub(super) struct RawSupervisor;

impl ractor::Actor for RawSupervisor {
    type Msg = RawCount;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RawCount>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<RawCount>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}
