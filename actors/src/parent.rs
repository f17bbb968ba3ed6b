//! Whom an actor tells that it is ready or has ended: its supervisor, or the holder of a
//! root.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::dead_letter::DeadLetters;
use crate::event::LifecycleEvent;
use crate::mailbox::Mailbox;
use crate::policy::exit::Exit;
use crate::registry::{Groups, Registry};
use crate::supervisor::SupervisorMessage;
use crate::supervisor::core::ChildId;

/// What a tree's members share.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) events: broadcast::Sender<LifecycleEvent>,
    pub(crate) registry: Registry,
    pub(crate) groups: Groups,
    pub(crate) dead_letters: DeadLetters,
}

impl Scope {
    /// Events kept for a slow observer before it is told that it lags.
    const EVENTS: usize = 1024;

    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            events: broadcast::Sender::new(Self::EVENTS),
            registry: Registry::default(),
            groups: Groups::default(),
            dead_letters: DeadLetters::default(),
        })
    }
}

/// What is told to the parent.
#[derive(Debug)]
pub(crate) enum Note {
    Ready,
    Exited(Exit),
}

/// The parent of one incarnation of an actor.
#[derive(Clone)]
pub(crate) enum Parent {
    Supervisor { mailbox: Arc<Mailbox<SupervisorMessage>>, child: ChildId },
    Root(watch::Sender<RootState>),
}

/// The life of a root, as its holder sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RootState {
    Starting,
    Running,
    Ended(Exit),
}

impl Parent {
    pub(crate) fn notify(&self, run: u64, note: Note) {
        match self {
            Self::Supervisor { mailbox, child } => {
                mailbox.push_note(SupervisorMessage::Noted { child: *child, run, note });
            }
            Self::Root(state) => {
                state.send_modify(|state| match note {
                    Note::Ready => *state = RootState::Running,
                    Note::Exited(exit) => *state = RootState::Ended(exit),
                });
            }
        }
    }
}
