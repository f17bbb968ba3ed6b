//! Names and groups of one tree's actors. Each tree has its own; nothing is process-wide.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use thiserror::Error;

use crate::error::TellError;
use crate::handle::{Handle, WeakHandle};

/// A `Named<M>` for some `M`.
type Untyped = Box<dyn Any + Send + Sync>;

/// Finds the actors of a tree by name. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    names: Arc<DashMap<Arc<str>, Name>>,
}

/// Who has a name.
struct Name {
    named: Untyped,
    is_running: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Why a name was not given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the name {name} is taken by a living actor")]
pub struct NameTaken {
    /// The name.
    pub name: Arc<str>,
}

impl Registry {
    /// Gives an actor a name. It keeps it over restarts; while it is down, whoever asks next
    /// may take it.
    ///
    /// # Errors
    /// If another actor that runs has that name.
    pub fn register<M: Send + 'static>(
        &self,
        name: impl Into<Arc<str>>,
        handle: &Handle<M>,
    ) -> Result<(), NameTaken> {
        let name = name.into();
        let weak = handle.downgrade();
        let new = Name {
            named: Box::new(Named::new(handle)),
            is_running: Box::new(move || weak.upgrade().is_some_and(|handle| handle.is_running())),
        };
        match self.names.entry(Arc::clone(&name)) {
            Entry::Vacant(entry) => {
                entry.insert(new);
            }
            Entry::Occupied(mut entry) => {
                let holder = entry.get();
                let same = holder
                    .named
                    .downcast_ref::<Named<M>>()
                    .and_then(|named| named.handle.upgrade())
                    .is_some_and(|other| other.is_same(handle));
                if !same && (holder.is_running)() {
                    return Err(NameTaken { name });
                }
                entry.insert(new);
            }
        }
        Ok(())
    }

    /// The running actor of that name. Never one that is down: then this is `None` until it
    /// has restarted.
    #[must_use]
    pub fn find<M: Send + 'static>(&self, name: &str) -> Option<Handle<M>> {
        let name = self.names.get(name)?;
        let handle = name.named.downcast_ref::<Named<M>>()?.handle.upgrade()?;
        handle.is_running().then_some(handle)
    }

    /// Frees a name.
    pub fn unregister(&self, name: &str) {
        self.names.remove(name);
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("names", &self.names.len()).finish_non_exhaustive()
    }
}

struct Named<M> {
    handle: WeakHandle<M>,
}

impl<M: Send + 'static> Named<M> {
    fn new(handle: &Handle<M>) -> Self {
        Self { handle: handle.downgrade() }
    }
}

/// Groups of a tree's actors, for publishing one message to many. Cheap to clone.
#[derive(Clone, Default)]
pub struct Groups {
    groups: Arc<DashMap<Arc<str>, Vec<Untyped>>>,
}

/// How many members got a published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// It is in their mailbox.
    pub delivered: usize,
    /// Their mailbox was full, or they were down.
    pub missed: usize,
}

impl Groups {
    /// Makes an actor a member, once; it stays one over restarts until it leaves or is gone.
    pub fn join<M: Send + 'static>(&self, group: impl Into<Arc<str>>, handle: &Handle<M>) {
        let mut members = self.groups.entry(group.into()).or_default();
        members.retain(|member| !is_gone_or::<M>(&**member, handle));
        members.push(Box::new(Named::new(handle)));
    }

    /// Ends a membership.
    pub fn leave<M: Send + 'static>(&self, group: &str, handle: &Handle<M>) {
        if let Some(mut members) = self.groups.get_mut(group) {
            members.retain(|member| !is_gone_or::<M>(&**member, handle));
        }
        self.groups.remove_if(group, |_, members| members.is_empty());
    }

    /// The members that run and take messages of this type.
    #[must_use]
    pub fn members<M: Send + 'static>(&self, group: &str) -> Vec<Handle<M>> {
        let mut handles = self.all::<M>(group);
        handles.retain(Handle::is_running);
        handles
    }

    /// Sends a message to every member that takes its type, without waiting for any.
    pub fn publish<M: Clone + Send + 'static>(&self, group: &str, message: &M) -> Published {
        let mut published = Published::default();
        for handle in self.all::<M>(group) {
            match handle.try_tell(message.clone()) {
                Ok(()) => published.delivered += 1,
                Err(TellError::Full(_) | TellError::Down(_)) => published.missed += 1,
            }
        }
        published
    }

    fn all<M: Send + 'static>(&self, group: &str) -> Vec<Handle<M>> {
        let Some(members) = self.groups.get(group) else { return Vec::new() };
        members
            .iter()
            .filter_map(|member| member.downcast_ref::<Named<M>>()?.handle.upgrade())
            .collect()
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

fn is_gone_or<M: Send + 'static>(member: &(dyn Any + Send + Sync), handle: &Handle<M>) -> bool {
    member
        .downcast_ref::<Named<M>>()
        .is_some_and(|named| named.handle.upgrade().is_none_or(|other| other.is_same(handle)))
}
