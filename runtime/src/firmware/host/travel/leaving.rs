//! What leaves a host with its guest: whether its memory goes, and that memory in pieces.

use bytes::Bytes;
use odeum_cluster::migration::Cannot;

use super::Departs;
use crate::firmware::{
    heap::{Packed, Packing},
    host::{HostActor, Stands, events::Event},
    travel::Inbox,
};
use crate::package::manifest::Abi;

/// Answers that need not be sent before a guest is frozen. To write and read thousands takes
/// milliseconds.
const ANSWERS: usize = 256;

/// Answers that are sent at once while the guest runs.
const ANSWERS_AT_ONCE: usize = 1_024;

/// What is copied of a guest.
pub(super) struct Leaving {
    /// Of which instance.
    life: u64,
    memory: Packing,
    /// Its answers that were sent, of those that it was ever given.
    answers: u64,
}

impl HostActor {
    pub(super) fn departs(&mut self) -> Result<Departs, Cannot> {
        self.travel.leaving = None;
        let behind = |reason: &str| Departs { stays_behind: Some(reason.into()), small: true };
        match &mut self.stands {
            Stands::Ready(running) => {
                let folders = self.module.as_ref().filter(|it| it.abi() == Abi::WasiReactor);
                let folders = folders.map(|it| &it.manifest().capabilities.folders);
                if let Some(folder) = folders.and_then(|folders| folders.first()) {
                    let reason = format!("it may have files of {} open", folder.guest);
                    return Ok(Departs { stays_behind: Some(reason.into()), small: true });
                }
                let Some(instance) = running.instance() else {
                    return Ok(behind("it runs in a process of its own"));
                };
                let Some(packing) = instance.packing() else {
                    return Ok(behind(
                        "it is a component, of which only core modules can move yet",
                    ));
                };
                let small = instance.is_small(&packing) && self.recent.len() <= ANSWERS;
                let life = self.outstanding.life();
                self.travel.leaving = Some(Leaving { life, memory: packing, answers: 0 });
                Ok(Departs { stays_behind: None, small })
            }
            Stands::Asleep(_) => Ok(behind("it is idle")),
            Stands::Http(_) => Ok(behind("it keeps nothing from one request to the next")),
            Stands::Away => Err(Cannot::because("it is starting")),
            Stands::Job => Err(Cannot::because("it is a job")),
            Stands::Failed => Err(Cannot::because("it failed")),
        }
    }

    pub(super) fn pack(&mut self) -> Result<Packed, Cannot> {
        let anew = || Cannot::because("it was started anew meanwhile");
        let life = self.outstanding.life();
        let leaving = self.travel.leaving.as_mut().filter(|it| it.life == life).ok_or_else(anew)?;
        let Stands::Ready(running) = &mut self.stands else { return Err(anew()) };
        let packed = match self.recent.given() - leaving.answers > ANSWERS as u64 {
            true => Packed::Piece(Bytes::new()),
            false => running.instance().ok_or_else(anew)?.pack(&mut leaving.memory),
        };
        match packed {
            Packed::Piece(piece) => {
                let answers = self.recent.to_wire(&mut leaving.answers, ANSWERS_AT_ONCE);
                let piece = Inbox::default().with_answers(answers).behind(piece);
                Ok(Packed::Piece(piece.map_err(Cannot::because)?))
            }
            round @ Packed::Round { .. } => Ok(round),
        }
    }

    pub(super) async fn pack_rest(&mut self, with_memory: bool) -> Result<Vec<Bytes>, Cannot> {
        let anew = || Cannot::because("it was started anew meanwhile");
        let life = self.outstanding.life();
        self.travel.with_memory = with_memory;
        self.parts.sent.set(true);
        let asleep = matches!(self.stands, Stands::Asleep(_));
        let frozen = self.travel.frozen.as_ref().ok_or_else(anew)?;
        // What belongs to the instance alone ends with it, or goes with its memory.
        let published = frozen.events.iter().filter_map(|(_, event)| match event {
            Event::Published(publication) => Some(publication.clone()),
            Event::Started | Event::TimedOut(_) | Event::Answered { .. } => None,
        });
        let saved_at = self.parts.ledger.known(&self.parts.entity);
        let inbox = Inbox::new(asleep, published, saved_at);
        if !with_memory {
            return Ok(vec![inbox.behind(Bytes::new()).map_err(Cannot::because)?]);
        }
        let leaving = self.travel.leaving.as_mut().filter(|it| it.life == life).ok_or_else(anew)?;
        let Stands::Ready(running) = &mut self.stands else { return Err(anew()) };
        let instance = running.instance().ok_or_else(anew)?;
        let of_it = frozen.events.iter().filter(|(of, _)| *of == life).map(|(_, event)| event);
        // What is late came before.
        let carried = self.outstanding.carried(self.outstanding.late().chain(of_it));
        let pieces = instance.pack_rest(&mut leaving.memory, carried).await;
        let mut pieces = pieces.map_err(Cannot::because)?;
        let last = pieces.pop().unwrap_or_default();
        let answers = self.recent.to_wire(&mut leaving.answers, usize::MAX);
        let before = pieces.into_iter().map(|piece| Inbox::default().behind(piece));
        let last = inbox.with_answers(answers).behind(last);
        before.chain([last]).collect::<Result<_, _>>().map_err(Cannot::because)
    }
}
