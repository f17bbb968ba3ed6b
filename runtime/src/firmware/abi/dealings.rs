//! What a guest has to do with others and with its node, whatever the form of its ABI: what its
//! manifest grants, what the message at hand does, and what of the instance is outstanding.
//!
//! What is done to others is kept aside with what the message writes, and done by the host when that
//! is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use odeum_proto::{Recipient, TopicName, limits};
use rand::TryRng as _;

use crate::{
    firmware::{
        deeds::{Deed, GUEST_TOPICS, LONGEST_ASK},
        denied::Denials,
        instance::Arrival,
        travel::Carried,
    },
    package::manifest::{Capabilities, Manifest},
};

/// Most timers of one instance that are set. More are a schedule, which belongs into variables.
pub(in crate::firmware) const TIMERS: usize = 1_024;

/// Most asks of one instance that wait for their outcome.
pub(in crate::firmware) const ASKS: usize = 256;

/// Most topics that one instance is subscribed to.
pub(in crate::firmware) const TOPICS: usize = 64;

/// Most things that one message does to others.
pub(in crate::firmware) const DEEDS: usize = limits::WRITES_PER_MESSAGE;

/// Most random bytes at once.
const RANDOM_BYTES: u32 = 64 << 10;

/// Why something was not done. The guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// A name is empty, too long or has characters that it cannot have.
    NotAName,
    /// There is more of it than there may be.
    TooMuch,
    /// The manifest does not grant it. The log has the line that would.
    Denied,
}

/// What one instance has to do with others.
pub(in crate::firmware) struct Dealings {
    config: BTreeMap<String, String>,
    granted: Capabilities,
    denials: Arc<Denials>,
    /// Bytes that one message may send.
    output: u64,
    /// What the message at hand does to others, and the bytes of that.
    deeds: Vec<Deed>,
    sent: u64,
    /// What is set, as of the last message and by the one at hand.
    standing: Standing,
    before: Standing,
    /// The last number that was given to a timer or an ask.
    last: u64,
    age: Age,
}

/// What of an instance is outstanding.
#[derive(Debug, Clone, Default)]
struct Standing {
    timers: BTreeSet<u64>,
    asks: BTreeSet<u64>,
    topics: BTreeSet<String>,
}

/// How long an instance has lived, wherever that was.
#[derive(Debug, Clone, Copy)]
struct Age {
    /// What it had lived when it began here.
    before: Duration,
    since: Instant,
}

impl Age {
    fn of(before: Duration) -> Self {
        Self { before, since: Instant::now() }
    }

    fn elapsed(self) -> Duration {
        self.before.saturating_add(self.since.elapsed())
    }
}

impl Dealings {
    /// Those of a new instance.
    pub(super) fn new(manifest: &Manifest, denials: Arc<Denials>) -> Self {
        let text = |it: &dyn std::fmt::Display| it.to_string();
        let config = manifest.environment.iter().map(|(key, value)| (text(key), text(value)));
        Self {
            config: config.collect(),
            granted: manifest.capabilities.clone(),
            denials,
            output: manifest.limits.output.bytes(),
            deeds: Vec::new(),
            sent: 0,
            standing: Standing::default(),
            before: Standing::default(),
            last: 0,
            age: Age::of(Duration::ZERO),
        }
    }

    /// A message begins; what it tells of is no longer outstanding.
    pub(super) fn begin(&mut self, arrival: &Arrival<'_>) {
        self.deeds.clear();
        self.sent = 0;
        match arrival {
            Arrival::TimedOut { number } => drop(self.standing.timers.remove(number)),
            Arrival::Answered { number, .. } => drop(self.standing.asks.remove(number)),
            _ => {}
        }
        self.before = self.standing.clone();
    }

    /// What the message at hand does to others, now that it is over.
    pub(super) fn done(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }

    /// Nothing of the message at hand is done.
    pub(super) fn take_back(&mut self) {
        self.deeds.clear();
        self.standing = self.before.clone();
    }

    /// Adds what only is known here to what goes with an instance that moves.
    pub(super) fn carried(&self, carried: Carried) -> Carried {
        Carried { last: self.last, age: self.age.elapsed(), ..carried }
    }

    /// Goes on as those of an instance that came by a move.
    pub(super) fn take_up(&mut self, carried: &Carried) {
        self.last = carried.last;
        self.age = Age::of(carried.age);
        self.standing = Standing {
            timers: carried.timers.iter().map(|(number, _)| *number).collect(),
            asks: carried.expected().collect(),
            topics: carried.topics.iter().cloned().collect(),
        };
    }

    /// A value of the manifest's `[environment]`.
    pub(super) fn config(&self, key: &str) -> Option<&str> {
        self.config.get(key).map(String::as_str)
    }

    pub(super) fn tell(
        &mut self,
        to: &str,
        body: impl AsRef<[u8]> + Into<Vec<u8>>,
    ) -> Result<(), Refused> {
        let to = self.addressee(to)?;
        self.room_for_message(body.as_ref())?;
        self.deeds.push(Deed::Tell { to, body: body.into() });
        Ok(())
    }

    /// The number that the outcome is told by.
    pub(super) fn ask(
        &mut self,
        to: &str,
        body: impl AsRef<[u8]> + Into<Vec<u8>>,
        deadline_ms: u32,
    ) -> Result<u64, Refused> {
        let to = self.addressee(to)?;
        fits(self.standing.asks.len() < ASKS)?;
        self.room_for_message(body.as_ref())?;
        let (number, body) = (self.number(), body.into());
        let deadline = Duration::from_millis(deadline_ms.into()).min(LONGEST_ASK);
        self.deeds.push(Deed::Ask { number, to, body, deadline });
        self.standing.asks.insert(number);
        Ok(number)
    }

    /// The number that its end is told by.
    pub(super) fn set_timer(&mut self, after_ms: u64) -> Result<u64, Refused> {
        fits(self.standing.timers.len() < TIMERS)?;
        self.room(0)?;
        let (number, after) = (self.number(), Duration::from_millis(after_ms));
        self.deeds.push(Deed::SetTimer { number, after });
        self.standing.timers.insert(number);
        Ok(number)
    }

    /// Whether it was set and had not begun.
    pub(super) fn cancel_timer(&mut self, timer: u64) -> bool {
        let is_set = self.standing.timers.remove(&timer);
        if is_set {
            // One that this message set is not set at all; there is always room for taking back.
            let set =
                |deed: &Deed| matches!(deed, Deed::SetTimer { number, .. } if *number == timer);
            match self.deeds.iter().position(set) {
                Some(at) => drop(self.deeds.remove(at)),
                None => self.deeds.push(Deed::CancelTimer { number: timer }),
            }
        }
        is_set
    }

    /// So many random bytes.
    ///
    /// # Errors
    /// What the system said, which ends the guest.
    pub(super) fn random(&self, len: u32) -> wasmtime::Result<Result<Vec<u8>, Refused>> {
        if !self.granted.random {
            return Ok(Err(self.denied("random-bytes", "random = true")));
        }
        if len > RANDOM_BYTES {
            return Ok(Err(Refused::TooMuch));
        }
        let mut bytes = vec![0; len as usize];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
        Ok(Ok(bytes))
    }

    /// Milliseconds since 1970-01-01.
    pub(super) fn now(&self) -> Result<u64, Refused> {
        self.may_see_time("now")?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds that the instance has lived.
    pub(super) fn monotonic(&self) -> Result<u64, Refused> {
        self.may_see_time("monotonic")?;
        Ok(u64::try_from(self.age.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn publish(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]> + Into<Vec<u8>>,
    ) -> Result<(), Refused> {
        is_topic(topic)?;
        if !self.granted.publish.iter().any(|pattern| pattern.allows(topic)) {
            return Err(self.denied(topic, &format!("publish = [{topic:?}]")));
        }
        self.room(payload.as_ref().len())?;
        self.deeds.push(Deed::Publish { topic: topic.to_owned(), payload: payload.into() });
        Ok(())
    }

    pub(super) fn subscribe(&mut self, topic: &str) -> Result<(), Refused> {
        is_topic(topic)?;
        if !self.granted.subscribe.iter().any(|pattern| pattern.allows(topic)) {
            return Err(self.denied(topic, &format!("subscribe = [{topic:?}]")));
        }
        if self.standing.topics.contains(topic) {
            return Ok(());
        }
        fits(self.standing.topics.len() < TOPICS)?;
        self.room(0)?;
        self.deeds.push(Deed::Subscribe { topic: topic.to_owned() });
        self.standing.topics.insert(topic.to_owned());
        Ok(())
    }

    /// The firmware of that name, or the replica of it, if messages may be sent to it.
    fn addressee(&self, to: &str) -> Result<Recipient, Refused> {
        let to: Recipient = to.parse().map_err(|_| Refused::NotAName)?;
        let name = to.firmware();
        if self.granted.messages.iter().any(|pattern| pattern.allows(name)) {
            return Ok(to);
        }
        Err(self.denied(&format!("a message to {name}"), &format!("messages = [\"{name}\"]")))
    }

    fn may_see_time(&self, what: &str) -> Result<(), Refused> {
        if self.granted.clock { Ok(()) } else { Err(self.denied(what, "clock = true")) }
    }

    fn denied(&self, what: &str, line: &str) -> Refused {
        self.denials.capability(what, line);
        Refused::Denied
    }

    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn room_for_message(&mut self, body: &[u8]) -> Result<(), Refused> {
        fits(body.len() <= limits::MESSAGE_BYTES)?;
        self.room(body.len())
    }

    /// Takes room for one more deed that sends so many bytes, if there is some.
    fn room(&mut self, bytes: usize) -> Result<(), Refused> {
        let sent = self.sent.saturating_add(bytes as u64);
        fits(self.deeds.len() < DEEDS && sent <= self.output)?;
        self.sent = sent;
        Ok(())
    }
}

fn fits(fits: bool) -> Result<(), Refused> {
    if fits { Ok(()) } else { Err(Refused::TooMuch) }
}

fn is_topic(topic: &str) -> Result<(), Refused> {
    let is_one = !topic.is_empty() && format!("{GUEST_TOPICS}{topic}").parse::<TopicName>().is_ok();
    if is_one { Ok(()) } else { Err(Refused::NotAName) }
}
