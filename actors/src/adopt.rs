//! Actors that are written against ractor itself, owned by one of ours.
//!
//! Some libraries, ractor_cluster among them, bring ractor actors of their own or need their
//! users to write one. An actor adopts such an actor: it ends with its owner and its owner is
//! told of its end, so that supervision has no gap.

use ractor::{ActorCell, ActorRef, SpawnErr};

use crate::actor::Actor;
use crate::context::Context;

/// Stops an adopted actor when its owner's tasks are dropped.
struct StopOnDrop(ActorCell);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}

impl<A: Actor> Context<A> {
    /// Starts an actor written against ractor. It is stopped when this actor ends, for whatever
    /// reason; when it ends by itself, this actor gets `ended`.
    ///
    /// # Errors
    /// [`SpawnErr`] when its `pre_start` fails.
    pub async fn adopt<R: ractor::Actor>(
        &mut self,
        actor: R,
        arguments: R::Arguments,
        ended: A::Message,
    ) -> Result<ActorRef<R::Msg>, SpawnErr> {
        let (adopted, end) = ractor::Actor::spawn(None, actor, arguments).await?;
        let guard = StopOnDrop(adopted.get_cell());
        let owner = self.handle().clone();
        self.spawn(async move {
            let _guard = guard;
            // How it ended is logged by ractor; that it ended is what counts.
            let _ = end.await;
            let _ = owner.tell(ended).await;
        });
        Ok(adopted)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ractor::{ActorProcessingErr, ActorStatus};
    use tokio::sync::mpsc;

    use super::*;
    use crate::{ActorError, Handle, Reply, Strategy, Supervisor, SupervisorSpec, child};

    struct Foreign;

    struct Stop;

    impl ractor::Message for Stop {}

    impl ractor::Actor for Foreign {
        type Msg = Stop;
        type State = ();
        type Arguments = ();

        async fn pre_start(&self, _: ActorRef<Stop>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }

        async fn handle(
            &self,
            myself: ActorRef<Stop>,
            _: Stop,
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            myself.stop(None);
            Ok(())
        }
    }

    enum OwnerMessage {
        GetAdopted(Reply<ActorRef<Stop>>),
        Ended,
    }

    struct Owner {
        adopted: Option<ActorRef<Stop>>,
        told: mpsc::Sender<()>,
    }

    impl Actor for Owner {
        type Message = OwnerMessage;

        async fn started(&mut self, ctx: &mut Context<Self>) -> Result<(), ActorError> {
            self.adopted = Some(ctx.adopt(Foreign, (), OwnerMessage::Ended).await?);
            Ok(())
        }

        async fn handle(
            &mut self,
            _: &mut Context<Self>,
            message: OwnerMessage,
        ) -> Result<(), ActorError> {
            match message {
                OwnerMessage::GetAdopted(reply) => {
                    reply.send(self.adopted.clone().expect("it was adopted"));
                }
                OwnerMessage::Ended => self.told.send(()).await.expect("the test listens"),
            }
            Ok(())
        }
    }

    async fn owner() -> (Handle<OwnerMessage>, Supervisor, mpsc::Receiver<()>) {
        let (told, hears) = mpsc::channel(1);
        let (handle, spec) = child("owner", move || Owner { adopted: None, told: told.clone() });
        let root = SupervisorSpec::new("root", Strategy::OneForOne).child(spec).start().await;
        (handle, root.expect("starts"), hears)
    }

    async fn adopted(owner: &Handle<OwnerMessage>) -> ActorRef<Stop> {
        owner.ask(Duration::from_secs(5), OwnerMessage::GetAdopted).await.expect("answers")
    }

    #[tokio::test]
    async fn an_adopted_actor_ends_with_its_owner() {
        let (owner, root, _hears) = owner().await;
        let foreign = adopted(&owner).await;
        root.shutdown().await;
        foreign.wait(Some(ractor::concurrency::Duration::from_secs(5))).await.expect("it ends");
        assert_eq!(foreign.get_status(), ActorStatus::Stopped);
    }

    #[tokio::test]
    async fn the_owner_is_told_when_an_adopted_actor_ends() {
        let (owner, root, mut hears) = owner().await;
        adopted(&owner).await.send_message(Stop).expect("it runs");
        hears.recv().await.expect("the owner is told");
        root.shutdown().await;
    }
}
