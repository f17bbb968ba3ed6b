//! What an instance has in memory leaves it, and another one is made of that.

use bytes::Bytes;
use odeum_proto::codec;

use super::{Inner, Instance};
use crate::firmware::{
    abi::{
        core::{CoreInstance, Guest},
        firmlet::FirmletInstance,
        wasi_p1,
    },
    bridge::Publisher,
    error::GuestFailure,
    heap::{HeapError, Packed, Packing, Unpacking},
    module::{Linked, Module},
    setting::Setting,
    travel::Carried,
};

/// `$body` with the instance and its store, whatever its ABI; `$other` where there is no such thing.
macro_rules! inside {
    ($inner:expr, |$instance:ident, $store:ident| $body:expr, $other:expr) => {
        match $inner {
            Inner::Core(it) => {
                let ($instance, $store) = it.inside();
                $body
            }
            Inner::Reactor(it) => {
                let ($instance, $store) = it.inside();
                $body
            }
            Inner::Firmlet(it) => {
                let ($instance, $store) = it.inside();
                $body
            }
            Inner::Actor(_) => $other,
        }
    };
}

impl Instance {
    /// An instance of which nothing has run: it is to become what another one was.
    ///
    /// # Errors
    /// [`GuestFailure`] when it needs more than it is given, or has another kind of ABI.
    pub(in crate::firmware) async fn blank(
        module: &Module,
        setting: &Setting,
    ) -> Result<Self, GuestFailure> {
        let (manifest, time) = (module.manifest(), setting.limits.message_time);
        let inner = match module.linked() {
            Linked::Core(pre) => {
                let guest = Guest::new(setting.meter(manifest), manifest, ());
                Inner::Core(Box::new(CoreInstance::blank(pre, guest, time).await?))
            }
            Linked::Reactor(pre) => {
                let guest = wasi_p1::guest(manifest, setting).await?;
                Inner::Reactor(Box::new(CoreInstance::blank(pre, guest, time).await?))
            }
            Linked::Firmlet(pre) => {
                let meter = setting.meter(manifest);
                let blank = FirmletInstance::blank(pre, meter, manifest, time).await?;
                Inner::Firmlet(Box::new(blank))
            }
            Linked::Actor(_) | Linked::Command(_) | Linked::Cli(_) | Linked::Http(_) => {
                return Err(GuestFailure::OtherKind { kind: module.kind() });
            }
        };
        Ok(Self { inner, engine: module.engine().clone() })
    }

    /// What is copied of it; `None` when its ABI has no one module whose memory is all there is.
    pub(in crate::firmware) fn packing(&mut self) -> Option<Packing> {
        inside!(&mut self.inner, |instance, store| Some(Packing::new(instance, store)), None)
    }

    /// Whether there is so little to copy that it need not be done before it is frozen.
    pub(in crate::firmware) fn is_small(&mut self, packing: &Packing) -> bool {
        inside!(&mut self.inner, |_instance, store| packing.is_small(store), true)
    }

    /// The next piece of what has changed, while it runs.
    pub(in crate::firmware) fn pack(&mut self, packing: &mut Packing) -> Packed {
        let none = Packed::Round { small: true };
        inside!(&mut self.inner, |_instance, store| packing.next(store), none)
    }

    /// What is left of it, now that it does not run any more, and `carried` with it.
    pub(in crate::firmware) async fn pack_rest(
        &mut self,
        packing: &mut Packing,
        carried: Carried,
    ) -> Result<Vec<Bytes>, HeapError> {
        // Only a sequence of unknown length cannot be encoded.
        let encoded = |carried: Carried| codec::encode(&carried).unwrap_or_default();
        let beside = match &self.inner {
            Inner::Firmlet(it) => it.beside(),
            Inner::Core(it) => encoded(it.carried(carried)),
            Inner::Reactor(it) => encoded(it.carried(carried)),
            Inner::Actor(_) => Vec::new(),
        };
        let none = Err(HeapError::misfit("a component"));
        inside!(&mut self.inner, |_instance, store| packing.rest(store, beside).await, none)
    }

    /// Where what was packed is written into it.
    pub(in crate::firmware) fn unpacking(&mut self) -> Option<Unpacking> {
        inside!(&mut self.inner, |instance, store| Some(Unpacking::new(instance, store)), None)
    }

    /// Writes a piece into it.
    pub(in crate::firmware) fn unpack(
        &mut self,
        unpacking: &mut Unpacking,
        piece: Bytes,
    ) -> Result<(), HeapError> {
        let none = Err(HeapError::misfit("a component"));
        inside!(&mut self.inner, |_instance, store| unpacking.take(store, piece), none)
    }

    /// It has become what the other one was, and waits for what that waited for.
    pub(in crate::firmware) async fn unpacked(
        &mut self,
        unpacking: &mut Unpacking,
    ) -> Result<Carried, HeapError> {
        let none = Err(HeapError::misfit("a component"));
        let finished =
            inside!(&mut self.inner, |_instance, store| unpacking.finish(store).await, none);
        let beside = finished?;
        let mut carried = Carried::default();
        if let Inner::Firmlet(it) = &mut self.inner {
            it.put_beside(&beside)?;
        } else if !beside.is_empty() {
            // Nodes that knew of nothing to carry sent nothing.
            carried = codec::decode(&beside)?;
        }
        match &mut self.inner {
            Inner::Core(it) => it.take_up(&carried),
            Inner::Reactor(it) => it.take_up(&carried),
            Inner::Firmlet(_) | Inner::Actor(_) => {}
        }
        Ok(carried)
    }

    /// Where it publishes from now on.
    pub(in crate::firmware) fn publish_to(&mut self, publisher: Publisher) {
        if let Inner::Firmlet(it) = &mut self.inner {
            it.publish_to(publisher);
        }
    }
}
