//! What is asked, as one generator has it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use odeum_proto::Name;
use rand::rngs::StdRng;

use super::{Ended, Request, Work};
use crate::check::counts::Counter;
use crate::guests;
use crate::scenario::choice::{KeyLots, Sizes};
use crate::scenario::spec::{
    Call, Consistency, Deployed, Entities, Method, State, Target, Variables,
};

/// Firmware of the harness, and what its counts were.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) name: Name,
    counter: Mutex<Counter>,
}

impl Guest {
    pub(crate) fn counter(&self) -> MutexGuard<'_, Counter> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done with a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Read(Consistency),
    Write,
    CompareAndSet,
    Watch,
}

/// A target.
#[derive(Debug)]
pub(crate) enum Asked {
    Call {
        guests: Vec<Guest>,
        lots: KeyLots,
        sizes: Sizes,
    },
    Firmware(Deployed),
    Http {
        firmware: String,
        path: String,
        method: Method,
        is_echo: bool,
        sizes: Sizes,
    },
    Variable {
        doing: Doing,
        lots: KeyLots,
        sizes: Sizes,
    },
    Entity {
        tell: bool,
        lots: KeyLots,
        sizes: Sizes,
    },
    /// The place of the target whose firmware moves.
    Move {
        of: usize,
        lots: KeyLots,
    },
}

/// Before the names of the firmware of a target.
pub(crate) fn guest_prefix(run: &str, place: usize) -> String {
    format!("load-{run}-t{place}")
}

/// The name of the harness's server of HTTP.
pub(crate) fn server_name(run: &str) -> String {
    format!("load-{run}-http")
}

impl Asked {
    /// A target, for generator `index` of `of`, in a run that may cost firmware what it has in memory or
    /// not.
    pub(super) fn new(
        target: &Target,
        (place, places): (usize, &BTreeMap<&str, usize>),
        (index, of): (usize, usize),
        run: &str,
        forgets: bool,
    ) -> anyhow::Result<Self> {
        let variable = |doing, it: &Variables| {
            let (lots, sizes) =
                (KeyLots::new(it.keys, it.sessions), Sizes::new(it.payload, it.payload_to));
            Self::Variable { doing, lots, sizes }
        };
        let entity = |tell, it: &Entities| {
            // Each generator has its own.
            let (lots, sizes) =
                (KeyLots::new(it.keys, it.entities / of), Sizes::new(it.payload, it.payload_to));
            Self::Entity { tell, lots, sizes }
        };
        Ok(match target {
            Target::Call(it) => Self::call(it, &guest_prefix(run, place), (index, of), forgets)?,
            Target::Firmware(it) => Self::Firmware(it.clone()),
            Target::Http(it) => Self::Http {
                firmware: it.firmware.clone().unwrap_or_else(|| server_name(run)),
                path: it.path.clone(),
                method: it.method,
                is_echo: it.firmware.is_none() && it.path == "/echo" && it.method == Method::Post,
                sizes: Sizes::new(it.payload, it.payload_to),
            },
            Target::Read(it) => variable(Doing::Read(it.consistency), it),
            Target::Write(it) => variable(Doing::Write, it),
            Target::CompareAndSet(it) => variable(Doing::CompareAndSet, it),
            Target::Watch(it) => variable(Doing::Watch, it),
            Target::Ask(it) => entity(false, it),
            Target::Tell(it) => entity(true, it),
            Target::Move(it) => {
                let of = places.get(it.of.value.as_str()).copied().unwrap_or_default();
                // Which one, of as many as the other target turns out to have.
                Self::Move { of, lots: KeyLots::Uniform { of: usize::MAX } }
            }
        })
    }

    fn call(
        it: &Call,
        prefix: &str,
        (index, of): (usize, usize),
        forgets: bool,
    ) -> anyhow::Result<Self> {
        let own = guests::names(prefix, it.guests)?.into_iter().skip(index).step_by(of);
        let counter = || Counter::new(forgets && it.state == State::Memory);
        let guests: Vec<Guest> =
            own.map(|name| Guest { name, counter: Mutex::new(counter()) }).collect();
        let lots = KeyLots::new(it.keys, guests.len());
        Ok(Self::Call { guests, lots, sizes: Sizes::new(it.payload, it.payload_to) })
    }

    /// A key and a size, by lot.
    pub(super) fn draw(&self, random: &mut StdRng) -> (usize, usize) {
        match self {
            Self::Call { lots, sizes, .. }
            | Self::Variable { lots, sizes, .. }
            | Self::Entity { lots, sizes, .. } => (lots.draw(random), sizes.draw(random)),
            Self::Http { sizes, .. } => (0, sizes.draw(random)),
            Self::Firmware(it) => (0, it.body.len()),
            Self::Move { lots, .. } => (lots.draw(random), 0),
        }
    }
}

impl Work {
    /// Sends a request; what came of it.
    pub(super) async fn ask(&self, request: Request) -> Ended {
        let Request { target, key, size, .. } = request;
        let Some(asked) = self.targets.get(target) else { return Ended::default() };
        match asked {
            Asked::Call { guests, .. } => match guests.get(key) {
                Some(guest) => self.call(guest, size).await,
                None => Ended::default(),
            },
            Asked::Firmware(it) => self.call_deployed(it).await,
            Asked::Http { firmware, path, method, is_echo, .. } => {
                self.request(&format!("/f/{firmware}{path}"), *method, size, *is_echo).await
            }
            Asked::Variable { doing, .. } => match &self.variables {
                Some(variables) => self.operate(variables, *doing, key, size).await,
                None => Ended::default(),
            },
            Asked::Entity { tell, .. } => match &self.entities {
                Some(entities) if *tell => self.tell_entity(entities, key, size).await,
                Some(entities) => self.ask_entity(entities, key, size).await,
                None => Ended::default(),
            },
            Asked::Move { of, .. } => match self.targets.get(*of) {
                Some(Asked::Call { guests, .. }) if !guests.is_empty() => {
                    match guests.get(key % guests.len()) {
                        Some(guest) => self.move_guest(guest).await,
                        None => Ended::default(),
                    }
                }
                _ => Ended::default(),
            },
        }
    }
}
