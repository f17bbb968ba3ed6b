//! One running firmlet, at rest between messages.

use std::{fmt, time::Duration};

use wasmtime::{Instance, InstancePre, Store, TypedFunc};

use odeum_proto::codec;

use super::{DISPOSE, Firmlet, INITIALIZE, ON_MESSAGE, START, devices::Devices, scratch::Scratch};
use crate::firmware::{
    abi::{call_start, core::Begin},
    bridge::Publisher,
    effect::{Answer, Buffer},
    error::GuestFailure,
    store::{self, Meter, Metered},
};
use crate::package::manifest::Manifest;

/// Why a firmlet is started and ended: the life of its instance. There is no other reason yet.
const LIFECYCLE: i32 = 0;

/// The topic of a message that came by `odeum call` and names none.
const CALL_TOPIC: &str = "odeum/call";

type OnMessage = TypedFunc<(i32, i32, i32, i32), ()>;

/// One running firmlet.
pub(in crate::firmware) struct FirmletInstance {
    store: Store<Firmlet>,
    instance: Instance,
    time: Duration,
    scratch: Scratch,
    on_message: Option<OnMessage>,
    dispose: Option<TypedFunc<i32, ()>>,
}

impl FirmletInstance {
    /// A new instance, after `_initialize` and `_start` ran within the time of one message.
    pub(in crate::firmware) async fn start(
        pre: &InstancePre<Firmlet>,
        meter: Meter,
        manifest: &Manifest,
        time: Duration,
        publisher: Publisher,
    ) -> Result<Self, GuestFailure> {
        let firmlet = Firmlet::new(meter, manifest, publisher);
        let mut started = Self::made(pre, firmlet, time, Begin::Anew).await?;
        started.publish();
        Ok(started)
    }

    /// An instance of which nothing has run: it is to become what another one was.
    pub(in crate::firmware) async fn blank(
        pre: &InstancePre<Firmlet>,
        meter: Meter,
        manifest: &Manifest,
        time: Duration,
    ) -> Result<Self, GuestFailure> {
        let firmlet = Firmlet::new(meter, manifest, Publisher::none());
        Self::made(pre, firmlet, time, Begin::Blank).await
    }

    async fn made(
        pre: &InstancePre<Firmlet>,
        firmlet: Firmlet,
        time: Duration,
        begin: Begin,
    ) -> Result<Self, GuestFailure> {
        let mut store = store::bounded(pre.module().engine(), firmlet);
        store::wind(&mut store, Some(time));
        match instantiate(pre, &mut store, begin).await {
            Ok((instance, scratch)) => {
                let on_message = instance.get_typed_func(&mut store, ON_MESSAGE).ok();
                let dispose = instance.get_typed_func(&mut store, DISPOSE).ok();
                Ok(Self { store, instance, time, scratch, on_message, dispose })
            }
            Err(error) => Err(store::failure(&mut store, &error)),
        }
    }

    /// The instance, and where its state is.
    pub(in crate::firmware) fn inside(&mut self) -> (&Instance, &mut Store<Firmlet>) {
        (&self.instance, &mut self.store)
    }

    /// What the host has beside it: its open files, and where it is told things.
    pub(in crate::firmware) fn beside(&self) -> Vec<u8> {
        let beside = (&self.store.data().devices, self.scratch.room());
        // Only a sequence of unknown length cannot be encoded.
        codec::encode(&beside).unwrap_or_default()
    }

    /// Gives the host what it had beside another one.
    pub(in crate::firmware) fn put_beside(
        &mut self,
        bytes: &[u8],
    ) -> Result<(), codec::DecodeError> {
        let (devices, room): (Devices, (u64, u64)) = codec::decode(bytes)?;
        self.store.data_mut().devices = devices;
        self.scratch.put_room(room);
        Ok(())
    }

    /// Where it publishes from now on.
    pub(in crate::firmware) fn publish_to(&mut self, publisher: Publisher) {
        self.store.data_mut().publisher = publisher;
    }

    /// Gives the guest one message, under `topic` or as a call.
    pub(in crate::firmware) async fn handle(
        mut self: Box<Self>,
        topic: Option<&str>,
        payload: &[u8],
    ) -> Result<(Box<Self>, Answer), GuestFailure> {
        let Some(on_message) = self.on_message.clone() else {
            let reason = format!("it exports no `{ON_MESSAGE}`, so it takes no messages").into();
            return Ok((self, Answer::Refused { code: 1, reason }));
        };
        store::wind(&mut self.store, Some(self.time));
        let topic = topic.unwrap_or(CALL_TOPIC).as_bytes();
        let told = tell(&mut self.store, &mut self.scratch, &on_message, topic, payload).await;
        if let Err(error) = told {
            self.forget();
            return Err(store::failure(&mut self.store, &error));
        }
        let buffer = self.publish();
        Ok((self, Answer::Done(buffer.effect()?)))
    }

    /// Lets the guest take leave, within the time of one message.
    pub(in crate::firmware) async fn dispose(mut self) {
        let Some(dispose) = self.dispose.clone() else { return };
        store::wind(&mut self.store, Some(self.time));
        match dispose.call_async(&mut self.store, LIFECYCLE).await {
            Ok(()) => drop(self.publish()),
            Err(error) => {
                let error = store::failure(&mut self.store, &error);
                let firmware = &self.store.data().meter.firmware;
                tracing::warn!(%firmware, %error, "firmlet failed when it was disposed of");
            }
        }
    }

    pub(in crate::firmware) fn memory_bytes(&self) -> u64 {
        self.store.data().meter().limiter.memory_bytes()
    }

    /// Sends off what was published; the rest of what came of the message.
    fn publish(&mut self) -> Buffer {
        let firmlet = self.store.data_mut();
        let outbox = std::mem::take(&mut firmlet.outbox);
        let sent = |publication| firmlet.publisher.publish(publication);
        let dropped = outbox.into_iter().map(sent).filter(|is_sent| !is_sent).count();
        if dropped > 0 {
            let firmware = &firmlet.meter.firmware;
            tracing::warn!(%firmware, dropped, "publications dropped: the broker is too slow");
        }
        self.forget()
    }

    fn forget(&mut self) -> Buffer {
        let firmlet = self.store.data_mut();
        firmlet.outbox.clear();
        firmlet.published = 0;
        let buffer = std::mem::replace(&mut firmlet.buffer, firmlet.meter.buffer());
        buffer.finish_log(&firmlet.meter.log);
        buffer
    }
}

impl fmt::Debug for FirmletInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirmletInstance")
            .field("firmware", &self.store.data().meter.firmware)
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

async fn tell(
    store: &mut Store<Firmlet>,
    scratch: &mut Scratch,
    on_message: &OnMessage,
    topic: &[u8],
    payload: &[u8],
) -> wasmtime::Result<()> {
    let placed = scratch.place(store, &[topic, payload]).await?;
    if let [topic, payload] = placed.at[..] {
        let args = (topic.0, topic.1, payload.0, payload.1);
        on_message.call_async(&mut *store, args).await?;
    }
    scratch.free(store, &placed).await
}

async fn instantiate(
    pre: &InstancePre<Firmlet>,
    store: &mut Store<Firmlet>,
    begin: Begin,
) -> wasmtime::Result<(Instance, Scratch)> {
    let instance = pre.instantiate_async(&mut *store).await?;
    let memory = instance
        .get_memory(&mut *store, "memory")
        .ok_or_else(|| wasmtime::Error::msg("it exports no memory"))?;
    store.data_mut().memory = Some(memory);
    let mut scratch = Scratch::of(&instance, memory, store);
    if begin == Begin::Blank {
        return Ok((instance, scratch));
    }
    call_start(&instance, store).await?;
    if instance.get_func(&mut *store, INITIALIZE).is_some() {
        let initialize = instance.get_typed_func::<(i32, i32), ()>(&mut *store, INITIALIZE)?;
        let name = store.data().meter.firmware.clone();
        let placed = scratch.place(store, &[name.to_string().as_bytes()]).await?;
        if let [name] = placed.at[..] {
            initialize.call_async(&mut *store, name).await?;
        }
        scratch.free(store, &placed).await?;
    }
    let start = instance.get_typed_func::<i32, ()>(&mut *store, START)?;
    start.call_async(&mut *store, LIFECYCLE).await?;
    scratch.renew();
    Ok((instance, scratch))
}
