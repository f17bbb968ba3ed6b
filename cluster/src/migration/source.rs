//! Gives one entity away: does what the machine says, and tells it what came of that.

use std::time::{Duration, Instant};

use bytes::Bytes;
use odeum_proto::moves::{Answer, MovePhase, MoveReport, Question};
use odeum_proto::store::{Command, Move, Outcome, Refusal};
use odeum_proto::{Digest, EntityId, Epoch, codec};
use tokio::time::{sleep, timeout};

use super::Parts;
use super::carrier::{Cannot, Carrier, Copied, Departing};
use super::journal::Entry;
use super::steps::{Act, End, Event, Machine, Phase};
use super::wire;
use crate::store::StoreError;
use crate::transport::{Class, Request, Service};

/// How long the other node may take to make room: it may have to fetch a package and compile it.
const PREPARE: Duration = Duration::from_secs(60);

/// How long a piece of state may take to be there.
const PIECE: Duration = Duration::from_secs(10);

/// Pause behind some pieces that are sent while the entity runs, in which those who call it meanwhile get
/// what the copy would use up.
const BREATH: Duration = Duration::from_millis(1);

/// Bytes behind which such a pause is made: what some milliseconds of copying are.
const STRETCH: usize = 4 << 20;

/// How long the entity may take for the message at hand. Others wait meanwhile.
const FREEZE: Duration = Duration::from_secs(10);

/// How long the log may take for one try, and the pause before the next.
const COMMIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(50));

/// How long the other node may take to hear that it may begin. It sees it in the log as well.
const BEGIN: Duration = Duration::from_secs(5);

/// A move from this node.
pub(super) struct Giving<'a> {
    pub(super) parts: &'a Parts,
    pub(super) carrier: &'a dyn Carrier,
    pub(super) entity: EntityId,
    pub(super) made: Move,
    pub(super) entry: Entry,
}

/// What is known in the course of one.
#[derive(Default)]
struct Course {
    departing: Option<Box<dyn Departing>>,
    /// Of the pieces that were sent.
    digest: blake3::Hasher,
    /// How many they are.
    pieces: u32,
    frozen: Option<Instant>,
    next: Option<Epoch>,
    /// Why it does not move.
    reason: Option<Box<str>>,
}

impl Giving<'_> {
    /// Moves it, or lets it stay.
    pub(super) async fn carry(self) -> End {
        let mut course = Course::default();
        let (mut machine, mut act) = Machine::begin();
        loop {
            if let Some(phase) = told(machine.phase()) {
                self.entry.is_in(phase);
            }
            #[cfg(feature = "testing")]
            super::halt::before_act(act).await;
            let event = match act {
                Act::Prepare => self.prepare(&mut course).await,
                Act::Copy => self.copy(&mut course).await,
                Act::Freeze => self.freeze(&mut course).await,
                Act::Send => self.send_rest(&mut course).await,
                Act::Switch => Ok(self.switch(&mut course).await),
                Act::CallOff => Ok(self.call_off(&mut course).await),
                Act::Retract => Ok(self.retract().await),
                Act::Finish(end) => {
                    self.finish(end, course).await;
                    return end;
                }
            };
            act = machine.on(event.unwrap_or_else(|cannot| {
                course.reason.get_or_insert(cannot.0);
                Event::Failed
            }));
        }
    }

    async fn prepare(&self, course: &mut Course) -> Result<Event, Cannot> {
        let departing = self.carrier.depart(&self.entity, self.made.epoch).await?;
        self.entry.goes(departing.how());
        let offer = departing.offer();
        let small = departing.is_small();
        course.departing = Some(departing);
        let (entity, epoch) = (self.entity.clone(), self.made.epoch);
        let question = Question::Prepare { entity, epoch, began: self.made.began };
        self.ask(&question, &offer, PREPARE).await?;
        Ok(Event::Prepared { small })
    }

    /// One round: the next piece is made while the last one travels.
    async fn copy(&self, course: &mut Course) -> Result<Event, Cannot> {
        self.entry.copied();
        let mut departing = course.departing.take().ok_or_else(|| Cannot::because("it is gone"))?;
        let mut copied = departing.copy().await;
        let mut stretch = 0;
        let small = loop {
            match copied {
                Ok(Copied::Round { small }) => break Ok(small),
                Ok(Copied::Piece(piece)) => {
                    stretch += piece.len();
                    let sent = self.send(course, piece);
                    let (sent, next) = tokio::join!(sent, departing.copy());
                    if let Err(cannot) = sent {
                        break Err(cannot);
                    }
                    copied = next;
                    if stretch >= STRETCH {
                        stretch = 0;
                        sleep(BREATH).await;
                    }
                }
                Err(cannot) => break Err(cannot),
            }
        };
        course.departing = Some(departing);
        Ok(Event::Copied { small: small? })
    }

    async fn freeze(&self, course: &mut Course) -> Result<Event, Cannot> {
        course.frozen = Some(Instant::now());
        let departing = course.departing.as_mut().ok_or_else(|| Cannot::because("it is gone"))?;
        match timeout(FREEZE, departing.freeze()).await {
            Ok(frozen) => frozen.map(|()| Event::Frozen),
            Err(_) => Err(Cannot::because(format_args!(
                "it has been at work on one message for {FREEZE:?}"
            ))),
        }
    }

    async fn send_rest(&self, course: &mut Course) -> Result<Event, Cannot> {
        let departing = course.departing.as_mut().ok_or_else(|| Cannot::because("it is gone"))?;
        let mut pieces = departing.rest().await?;
        let last = pieces.pop().unwrap_or_default();
        for piece in pieces {
            self.send(course, piece).await?;
        }
        course.digest.update(&last);
        let digest = Digest::of_hasher(&course.digest);
        let (entity, epoch, number) = (self.entity.clone(), self.made.epoch, course.pieces);
        let thaw = Question::Thaw { entity, epoch, number, digest };
        self.entry.sent(last.len());
        self.ask(&thaw, &last, PIECE).await?;
        Ok(Event::Thawed)
    }

    async fn send(&self, course: &mut Course, piece: Bytes) -> Result<(), Cannot> {
        course.digest.update(&piece);
        let (entity, epoch, number) = (self.entity.clone(), self.made.epoch, course.pieces);
        course.pieces += 1;
        self.entry.sent(piece.len());
        self.ask(&Question::Piece { entity, epoch, number }, &piece, PIECE).await
    }

    async fn ask(&self, question: &Question, state: &[u8], by: Duration) -> Result<(), Cannot> {
        let body = wire::join(question, state).map_err(Cannot::because)?;
        let to = &self.made.to;
        let request =
            Request { service: Service::Move, class: Class::Bulk, key: 0, body, deadline: by };
        let answer = self.parts.transport.send(to, request).await;
        let answer = answer.map_err(Cannot::because)?;
        match codec::decode(&answer).map_err(Cannot::because)? {
            Answer::Done => Ok(()),
            Answer::Refused { reason } => Err(Cannot::because(format_args!("{to}: {reason}"))),
            Answer::Moves(_) => Err(Cannot::because(format_args!("{to} gave another answer"))),
        }
    }

    async fn switch(&self, course: &mut Course) -> Event {
        let (entity, expected) = (self.entity.clone(), self.made.epoch);
        let command = Command::Switch { entity, to: self.made.to.clone(), expected };
        match self.parts.store.write(command, COMMIT.0).await {
            Ok(Outcome::Placed { epoch, .. }) => {
                course.next = Some(epoch);
                Event::Switched
            }
            Ok(Outcome::Refused(Refusal::StaleEpoch { .. })) => Event::Stale,
            Ok(Outcome::Refused(refusal)) => {
                course.reason.get_or_insert(refusal.to_string().into());
                Event::Refused
            }
            Ok(_) => Event::Unknown,
            Err(error) => self.unknown(&error).await,
        }
    }

    async fn call_off(&self, course: &mut Course) -> Event {
        self.stay(course);
        self.retract().await
    }

    fn stay(&self, course: &mut Course) {
        if let Some(departing) = course.departing.take() {
            departing.stay();
            if let Some(frozen) = course.frozen {
                self.entry.paused(frozen);
            }
        }
    }

    async fn retract(&self) -> Event {
        let (entity, expected) = (self.entity.clone(), self.made.epoch);
        let command = Command::CallOff { entity, expected };
        match self.parts.store.write(command, COMMIT.0).await {
            Ok(Outcome::Refused(Refusal::StaleEpoch { .. })) => Event::Stale,
            Ok(_) => Event::CalledOff,
            Err(error) => self.unknown(&error).await,
        }
    }

    async fn unknown(&self, error: &StoreError) -> Event {
        tracing::debug!(entity = %self.entity, %error, "move waits for the store");
        sleep(COMMIT.1).await;
        Event::Unknown
    }

    async fn finish(self, end: End, mut course: Course) {
        let (entity, epoch, to) = (self.entity.clone(), self.made.epoch, self.made.to.clone());
        match (end, course.next) {
            (End::Moved, Some(next)) => {
                if let Some(frozen) = course.frozen {
                    self.entry.paused(frozen);
                }
                let begin = Question::Begin { entity: entity.clone(), epoch, next };
                if let Some(departing) = course.departing {
                    departing.gone(&to, next);
                }
                self.entry.is_in(MovePhase::Moved { epoch: next });
                tracing::info!(report = %told_in_words(&self.entry.report()), "entity moved");
                if let Err(error) = self.ask(&begin, &[], BEGIN).await {
                    tracing::debug!(%entity, %to, %error, "it finds out by itself that it has moved");
                }
            }
            (End::Moved | End::Overtaken, _) => {
                tracing::info!(%entity, %to, "entity not moved: it was placed anew");
                self.entry.is_in(MovePhase::Overtaken);
            }
            (End::Stayed, _) => {
                self.stay(&mut course);
                let reason = course.reason.unwrap_or_else(|| "it was called off".into());
                tracing::warn!(%entity, %to, reason, "entity not moved");
                self.entry.is_in(MovePhase::Stayed { reason: reason.into() });
                let discard = Question::Discard { entity, epoch };
                // Who cannot be reached finds out from the log.
                let _ = self.ask(&discard, &[], BEGIN).await;
            }
        }
    }
}

fn told(phase: Phase) -> Option<MovePhase> {
    match phase {
        Phase::Preparing => Some(MovePhase::Preparing),
        Phase::Copying { .. } => Some(MovePhase::Copying),
        Phase::Freezing => Some(MovePhase::Freezing),
        Phase::Sending => Some(MovePhase::Sending),
        Phase::Switching => Some(MovePhase::Switching),
        Phase::CallingOff | Phase::Retracting => Some(MovePhase::CallingOff),
        // Told when it is finished, with how it went.
        Phase::Over(_) => None,
    }
}

fn told_in_words(report: &MoveReport) -> String {
    let paused = Duration::from_micros(report.paused_us.unwrap_or_default());
    let took = Duration::from_micros(report.took_us);
    let MoveReport { entity, from, to, bytes, .. } = report;
    format!("{entity} from {from} to {to}: {bytes} bytes in {took:.1?}, paused for {paused:.1?}")
}
