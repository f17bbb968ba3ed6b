//! One running guest of a core ABI, at rest between messages.

use std::{fmt, sync::Arc, time::Duration};

use wasmtime::{Instance, InstancePre, Store, TypedFunc};

use super::{ALIVE, ALLOC, Guest, HANDLE, INITIALIZE, Message, START};
use crate::firmware::{
    abi::{call_start, wasi_p1::by_name::ByName},
    effect::{Answer, Variables},
    error::GuestFailure,
    store::{self, Metered},
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
    /// Says whether the guest is well, when it can.
    alive: Option<TypedFunc<(), i32>>,
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

    /// Gives the guest one message.
    pub(in crate::firmware) async fn handle(
        self: Box<Self>,
        message: &[u8],
        variables: Arc<dyn Variables>,
    ) -> Result<(Box<Self>, Answer), GuestFailure> {
        let time = self.time;
        self.answer(Some(message), time, variables).await
    }

    /// Asks the guest whether it is well. One that cannot say so is.
    pub(in crate::firmware) async fn alive(
        self: Box<Self>,
        time: Duration,
        variables: Arc<dyn Variables>,
    ) -> Result<(Box<Self>, Answer), GuestFailure> {
        self.answer(None, time, variables).await
    }

    async fn answer(
        mut self: Box<Self>,
        message: Option<&[u8]>,
        time: Duration,
        variables: Arc<dyn Variables>,
    ) -> Result<(Box<Self>, Answer), GuestFailure> {
        store::wind(&mut self.store, Some(time));
        let guest = self.store.data_mut();
        let buffer = guest.meter.buffer();
        guest.message = Some(Message { variables, buffer });
        let code = match message {
            Some(message) => self.call(message).await,
            None => Box::pin(self.ask()).await,
        };
        let guest = self.store.data_mut();
        let buffer =
            guest.message.take().map_or_else(|| guest.meter.buffer(), |message| message.buffer);
        buffer.finish_log(&guest.meter.log);
        match code {
            Ok(0) => Ok((self, Answer::Done(buffer.effect()?))),
            Ok(code) => Ok((self, buffer.refusal(code))),
            Err(error) => Err(store::failure(&mut self.store, &error)),
        }
    }

    pub(in crate::firmware) fn memory_bytes(&self) -> u64 {
        self.store.data().meter().limiter.memory_bytes()
    }

    /// How long it may compute on one message.
    pub(in crate::firmware) fn time(&self) -> Duration {
        self.time
    }

    async fn ask(&mut self) -> wasmtime::Result<i32> {
        match &self.entry {
            Entry::Handle(functions) => match &functions.alive {
                Some(alive) => alive.call_async(&mut self.store, ()).await,
                None => Ok(0),
            },
            Entry::ByName(_) => Ok(0),
        }
    }

    async fn call(&mut self, message: &[u8]) -> wasmtime::Result<i32> {
        let Functions { alloc, handle, .. } = match &self.entry {
            Entry::Handle(functions) => functions.as_ref(),
            Entry::ByName(by_name) => {
                return Box::pin(by_name.call(&mut self.store, message)).await;
            }
        };
        // The caller bounds a message to `limits::MESSAGE_BYTES`, far from i32's end.
        let len = i32::try_from(message.len())?;
        if len == 0 {
            return handle.call_async(&mut self.store, (0, 0)).await;
        }
        let ptr = alloc.call_async(&mut self.store, len).await?;
        let memory = self.store.data().memory.filter(|_| ptr != 0);
        let into = memory.and_then(|memory| {
            let rest = memory.data_mut(&mut self.store).get_mut(ptr.cast_unsigned() as usize..)?;
            rest.get_mut(..message.len())
        });
        match into {
            Some(into) => into.copy_from_slice(message),
            None => return Err(wasmtime::Error::new(BadAlloc { len, ptr })),
        }
        handle.call_async(&mut self.store, (ptr, len)).await
    }
}

impl<W: Send + 'static> fmt::Debug for CoreInstance<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoreInstance")
            .field("firmware", &self.store.data().meter.firmware)
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`odeum_alloc` was asked for {len} bytes and gave {ptr}, which is not such a place")]
struct BadAlloc {
    len: i32,
    ptr: i32,
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
        return Ok((instance, Entry::ByName(ByName(instance))));
    }
    let alloc = instance.get_typed_func(&mut *store, ALLOC)?;
    let handle = instance.get_typed_func(&mut *store, HANDLE)?;
    let alive = match instance.get_func(&mut *store, ALIVE) {
        Some(alive) => Some(alive.typed::<(), i32>(&*store)?),
        None => None,
    };
    Ok((instance, Entry::Handle(Box::new(Functions { alloc, handle, alive }))))
}
