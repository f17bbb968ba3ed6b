//! One running actor, at rest between messages.

use std::{fmt, sync::Arc, time::Duration};

use wasmtime::{Store, component::TypedFunc};

use super::{
    Acting, ActorModule,
    bindings::{
        Actor,
        exports::odeum::actor::guest::{Answer as Answered, Message as Given, Publication},
    },
};
use crate::firmware::{
    abi::core::Message,
    effect::{Answer, Variables},
    error::GuestFailure,
    instance::Arrival,
    setting::Setting,
    store::{self, Metered},
};
use crate::package::manifest::Manifest;

/// The code of a message that was refused.
const REFUSED: i32 = 1;

/// One running actor.
pub(in crate::firmware) struct ActorInstance {
    store: Store<Acting>,
    time: Duration,
    actor: Actor,
    /// Says whether the guest is well, when it can.
    alive: Option<TypedFunc<(), (Result<(), String>,)>>,
}

/// What a guest exports that can say whether it is well.
const LIVENESS: &str = "odeum:actor/liveness@1.0.0";

impl ActorInstance {
    /// A new instance, which has not been told anything yet.
    pub(in crate::firmware) async fn start(
        module: &ActorModule,
        manifest: &Manifest,
        setting: &Setting,
    ) -> Result<Self, GuestFailure> {
        let time = setting.limits.message_time;
        let acting = Acting::new(manifest, setting).await?;
        let mut store = store::bounded(module.0.engine(), acting);
        store::wind(&mut store, Some(time));
        match instantiate(module, &mut store).await {
            Ok((actor, alive)) => Ok(Self { store, time, actor, alive }),
            Err(error) => Err(store::failure(&mut store, &error)),
        }
    }

    /// How long it may compute on one message.
    pub(in crate::firmware) fn time(&self) -> Duration {
        self.time
    }

    /// Tells the guest of one thing.
    pub(in crate::firmware) async fn handle(
        mut self: Box<Self>,
        arrival: Arrival<'_>,
        variables: Arc<dyn Variables>,
    ) -> Result<(Box<Self>, Answer), GuestFailure> {
        store::wind(&mut self.store, Some(arrival.time().unwrap_or(self.time)));
        let acting = self.store.data_mut();
        let buffer = acting.meter.buffer();
        acting.message = Some(Message { variables, buffer });
        acting.dealings.begin(&arrival);
        let told = self.tell(arrival).await;
        let acting = self.store.data_mut();
        let mut buffer =
            acting.message.take().map_or_else(|| acting.meter.buffer(), |message| message.buffer);
        buffer.finish_log(&acting.meter.log);
        match told {
            Ok(Ok(())) => {
                let mut effect = buffer.effect()?;
                effect.deeds = acting.dealings.done();
                Ok((self, Answer::Done(effect)))
            }
            Ok(Err(reason)) => {
                acting.dealings.take_back();
                // The reason is bounded as a reply is.
                buffer.reply(reason.as_bytes())?;
                Ok((self, buffer.refusal(REFUSED)))
            }
            Err(error) => Err(store::failure(&mut self.store, &error)),
        }
    }

    async fn tell(&mut self, arrival: Arrival<'_>) -> wasmtime::Result<Result<(), String>> {
        let guest = self.actor.odeum_actor_guest();
        let message = match arrival {
            Arrival::Probed { .. } => {
                let Some(alive) = &self.alive else { return Ok(Ok(())) };
                let (is_well,) = alive.call_async(&mut self.store, ()).await?;
                return Ok(is_well);
            }
            Arrival::Started => return guest.call_on_start(&mut self.store).await,
            Arrival::TimedOut { number } => {
                return guest.call_on_timer(&mut self.store, number).await;
            }
            Arrival::Called { body, .. } => Given::Call(body.to_vec()),
            Arrival::Published { topic, payload } => {
                Given::Published(Publication { topic: topic.to_owned(), payload: payload.to_vec() })
            }
            Arrival::Answered { number, outcome } => {
                let outcome = outcome.map(<[u8]>::to_vec).map_err(str::to_owned);
                Given::Answered(Answered { number, outcome })
            }
        };
        guest.call_on_message(&mut self.store, &message).await
    }

    /// Lets the guest take leave, within the time of one message.
    pub(in crate::firmware) async fn stop(mut self) {
        store::wind(&mut self.store, Some(self.time));
        let stopped = self.actor.odeum_actor_guest().call_on_stop(&mut self.store).await;
        if let Err(error) = stopped {
            let error = store::failure(&mut self.store, &error);
            let firmware = self.store.data().firmware();
            tracing::warn!(%firmware, %error, "actor failed when it was stopped");
        }
    }

    pub(in crate::firmware) fn memory_bytes(&self) -> u64 {
        self.store.data().meter().limiter.memory_bytes()
    }
}

async fn instantiate(
    module: &ActorModule,
    store: &mut Store<Acting>,
) -> wasmtime::Result<(Actor, Option<TypedFunc<(), (Result<(), String>,)>>)> {
    let instance = module.0.instance_pre().instantiate_async(&mut *store).await?;
    let actor = Actor::new(&mut *store, &instance)?;
    let liveness = instance.get_export_index(&mut *store, None, LIVENESS);
    let alive = liveness.and_then(|it| instance.get_export_index(&mut *store, Some(&it), "alive"));
    let alive = alive.map(|alive| instance.get_typed_func(&mut *store, alive)).transpose()?;
    Ok((actor, alive))
}

impl fmt::Debug for ActorInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorInstance")
            .field("firmware", self.store.data().firmware())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}
