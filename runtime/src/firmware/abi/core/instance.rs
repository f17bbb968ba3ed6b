//! One running guest of a core ABI, at rest between messages.

use std::{fmt, sync::Arc, time::Duration};

use wasmtime::{Instance, InstancePre, Store, TypedFunc, WasmParams, WasmResults};

use super::{
    ALIVE, ALLOC, FAILED, Guest, HANDLE, INITIALIZE, Message, ON_ANSWER, ON_PUBLISHED, ON_START,
    ON_STOP, ON_TIMER, START,
};
use crate::firmware::{
    abi::{call_start, memory::room, wasi_p1::by_name::ByName},
    effect::{Answer, Variables},
    error::GuestFailure,
    instance::Arrival,
    store::{self, Metered},
    travel::Carried,
};

/// One running guest. `W` is what it has of WASI.
pub(in crate::firmware) struct CoreInstance<W: Send + 'static> {
    store: Store<Guest<W>>,
    instance: Instance,
    time: Duration,
    entry: Entry,
}

/// How the guest is given a message.
enum Entry {
    /// As `runtime/wit/odeum-actor-core.md` has it.
    Handle(Box<Functions>),
    /// As `runtime/wit/odeum-wasi-reactor.md` has it for guests that were written for nobody.
    ByName(ByName),
}

struct Functions {
    alloc: TypedFunc<i32, i32>,
    handle: TypedFunc<(i32, i32), i32>,
    hears: Hears,
}

/// What the guest is told beside messages, as far as it wants to be.
struct Hears {
    /// Whether it is well.
    alive: Option<TypedFunc<(), i32>>,
    start: Option<TypedFunc<(), i32>>,
    timer: Option<TypedFunc<i64, i32>>,
    answer: Option<TypedFunc<(i64, i32, i32, i32), i32>>,
    published: Option<TypedFunc<(i32, i32, i32, i32), i32>>,
    stop: Option<TypedFunc<(), ()>>,
}

impl<W: Send + 'static> CoreInstance<W> {
    /// A new instance, after its start section, `_initialize` and `odeum_start` ran within the time
    /// of one message.
    pub(in crate::firmware) async fn start(
        pre: &InstancePre<Guest<W>>,
        guest: Guest<W>,
        time: Duration,
    ) -> Result<Self, GuestFailure> {
        Self::made(pre, guest, time, Begin::Anew).await
    }

    /// An instance of which nothing has run: it is to become what another one was.
    pub(in crate::firmware) async fn blank(
        pre: &InstancePre<Guest<W>>,
        guest: Guest<W>,
        time: Duration,
    ) -> Result<Self, GuestFailure> {
        Self::made(pre, guest, time, Begin::Blank).await
    }

    async fn made(
        pre: &InstancePre<Guest<W>>,
        guest: Guest<W>,
        time: Duration,
        begin: Begin,
    ) -> Result<Self, GuestFailure> {
        let mut store = store::bounded(pre.module().engine(), guest);
        store::wind(&mut store, Some(time));
        match instantiate(pre, &mut store, begin).await {
            Ok((instance, entry)) => Ok(Self { store, instance, time, entry }),
            Err(error) => Err(store::failure(&mut store, &error)),
        }
    }

    /// The instance, and where its state is.
    pub(in crate::firmware) fn inside(&mut self) -> (&Instance, &mut Store<Guest<W>>) {
        (&self.instance, &mut self.store)
    }

    /// What goes with it when it moves, beside its memory and `carried`.
    pub(in crate::firmware) fn carried(&self, carried: Carried) -> Carried {
        self.store.data().dealings.carried(carried)
    }

    /// It came by a move, with this.
    pub(in crate::firmware) fn take_up(&mut self, carried: &Carried) {
        self.store.data_mut().dealings.take_up(carried);
    }

    /// Tells the guest of one thing. What it has no export for it does not hear.
    pub(in crate::firmware) async fn handle(
        mut self: Box<Self>,
        arrival: Arrival<'_>,
        variables: Arc<dyn Variables>,
    ) -> Result<(Box<Self>, Answer), GuestFailure> {
        store::wind(&mut self.store, Some(arrival.time().unwrap_or(self.time)));
        let guest = self.store.data_mut();
        let buffer = guest.meter.buffer();
        guest.message = Some(Message { variables, buffer });
        guest.dealings.begin(&arrival);
        let code = match arrival {
            Arrival::Called { body, .. } => self.call(body).await,
            other => Box::pin(self.hear(other)).await,
        };
        let guest = self.store.data_mut();
        let buffer =
            guest.message.take().map_or_else(|| guest.meter.buffer(), |message| message.buffer);
        buffer.finish_log(&guest.meter.log);
        match code {
            Ok(0) => {
                let mut effect = buffer.effect()?;
                effect.deeds = guest.dealings.done();
                Ok((self, Answer::Done(effect)))
            }
            Ok(code) => {
                guest.dealings.take_back();
                Ok((self, buffer.refusal(code)))
            }
            Err(error) => Err(store::failure(&mut self.store, &error)),
        }
    }

    /// Whether it wants to hear that it has started.
    pub(in crate::firmware) fn hears_of_its_start(&self) -> bool {
        matches!(&self.entry, Entry::Handle(functions) if functions.hears.start.is_some())
    }

    /// Lets the guest take leave, within the time of one message.
    pub(in crate::firmware) async fn stop(mut self) {
        let Entry::Handle(functions) = &self.entry else { return };
        let Some(stop) = &functions.hears.stop else { return };
        store::wind(&mut self.store, Some(self.time));
        if let Err(error) = stop.call_async(&mut self.store, ()).await {
            let error = store::failure(&mut self.store, &error);
            let firmware = &self.store.data().meter.firmware;
            tracing::warn!(%firmware, %error, "guest failed when it was stopped");
        }
    }

    pub(in crate::firmware) fn memory_bytes(&self) -> u64 {
        self.store.data().meter().limiter.memory_bytes()
    }

    /// How long it may compute on one message.
    pub(in crate::firmware) fn time(&self) -> Duration {
        self.time
    }

    /// Tells the guest of something that is no message.
    async fn hear(&mut self, arrival: Arrival<'_>) -> wasmtime::Result<i32> {
        let Entry::Handle(functions) = &self.entry else { return Ok(0) };
        let Functions { alloc, hears, .. } = functions.as_ref();
        let store = &mut self.store;
        match arrival {
            Arrival::Probed { .. } => told(store, hears.alive.as_ref(), ()).await,
            Arrival::Started => told(store, hears.start.as_ref(), ()).await,
            Arrival::TimedOut { number } => {
                told(store, hears.timer.as_ref(), number.cast_signed()).await
            }
            Arrival::Answered { number, outcome } => {
                let (code, body) = match outcome {
                    Ok(reply) => (0, reply),
                    Err(reason) => (FAILED, reason.as_bytes()),
                };
                let Some(answer) = &hears.answer else { return Ok(0) };
                let (ptr, len) = place(store, alloc, &[body]).await?;
                answer.call_async(store, (number.cast_signed(), code, ptr, len)).await
            }
            Arrival::Published { topic, payload } => {
                let Some(published) = &hears.published else { return Ok(0) };
                let (ptr, len) = place(store, alloc, &[topic.as_bytes(), payload]).await?;
                let topic_len = i32::try_from(topic.len())?;
                // One place: the payload is behind the topic.
                let payload = ptr.wrapping_add(topic_len);
                published.call_async(store, (ptr, topic_len, payload, len - topic_len)).await
            }
            Arrival::Called { body, .. } => self.call(body).await,
        }
    }

    async fn call(&mut self, message: &[u8]) -> wasmtime::Result<i32> {
        let Functions { alloc, handle, .. } = match &self.entry {
            Entry::Handle(functions) => functions.as_ref(),
            Entry::ByName(by_name) => {
                return Box::pin(by_name.call(&mut self.store, message)).await;
            }
        };
        let at = place(&mut self.store, alloc, &[message]).await?;
        handle.call_async(&mut self.store, at).await
    }
}

/// Calls what the guest exports; what it does not export has nothing against it.
async fn told<W: Send + 'static, P: WasmParams + Sync>(
    store: &mut Store<Guest<W>>,
    by: Option<&TypedFunc<P, i32>>,
    params: P,
) -> wasmtime::Result<i32> {
    match by {
        Some(by) => by.call_async(store, params).await,
        None => Ok(0),
    }
}

/// Has the guest give one place for all of that, one behind the other, and copies it there.
async fn place<W: Send + 'static>(
    store: &mut Store<Guest<W>>,
    alloc: &TypedFunc<i32, i32>,
    pieces: &[&[u8]],
) -> wasmtime::Result<(i32, i32)> {
    // The caller bounds them to little more than `limits::MESSAGE_BYTES`, far from i32's end.
    let len = i32::try_from(pieces.iter().map(|piece| piece.len()).sum::<usize>())?;
    if len == 0 {
        return Ok((0, 0));
    }
    let ptr = alloc.call_async(&mut *store, len).await?;
    let memory = store.data().memory;
    let bytes: &mut [u8] = match memory {
        Some(memory) => memory.data_mut(store),
        None => &mut [],
    };
    let mut into = room(bytes, (ptr, len), ALLOC)?;
    for piece in pieces {
        let (here, rest) = into.split_at_mut(piece.len());
        here.copy_from_slice(piece);
        into = rest;
    }
    Ok((ptr, len))
}

impl<W: Send + 'static> fmt::Debug for CoreInstance<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreInstance")
            .field("firmware", &self.store.data().meter.firmware)
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

/// How an instance begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::firmware::abi) enum Begin {
    /// All that is to run first runs.
    Anew,
    /// Nothing runs.
    Blank,
}

async fn instantiate<W: Send + 'static>(
    pre: &InstancePre<Guest<W>>,
    store: &mut Store<Guest<W>>,
    begin: Begin,
) -> wasmtime::Result<(Instance, Entry)> {
    let instance = pre.instantiate_async(&mut *store).await?;
    store.data_mut().memory = instance.get_memory(&mut *store, "memory");
    if begin == Begin::Anew {
        call_start(&instance, store).await?;
        // A function of that name may have another meaning; the check of the package saw to the
        // rest.
        for start in [INITIALIZE, START] {
            if let Ok(start) = instance.get_typed_func::<(), ()>(&mut *store, start) {
                start.call_async(&mut *store, ()).await?;
            }
        }
    }
    if instance.get_func(&mut *store, HANDLE).is_none() {
        let by_name = ByName::new(instance, pre.module());
        return Ok((instance, Entry::ByName(by_name)));
    }
    let alloc = instance.get_typed_func(&mut *store, ALLOC)?;
    let handle = instance.get_typed_func(&mut *store, HANDLE)?;
    let hears = Hears {
        alive: exported(&instance, store, ALIVE)?,
        start: exported(&instance, store, ON_START)?,
        timer: exported(&instance, store, ON_TIMER)?,
        answer: exported(&instance, store, ON_ANSWER)?,
        published: exported(&instance, store, ON_PUBLISHED)?,
        stop: exported(&instance, store, ON_STOP)?,
    };
    Ok((instance, Entry::Handle(Box::new(Functions { alloc, handle, hears }))))
}

/// A function that need not be there.
fn exported<W: Send + 'static, P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<Guest<W>>,
    name: &str,
) -> wasmtime::Result<Option<TypedFunc<P, R>>> {
    match instance.get_func(&mut *store, name) {
        Some(function) => function.typed(&*store).map(Some),
        None => Ok(None),
    }
}
